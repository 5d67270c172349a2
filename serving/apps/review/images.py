"""Pictures in: decoding within limits, upright, as RGB; and what open-nsfw wants of them.

Pillow reads from memory only, one of the formats listed, never more pixels than the limits allow: width and
height are checked before anything is decoded.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from serving.apps.errors import AppError, TooLargeError

Pixels = npt.NDArray[np.uint8]
"""`[height, width, 3]`, RGB."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MAX_BYTES = 20 << 20
"""OpenAI's own limit for a picture."""
MAX_PIXELS = 40_000_000
"""More than a frame of 8K (33 million)."""
LOOKED_AT_PIXELS = 4096 * 2304
"""Pictures are looked at no larger than this: 4K stays as it is, 8K is halved."""
_LONGEST = 32_000
"""OpenCV cannot cut lines out of pictures with a longer side."""
FRAMES = 4
"""Frames of an animation that are looked at: the first, the last and between them evenly spaced, as far as
the two limits below reach, because to see a frame all before it have to be decoded."""
_FRAME_BUDGET = 400_000_000
"""Pixels of all these frames together."""
_MOST_FRAMES = 3000
"""Two minutes at 25 a second; a file of 20 MB can hold a million."""
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, MemoryError)
"""What Pillow's readers raise on files that are broken, or made to break them."""

_NSFW_RESIZED, _NSFW_CROP = 256, 224
_NSFW_MEAN_BGR = np.array([104, 117, 123], np.float32)


@dataclass(frozen=True)
class Frame:
    """One frame, upright (turned as EXIF says)."""

    index: int
    pixels: Pixels
    """At most `LOOKED_AT_PIXELS` of them."""


@dataclass(frozen=True)
class Picture:
    """A decoded picture. `width` and `height` are those of the picture as shown, upright."""

    format: str
    width: int
    height: int
    frames: int
    """Frames of the file; 1 unless it is animated."""
    looked_at: tuple[Frame, ...]


def decode(data: bytes, *, param: str) -> Picture:
    """Decode a picture file.

    Raises `AppError` (400) for what is no picture, broken or of another format, and `TooLargeError` (413)
    beyond the limits; `param` names the picture in them.
    """
    if len(data) > MAX_BYTES:
        raise TooLargeError(
            f"The picture has {len(data):,} bytes; at most {MAX_BYTES:,} are accepted.", param=param
        )
    if not data:
        raise AppError("The picture is empty.", param=param, code="invalid_image")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _decode(image, param)
    except UnidentifiedImageError as error:
        raise AppError(
            f"The data is no picture that can be read; send one of {', '.join(FORMATS)}.",
            param=param,
            code="invalid_image",
        ) from error
    except Image.DecompressionBombError as error:
        raise TooLargeError(
            f"The picture has more than {MAX_PIXELS:,} pixels; send it smaller.", param=param
        ) from error
    except _BROKEN as error:
        raise AppError(
            f"The picture is broken: {error or type(error).__name__}.", param=param, code="invalid_image"
        ) from error


def _decode(image: Image.Image, param: str) -> Picture:
    _check_size(image, param)
    size = image.size
    # A phone's JPEG may carry a depth or gain map as a second frame, which nobody is shown.
    total = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    within = max(1, min(total, _MOST_FRAMES, _FRAME_BUDGET // (image.width * image.height)))
    chosen = sorted({round(i) for i in np.linspace(0, within - 1, FRAMES)})
    if total == 1:
        # Lets the JPEG decoder scale down on the way; other decoders pass over it.
        image.draft("RGB", _looked_at_size(image))
    turned = _orientation(image) >= 5
    frames = tuple(_frames(image, chosen, param))
    return Picture(image.format or "", *(size[::-1] if turned else size), total, frames)


def _check_size(image: Image.Image, param: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise TooLargeError(
            f"The picture has {image.width}x{image.height} pixels; at most {MAX_PIXELS:,} are accepted.",
            param=param,
        )


def _frames(image: Image.Image, chosen: list[int], param: str) -> Iterator[Frame]:
    for index in chosen:
        if index:
            image.seek(index)
            _check_size(image, param)  # the pages of a TIFF have sizes of their own
        upright = ImageOps.exif_transpose(image) if _orientation(image) > 1 else image
        shown = _as_rgb(upright)
        shown.thumbnail(_looked_at_size(shown), Image.Resampling.BILINEAR)
        yield Frame(index, np.asarray(shown))


def _looked_at_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    scale = min(1.0, math.sqrt(LOOKED_AT_PIXELS / (width * height)), _LONGEST / max(width, height))
    return max(1, int(width * scale)), max(1, int(height * scale))


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 (upright) to 8; a picture whose EXIF is broken is shown as it is."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _BROKEN:
        return 1


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 bits or more a channel
        return _stretched(image).convert("RGB")
    if image.has_transparency_data:
        return _on_contrast(image.convert("RGBA"))
    return image.convert("RGB")


def _stretched(image: Image.Image) -> Image.Image:
    """Deep grey levels as 8 bits, from darkest to brightest: `convert` would cut them off at 255."""
    levels = np.nan_to_num(np.asarray(image, np.float32))
    low, high = float(levels.min()), float(levels.max())
    return Image.fromarray(((levels - low) * (255 / max(high - low, 1e-6))).astype(np.uint8))


def _on_contrast(image: Image.Image) -> Image.Image:
    """Transparent pictures on the background, black or white, that shows more of them."""
    alpha = image.getchannel("A")
    light = np.average(np.asarray(image.convert("L")), weights=np.maximum(np.asarray(alpha), 1))
    ground = Image.new("RGB", image.size, "white" if light < 128 else "black")
    ground.paste(image, mask=alpha)
    return ground


def nsfw_input(pixels: Pixels) -> npt.NDArray[np.float32]:
    """What open-nsfw expects of a picture: `[224, 224, 3]`, BGR less the mean of its training data.

    As Yahoo's classify_nsfw.py prepares pictures, which its advice on scores rests on
    (https://github.com/yahoo/open_nsfw/blob/a4e1393/classify_nsfw.py): the whole picture bilinearly to
    256x256 without regard to its proportions, through JPEG, the centre 224x224, RGB to BGR, less the mean.
    """
    image = Image.fromarray(pixels).resize((_NSFW_RESIZED, _NSFW_RESIZED), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG")
    edge = (_NSFW_RESIZED - _NSFW_CROP) // 2
    with Image.open(buffer) as compressed:
        cropped = compressed.crop((edge, edge, edge + _NSFW_CROP, edge + _NSFW_CROP))
    return np.asarray(cropped, np.float32)[:, :, ::-1] - _NSFW_MEAN_BGR
