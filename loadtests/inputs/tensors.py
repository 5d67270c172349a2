"""Inputs as models take them, and whether what a model gave back is right.

Every output is held to the card: dtype, shape, finite numbers. Beyond that, what a model's answer must say
about the input is known without running the model: which way a line stands, what is written in it, whether a
picture is safe or has text, where speech is, what is said.
"""

from __future__ import annotations

import csv
import io
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from itertools import groupby

import numpy as np
import numpy.typing as npt
from PIL import Image
from rapidfuzz.distance import Levenshtein
from tritonclient.utils import triton_to_np_dtype

from loadtests import inputs
from loadtests.inputs import Payload
from loadtests.inputs.judging import Found, spoken
from models import recordings
from models.card import Card, Tensor
from models.catalog_index import load_card
from models.errors import UsageError
from models.recipe import Array
from models.store import open_store

ROW_SUM_WITHIN = 0.02
"""How far probabilities may be from adding up to 1: half precision and fused sums."""
LONGEST_S = 30
"""As `models.whisper.recognizer` has it, whose import would load ONNX Runtime into every worker."""
_ROWS = 4
"""Different requests made of random tensors."""

Tensors = Mapping[str, Array]
Judge = Callable[[Tensors], Found]


@dataclass(frozen=True)
class Question:
    """One request for a model: its tensors, batch dimension included, and how its answer is judged."""

    tensors: Tensors
    judge: Judge


def questions(model: str, name: str, batch: int) -> list[Question]:
    """What to ask `model` with the input `name`, `batch` rows at a time.

    Raises `UsageError` for an unknown model or input, or when one does not fit the other.
    """
    card, given = load_card(model), inputs.get(name)
    if batch != 1 and batch > card.serving.max_batch_size:
        most = card.serving.max_batch_size
        raise UsageError(
            f"model `{model}` does not take {batch} rows at once",
            hint=f"Use a batch of at most {most}."
            if most
            else "Its requests cannot be batched: leave it out.",
        )
    if given.kind == "random":
        return list(_random(card, batch))
    if given.kind == "recorded":
        return list(_recorded(card, batch))
    kind, make = _MAKERS.get(model, (None, None))
    if make is None or given.kind != kind:
        fitting = [one for one in inputs.names() if inputs.get(one).kind in (kind, "random", "recorded")]
        raise UsageError(
            f"model `{model}` does not take the input `{name}`", hint=f"It takes {', '.join(fitting)}."
        )
    rows = [_turned(given.payloads, first, batch) for first in range(len(given.payloads))]
    return [
        Question(asked.tensors, partial(_judge, card, batch, asked.judge))
        for row in rows
        for asked in make(row)
    ]


def _turned(payloads: Sequence[Payload], first: int, batch: int) -> list[Payload]:
    """The payloads of one request: this one and those after it, in a ring."""
    return [payloads[(first + row) % len(payloads)] for row in range(batch)]


def _judge(card: Card, batch: int, judge: Judge, outputs: Tensors) -> Found:
    for declared in card.serving.outputs:
        problem = _misfit(declared, batch if card.serving.max_batch_size else None, outputs)
        if problem:
            return Found(problem)
    return judge(outputs)


def _misfit(declared: Tensor, batch: int | None, outputs: Tensors) -> str:
    array = outputs.get(declared.name)
    if array is None:
        return "" if declared.optional else f"there is no output `{declared.name}`"
    wanted = ([] if batch is None else [batch]) + declared.shape
    fits = len(wanted) == array.ndim and all(
        side in (-1, found) for side, found in zip(wanted, array.shape, strict=True)
    )
    if not fits:
        return f"output `{declared.name}` has shape {list(array.shape)}, not {wanted}"
    if declared.dtype == "BYTES":
        return "" if array.dtype == np.object_ else f"output `{declared.name}` is not text"
    if array.dtype != triton_to_np_dtype(declared.dtype):
        return f"output `{declared.name}` is {array.dtype}, not {declared.dtype}"
    finite = array.dtype.kind != "f" or np.isfinite(array).all()
    return "" if finite else f"output `{declared.name}` has values that are no finite numbers"


