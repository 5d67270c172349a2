"""Recorded text lines, upright and turned, for the direction classifier; its graph is ONNX already."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from models import recordings
from models.recipe import Case


def cases(source: Path, exported: Path) -> Iterator[Case]:
    """Each line upright and turned, as one batch of two."""
    for name, image in recordings.pictures(Path(__file__).parent / "cases"):
        turned = image.transpose(Image.Transpose.ROTATE_180)
        pair = np.stack([recordings.text_line(image, 192), recordings.text_line(turned, 192)])
        yield Case("model", name, {"x": pair})
