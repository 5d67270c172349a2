"""Whisper base from CTranslate2's weights, proven against CTranslate2 itself."""

from __future__ import annotations

import csv
import functools
import shutil
import wave
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import numpy.typing as npt
from opencc import OpenCC

from models.recipe import Array, Case, Clip, Runner
from models.runtime import runner
from models.whisper import ct2, mel
from models.whisper.config import read_config
from models.whisper.decoder import write_decoder
from models.whisper.encoder import layers, write_encoder
from models.whisper.recognizer import FRAME, LONGEST_S, RATE, Recognizer
from models.whisper.tokenizer import Tokenizer

_CLIPS = Path(__file__).with_name("clips")
_THREADS = 2


def export(source: Path, out: Path) -> None:
    """Write both graphs and the files the recogniser reads."""
    weights = ct2.read(source / "model.bin")
    write_encoder(weights, out / "encoder.onnx")
    write_decoder(weights, read_config(source).alignment_heads, out / "decoder.onnx")
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(source / name, out / name)


def reference(source: Path) -> Runner:
    """CTranslate2 in FP32: `states` of the encoder, `logprobs` of the decoder (without a cache, one row)."""
    model = _model(source)
    weights = ct2.read(source / "model.bin")

    def run(graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if graph == "encoder":
            features = np.stack([_log_mel(audio) for audio in inputs["audio"]])
            return {"states": np.array(model.encode(_view(features), to_cpu=True))}
        tokens = inputs["tokens"][0].tolist()
        result = model.generate(
            _view(_states(weights, inputs)),
            [tokens],
            beam_size=1,
            max_length=2 * len(tokens),
            suppress_blank=False,
            suppress_tokens=[],
            return_logits_vocab=True,
        )[0]
        # One entry per token from <|notimestamps|> (the fourth) on; it goes on beyond what was given.
        logits = np.array(result.logits[0][len(tokens) - 4], np.float64).reshape(1, -1)
        logits -= logits.max()
        return {"logprobs": (logits - np.log(np.exp(logits).sum())).astype(np.float32)}

    return run


def cases(source: Path, exported: Path) -> Iterator[Case]:
    """Every clip through the encoder, and its own transcript through the decoder after it."""
    run = runner({"encoder": exported / "encoder.onnx"})
    tokenizer = _tokenizer(exported)
    for clip in clips():
        audio = clip.audio[None, : len(clip.audio) // FRAME * FRAME]
        yield Case("encoder", clip.name, {"audio": audio})
        encoded = run("encoder", {"audio": audio})
        cross = {name: value for name, value in encoded.items() if name.startswith("cross_")}
        empty = np.zeros_like(encoded["cross_value_0"][:, :, :0])
        past = {name.replace("cross", "past"): empty for name in cross}
        start = tokenizer.begin(clip.language)
        for length in (0, 1, 8):
            tokens = np.array([start + tokenizer.encode(clip.text)[:length]], np.int64)
            lengths = {
                "padding": np.zeros(1, np.int64),
                "frames": np.array([empty.shape[0] * audio.shape[1] // FRAME]),
            }
            yield Case("decoder", f"{clip.name}+{length}", {"tokens": tokens, **lengths, **past, **cross})


def clips() -> Iterable[Clip]:
    """The clips beside this file."""
    with (_CLIPS / "transcripts.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            yield Clip(
                row["file"].removesuffix(".wav"), _audio(_CLIPS / row["file"]), row["language"], row["text"]
            )


def reference_texts(source: Path, clips: list[Clip]) -> list[str]:
    """Greedy decoding in CTranslate2, padded to 30 seconds as its users do."""
    model = _model(source)
    tokenizer = _tokenizer(source)
    texts = []
    for clip in clips:
        audio = np.zeros(LONGEST_S * RATE, np.float32)
        audio[: len(clip.audio)] = clip.audio
        start = tokenizer.begin(clip.language)
        result = model.generate(_view(_log_mel(audio)[None]), [start], beam_size=1)[0]
        texts.append(_simplified(tokenizer.decode(result.sequences_ids[0])))
    return texts


def texts(bundle_dir: Path, precision: str, clips: list[Clip]) -> list[str]:
    """The recogniser as it is served."""
    graphs = bundle_dir / "graphs" / precision
    recognizer = Recognizer(
        graphs / "encoder.onnx", graphs / "decoder.onnx", bundle_dir / "files", threads=_THREADS
    )
    heard = [recognizer.recognize([clip.audio], [clip.language], [None])[0] for clip in clips]
    return [_simplified(result.text) for result in heard]


def _simplified(text: str) -> str:
    """Transcripts are in Simplified characters; which ones the model writes is no error of recognition."""
    converted: str = OpenCC("t2s").convert(text)
    return converted


@functools.cache
def _model(source: Path) -> Any:
    return ctranslate2.models.Whisper(str(source), compute_type="float32", intra_threads=_THREADS)


def _tokenizer(directory: Path) -> Tokenizer:
    return Tokenizer(directory / "tokenizer.json", read_config(directory).languages)


def _view(array: npt.NDArray[np.float32]) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array, np.float32))


def _states(weights: ct2.Weights, inputs: Mapping[str, Array]) -> npt.NDArray[np.float32]:
    """The encoder's states behind cross-attention keys and values, which CTranslate2 makes from them itself.

    The projections of all layers have far more rows than unknowns: least squares undoes them to 2e-6.
    """
    names = [f"decoder/layer_{layer}/attention/linear_1" for layer in range(layers(weights, "decoder"))]
    matrix = np.concatenate([weights.float32(f"{name}/weight") for name in names])
    bias = np.concatenate([weights.float32(f"{name}/bias") for name in names])
    parts = []
    for layer in range(len(names)):
        key, value = inputs[f"cross_key_{layer}"][0], inputs[f"cross_value_{layer}"][0]
        parts += [key.reshape(-1, key.shape[-1]), value.transpose(0, 2, 1).reshape(-1, value.shape[1])]
    projected = np.concatenate(parts).astype(np.float64) - bias[:, None]
    states, *_ = np.linalg.lstsq(matrix.astype(np.float64), projected, rcond=None)
    return np.asarray(states.T[None], np.float32)


def _log_mel(audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The spectrogram by NumPy's own Fourier transform, `[80, samples / 160]`."""
    padded = np.pad(audio, mel.WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, mel.WINDOW)[:: mel.STEP][:-1]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(mel.WINDOW) / mel.WINDOW)
    power = np.abs(np.fft.rfft(windows * hann)) ** 2
    log = np.log10(np.maximum(mel.filters() @ power.T, 1e-10))
    return np.asarray((np.maximum(log, log.max() - 8) + 4) / 4, np.float32)


def _audio(path: Path) -> npt.NDArray[np.float32]:
    with wave.open(str(path)) as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, RATE):
            raise ValueError(f"{path} is not 16-bit mono at {RATE} Hz")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