def _probabilities(rows: Array) -> str:
    """What is wrong with rows that should be probabilities."""
    off = float(np.abs(rows.sum(-1) - 1).max())
    return f"a row's probabilities miss 1 by {off:.3f}" if off > ROW_SUM_WITHIN else ""


def _directions(payloads: Sequence[Payload]) -> Iterator[Question]:
    """PP-OCR's direction: every second line stands on its head, and the answer says so."""
    flips = [row % 2 for row in range(len(payloads))]
    for odd in (0, 1):
        turned = np.array([flip ^ odd for flip in flips])
        lines = np.stack(
            [
                recordings.text_line(
                    _image(one).transpose(Image.Transpose.ROTATE_180) if flip else _image(one), 192
                )
                for one, flip in zip(payloads, turned, strict=True)
            ]
        )

        def judge(outputs: Tensors, turned: Array = turned) -> Found:
            (rows,) = outputs.values()
            if problem := _probabilities(rows):
                return Found(problem)
            right = rows.argmax(-1) == turned
            return Found("" if right.all() else f"line {int(right.argmin())} is taken to stand the other way")

        yield Question({"x": lines}, judge)


def _readings(payloads: Sequence[Payload]) -> Iterator[Question]:
    """PP-OCR's recogniser: the classes of the characters, repeats joined, blanks (0) and spaces
    dropped."""
    wide = [recordings.text_line(_image(one)) for one in payloads]
    width = max(line.shape[2] for line in wide)
    lines = np.stack([np.pad(line, ((0, 0), (0, 0), (0, width - line.shape[2]))) for line in wide])
    written = [[_classes()[character] for character in one.text.replace(" ", "")] for one in payloads]
    ignored = (0, _classes()[" "])

    def judge(outputs: Tensors) -> Found:
        (rows,) = outputs.values()
        if problem := _probabilities(rows):
            return Found(problem)
        for one, best, wanted in zip(payloads, rows.argmax(-1), written, strict=True):
            read = [each for each, _ in groupby(best.tolist()) if each not in ignored]
            if Levenshtein.distance(read, wanted) > max(1, 0.1 * len(wanted)):
                return Found(f"“{one.text}” was read wrongly: classes {read}, not {wanted}")
        return Found()

    yield Question({"x": lines}, judge)


def _boxes(payloads: Sequence[Payload]) -> Iterator[Question]:
    """PP-OCR's detector: likelihoods as large as the picture, high somewhere just where there is text."""
    (one,) = payloads
    image = _image(one)
    width, height = (max(32, round(side / 32) * 32) for side in image.size)
    picture = recordings.paddle(image.resize((width, height), Image.Resampling.BILINEAR))[None]

    def judge(outputs: Tensors) -> Found:
        (rows,) = outputs.values()
        if rows.shape[2:] != (height, width):
            return Found(f"the map of a picture of {height} x {width} is {list(rows.shape[2:])}")
        if rows.min() < 0 or rows.max() > 1:
            return Found("a likelihood is not between 0 and 1")
        has_text = bool(rows.max() > 0.5)
        return Found("" if has_text == bool(one.lines) else f"{one.name}: text found: {has_text}")

    yield Question({"x": picture}, judge)


def _safety(payloads: Sequence[Payload]) -> Iterator[Question]:
    """open_nsfw: all pictures here are safe."""
    mean = np.array([104, 117, 123], np.float32)
    pictures = np.stack([recordings.bgr(_image(one).crop((16, 16, 240, 240))) - mean for one in payloads])

    def judge(outputs: Tensors) -> Found:
        (rows,) = outputs.values()
        if problem := _probabilities(rows):
            return Found(problem)
        worst = int(rows[:, 1].argmax())
        return Found(f"{payloads[worst].name} is taken to be unsafe" if rows[worst, 1] > 0.5 else "")

    yield Question({"input:0": pictures}, judge)


def _activity(payloads: Sequence[Payload]) -> Iterator[Question]:
    """Silero: one likelihood a window; on average high where somebody speaks."""
    (one,) = payloads
    windows = recordings.windows(_samples(one))
    state = np.zeros((1, 1, 128), np.float32)

    def judge(outputs: Tensors) -> Found:
        likely = outputs["speech_probs"]
        if len(likely) != len(windows) or likely.min() < 0 or likely.max() > 1:
            return Found(f"not one likelihood for each of {len(windows)} windows")
        return Found("" if likely.mean() > 0.3 else f"no speech was found in {one.name}")

    yield Question({"input": windows, "h": state, "c": state}, judge)


