"""Recorded pictures for the text detector; its graph is ONNX already."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from models import recordings
from models.recipe import Case


def cases(source: Path, exported: Path) -> Iterator[Case]:
    """Each picture with its sides rounded to multiples of 32."""
    for name, image in recordings.pictures(Path(__file__).parent / "cases"):
        width, height = (max(32, round(side / 32) * 32) for side in image.size)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        yield Case("model", name, {"x": recordings.paddle(resized)[None]})
