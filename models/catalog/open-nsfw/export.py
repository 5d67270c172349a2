"""Recorded pictures for the unsafe-image classifier; its graph is ONNX already."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models import recordings
from models.recipe import Case


def cases(source: Path, exported: Path) -> Iterator[Case]:
    """Each picture (256 x 256) cropped to its middle, and all of them as one batch."""
    rows = {}
    for name, image in recordings.pictures(Path(__file__).parent / "cases"):
        middle = image.crop((16, 16, 240, 240))
        rows[name] = (recordings.bgr(middle) - np.array([104, 117, 123], np.float32))[None]
    rows["batch"] = np.concatenate(list(rows.values()))
    for name, row in rows.items():
        yield Case("model", name, {"input:0": row})
