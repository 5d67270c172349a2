"""Pictures of every kind are decoded upright, within limits; what cannot be is refused with a reason."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from serving.apps.errors import AppError, TooLargeError
from serving.apps.review import images


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def halves(width: int = 80, height: int = 40) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    return image


def decode(data: bytes) -> images.Picture:
    return images.decode(data, param="input.0")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_formats(kind: str) -> None:
    picture = decode(encoded(halves(), kind))
    assert (picture.format, picture.width, picture.height, picture.frames) == (kind, 80, 40, 1)
    pixels = picture.looked_at[0].pixels
    assert pixels.shape == (40, 80, 3)
    assert pixels[20, 10, 0] > 200 > 60 > pixels[20, 10, 2]
    assert pixels[20, 70, 2] > 200 > 60 > pixels[20, 70, 0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_modes(mode: str) -> None:
    grey = Image.linear_gradient("L").resize((64, 64))
    if mode.startswith(("I", "F")):
        levels = np.asarray(grey, np.float32) * 200 + 1000
        image = Image.fromarray(levels.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        image = grey.convert("RGBA" if mode == "LA" else "RGB").convert(mode)
    pixels = decode(encoded(image, "TIFF")).looked_at[0].pixels
    assert pixels.shape == (64, 64, 3)
    assert pixels[:8].mean() < 60 < 190 < pixels[-8:].mean()


def test_it_is_upright_as_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by a quarter
    picture = decode(encoded(halves(), "JPEG", exif=exif, quality=95))
    assert (picture.width, picture.height) == (40, 80)
    pixels = picture.looked_at[0].pixels
    assert pixels.shape == (80, 40, 3)
    assert pixels[10, 20, 0] > 200
    assert pixels[70, 20, 2] > 200


def test_transparent_pictures_show_what_is_on_them() -> None:
    for colour in ("white", "black"):
        image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
        image.paste(colour, (20, 20, 40, 40))
        pixels = decode(encoded(image, "PNG")).looked_at[0].pixels
        assert pixels.max() - pixels.min() > 200


def test_frames_of_an_animation_are_spread_over_it() -> None:
    shades = [Image.new("RGB", (8, 8), (i * 10, 0, 0)) for i in range(20)]
    picture = decode(encoded(shades[0], "WEBP", save_all=True, append_images=shades[1:], lossless=True))
    assert picture.frames == 20
    assert [frame.index for frame in picture.looked_at] == [0, 6, 13, 19]
    assert [int(frame.pixels[0, 0, 0]) // 10 for frame in picture.looked_at] == [0, 6, 13, 19]


def test_an_animation_of_countless_frames_is_looked_at_in_part() -> None:
    head = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    frame = b"\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00"
    picture = decode(head + frame * 50_000 + b"\x3b")
    assert picture.frames == 50_000
    assert [frame.index for frame in picture.looked_at] == [0, 1000, 1999, 2999]


def test_a_large_picture_is_looked_at_smaller() -> None:
    picture = decode(encoded(Image.new("RGB", (7680, 4320)), "JPEG"))
    assert (picture.width, picture.height) == (7680, 4320)
    height, width = picture.looked_at[0].pixels.shape[:2]
    assert height * width <= images.LOOKED_AT_PIXELS
    assert width / height == pytest.approx(16 / 9, rel=0.01)


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))


@pytest.mark.parametrize("size", [(10_000, 10_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(TooLargeError, match="pixels"):
        decode(bomb(*size))


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(TooLargeError, match="bytes"):
        decode(bytes(images.MAX_BYTES + 1))


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"%PDF-1.4", b"<svg/>"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(AppError, match=r"empty|no picture|broken") as caught:
        decode(data)
    assert caught.value.status == 400
    assert caught.value.param == "input.0"


WHOLE = {kind: encoded(halves(), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")}


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255))),
)
def test_a_broken_file_is_read_or_refused(kind: str, cut: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray(WHOLE[kind][: max(1, len(WHOLE[kind]) - cut)])
    for place, value in changes:
        data[place % len(data)] = value
    with contextlib.suppress(AppError):  # and nothing else
        assert decode(bytes(data)).looked_at


def test_open_nsfw_gets_what_it_was_made_for() -> None:
    tensor = images.nsfw_input(np.full((300, 500, 3), (10, 20, 30), np.uint8))
    assert tensor.shape == (224, 224, 3)
    assert tensor.dtype == np.float32
    # Blue first, less the mean of each channel; JPEG may change a level or two.
    np.testing.assert_allclose(tensor, np.broadcast_to([30 - 104, 20 - 117, 10 - 123], tensor.shape), atol=2)


def test_open_nsfw_sees_the_centre() -> None:
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[:16], pixels[-16:], pixels[:, :16], pixels[:, -16:] = 255, 255, 255, 255
    assert images.nsfw_input(pixels).max() < 0