def _transcripts(payloads: Sequence[Payload]) -> Iterator[Question]:
    """Whisper: what is said."""
    one, rows = payloads[0], len(payloads)
    samples = _samples(one)
    if len(samples) > LONGEST_S * 16_000:
        raise UsageError(
            f"{one.name} is longer than the {LONGEST_S} s that the recogniser takes at once",
            hint="Ask the app `subtitles`, which parts speech at its pauses.",
        )
    audio = np.stack([samples] * rows)

    def judge(outputs: Tensors) -> Found:
        found = [spoken(row[0].decode("utf-8", "replace"), one) for row in outputs["text"]]
        problem = next((each.problem for each in found if each.problem), "")
        return Found(problem, sum(each.edits for each in found), sum(each.characters for each in found))

    yield Question(
        {"audio": audio, "language": np.array([[one.language.encode()]] * rows, np.object_)}, judge
    )


def _random(card: Card, batch: int) -> Iterator[Question]:
    """Nothing is known of the answer but what the card says."""
    random = np.random.default_rng(1)
    for _ in range(_ROWS):
        tensors = {
            declared.name: _values(declared, batch if card.serving.max_batch_size else None, random)
            for declared in card.serving.inputs
            if not declared.optional
        }
        yield Question(tensors, partial(_judge, card, batch, lambda _: Found()))


def _recorded(card: Card, batch: int) -> Iterator[Question]:
    """What the source runtime answered is known for each case; its tolerance is the card's for fp32."""
    tolerance = card.parity.tolerances["fp32"]
    for one in open_store().fetch(card.name).recorded():

        def judge(outputs: Tensors, expected: Tensors = one.expected) -> Found:
            for name, wanted in expected.items():
                if not np.allclose(outputs[name], wanted, tolerance.relative, tolerance.absolute):
                    return Found(f"output `{name}` is not what was recorded")
            return Found()

        rows = {name: np.repeat(value, batch, axis=0) for name, value in one.case.inputs.items()}
        yield Question(rows, partial(_judge, card, batch, judge))


def _values(declared: Tensor, batch: int | None, random: np.random.Generator) -> Array:
    shape = ([] if batch is None else [batch]) + (declared.example or declared.shape)
    if -1 in shape or declared.dtype == "BYTES":
        raise UsageError(
            f"there are no random values for the tensor `{declared.name}`",
            hint="It needs numbers, and where its shape has -1 an `example` in the card.",
        )
    dtype = triton_to_np_dtype(declared.dtype)
    # Whole numbers are often places in a table, of which 0 and 1 surely exist.
    floats = np.issubdtype(dtype, np.floating)
    return (random.standard_normal(shape) if floats else random.integers(0, 2, shape)).astype(dtype)


_MAKERS: dict[str, tuple[inputs.Kind, Callable[[Sequence[Payload]], Iterator[Question]]]] = {
    "ppocr-cls": ("text-line", _directions),
    "ppocr-rec": ("text-line", _readings),
    "ppocr-det": ("picture", _boxes),
    "open-nsfw": ("picture", _safety),
    "silero-vad": ("speech", _activity),
    "whisper-base": ("speech", _transcripts),
}


@cache
def _classes() -> dict[str, int]:
    """The recogniser's class of each character of the lines, from its `labels.txt`."""
    text = resources.files("loadtests.inputs").joinpath("ppocr-rec-classes.tsv").read_text("utf-8")
    return {row["character"]: int(row["class"]) for row in csv.DictReader(io.StringIO(text), delimiter="\t")}


def _image(payload: Payload) -> Image.Image:
    with Image.open(io.BytesIO(payload.content)) as image:
        return image.convert("RGB")


def _samples(payload: Payload) -> npt.NDArray[np.float32]:
    with wave.open(io.BytesIO(payload.content)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return samples.astype(np.float32) / 32768
