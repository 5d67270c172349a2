"""Text recognition: the graph is ONNX already; its alphabet is taken out of the graph's metadata."""

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models import recordings
from models.recipe import Array, Case, Runner
from models.runtime import runner, session

_HERE = Path(__file__).parent / "cases"
_OUTPUT = "softmax_11.tmp_0"


@dataclass(frozen=True)
class Line:
    """A picture of a text line with what is written on it."""

    name: str
    tensor: Array
    text: str


def export(source: Path, out: Path) -> None:
    """Copy the graph; write its labels one a line (`labels.txt`, LF: some labels are other white space)."""
    shutil.copyfile(source / "model.onnx", out / "model.onnx")
    labels = session(source / "model.onnx").get_modelmeta().custom_metadata_map["character"]
    (out / "labels.txt").write_bytes(labels.encode())


def clips() -> list[Line]:
    """The recorded lines, each as wide as it is."""
    with (_HERE / "transcripts.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [
        Line(row["file"], recordings.text_line(recordings.picture(_HERE / row["file"])), row["text"])
        for row in rows
    ]


def cases(source: Path, exported: Path) -> Iterator[Case]:
    """A printed line and two captions by themselves, and two lines padded into one batch."""
    lines = clips()
    for line in lines[2:5]:
        yield Case("model", line.name, {"x": line.tensor[None]})
    width = max(line.tensor.shape[2] for line in lines[:2])
    padded = [np.pad(line.tensor, ((0, 0), (0, 0), (0, width - line.tensor.shape[2]))) for line in lines[:2]]
    yield Case("model", "batch", {"x": np.stack(padded)})


def reference_texts(source: Path, clips: list[Line]) -> list[str]:
    """What the original graph reads."""
    labels = session(source / "model.onnx").get_modelmeta().custom_metadata_map["character"]
    return _read(runner({"model": source / "model.onnx"}), labels, clips)


def texts(bundle_dir: Path, precision: str, clips: list[Line]) -> list[str]:
    """What a variant reads."""
    labels = (bundle_dir / "files" / "labels.txt").read_bytes().decode()
    return _read(runner({"model": bundle_dir / "graphs" / precision / "model.onnx"}), labels, clips)


def _read(run: Runner, labels: str, lines: list[Line]) -> list[str]:
    """Greedy CTC: the best class of each column, repeats joined, blanks dropped."""
    alphabet = ["", *labels.removesuffix("\n").split("\n"), " "]
    found = []
    for line in lines:
        best = run("model", {"x": line.tensor[None]})[_OUTPUT][0].argmax(-1)
        kept = best[np.insert(best[1:] != best[:-1], 0, True)]
        found.append("".join(alphabet[index] for index in kept))
    return found
