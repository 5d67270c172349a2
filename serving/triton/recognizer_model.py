"""Whisper's token loop in Triton's Python backend: one request is one segment of speech.

Triton joins segments of differing length (the inputs are ragged); they are recognised as one batch. The
tensors are those of the card of a model with runtime `recognizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb

from models.errors import UsageError
from models.whisper.recognizer import Recognition, Recognizer
from serving.triton.answering import BadRequestError, Model, Request


@dataclass(frozen=True)
class Item:
    """One request, read."""

    audio: npt.NDArray[np.float32]
    """`[samples]`, mono, 16 kHz, -1 to 1."""
    language: str
    """ISO 639 code; empty: to be detected."""
    prompt: str
    """The text before the segment; may be empty."""


class TritonPythonModel(Model[Item]):
    """The class that Triton's Python backend looks for."""

    def load(self, directory: Path, args: dict[str, str], parameters: dict[str, str]) -> None:
        """Load encoder, decoder and tokenizer. Parameter `threads`: CPU threads of one inference."""
        self._recognizer = Recognizer(
            directory / "encoder.onnx",
            directory / "decoder.onnx",
            directory / "files",
            threads=int(parameters["threads"]),
        )

    def read(self, request: Request) -> Item:
        """One segment, with what its sender knows about it."""
        audio = _input(request, "audio")
        if audio is None or len(audio) != 1:
            raise BadRequestError(
                "send one segment per request, `audio` of shape [1, samples]: Triton joins requests by itself"
            )
        if not audio.size:
            raise BadRequestError("`audio` is empty: send mono samples at 16 kHz, from -1 to 1")
        return Item(audio[0], _text(request, "language"), _text(request, "prompt"))

    def infer(self, items: Sequence[Item]) -> list[list[Any]]:
        """Recognise all items as one batch."""
        try:
            heard = self._recognizer.recognize(
                [item.audio for item in items],
                [item.language for item in items],
                [item.prompt for item in items],
            )
        except UsageError as error:
            raise BadRequestError(str(error)) from error
        return [_tensors(recognition) for recognition in heard]


def _input(request: Request, name: str) -> npt.NDArray[Any] | None:
    tensor = pb.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()


def _text(request: Request, name: str) -> str:
    values = _input(request, name)
    if values is None or not values.size:
        return ""
    try:
        return bytes(values.flat[0]).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise BadRequestError(f"`{name}` is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _tensors(heard: Recognition) -> list[Any]:
    """One recognition as output tensors, each with the batch dimension in front."""
    words = heard.words
    outputs: dict[str, npt.NDArray[Any]] = {
        "text": _bytes([heard.text]),
        "language": _bytes([heard.language]),
        "words": _bytes([word.text for word in words]),
        "word_times": np.array([(word.start, word.end) for word in words], np.float32).reshape(1, -1, 2),
        "word_probabilities": np.array([[word.probability for word in words]], np.float32),
        "avg_logprob": np.array([[heard.avg_logprob]], np.float32),
        "no_speech_probability": np.array([[heard.no_speech_probability]], np.float32),
    }
    return [pb.Tensor(name, array) for name, array in outputs.items()]


def _bytes(texts: list[str]) -> npt.NDArray[np.object_]:
    return np.array([[text.encode() for text in texts]], np.object_)
