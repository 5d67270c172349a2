"""A whole Whisper with random weights, small enough for the fast tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from models.whisper.ct2 import Weights
from models.whisper.decoder import write_decoder
from models.whisper.encoder import write_encoder
from models.whisper.recognizer import Recognizer

WIDTH, HEADS, LAYERS = 16, 2, 2
SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|zh|>",
    "<|transcribe|>",
    "<|startofprev|>",
    "<|nocaptions|>",
    "<|notimestamps|>",
]
BYTES = 256


def tiny_weights(seed: int) -> Weights:
    """Variables of a `WhisperSpec` of two layers, sixteen wide."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}

    def put(name: str, *shape: int, scale: float = 0.3) -> None:
        found[name] = (rng.standard_normal(shape) * scale).astype(np.float16)

    def linear(name: str, out: int, inner: int) -> None:
        put(f"{name}/weight", out, inner)
        put(f"{name}/bias", out, scale=0.1)

    def norm(name: str) -> None:
        found[f"{name}/gamma"] = np.ones(WIDTH, np.float16)
        put(f"{name}/beta", WIDTH, scale=0.1)

    for conv, inner in (("conv1", 80), ("conv2", WIDTH)):
        put(f"encoder/{conv}/weight", WIDTH, inner, 3)
        put(f"encoder/{conv}/bias", WIDTH)
    put("encoder/position_encodings/encodings", 1500, WIDTH)
    put("decoder/position_encodings/encodings", 448, WIDTH)
    put("decoder/embeddings/weight", BYTES + len(SPECIAL), WIDTH, scale=1.0)
    found["decoder/projection/weight"] = found["decoder/embeddings/weight"]
    for part in ("encoder", "decoder"):
        found[f"{part}/num_heads"] = np.int16(HEADS).reshape(())
        norm(f"{part}/layer_norm")
        for i in range(LAYERS):
            layer = f"{part}/layer_{i}"
            for block in ("self_attention", "ffn", *(["attention"] if part == "decoder" else [])):
                norm(f"{layer}/{block}/layer_norm")
            linear(f"{layer}/self_attention/linear_0", 3 * WIDTH, WIDTH)
            linear(f"{layer}/self_attention/linear_1", WIDTH, WIDTH)
            linear(f"{layer}/ffn/linear_0", 4 * WIDTH, WIDTH)
            linear(f"{layer}/ffn/linear_1", WIDTH, 4 * WIDTH)
            if part == "decoder":
                linear(f"{layer}/attention/linear_0", WIDTH, WIDTH)
                linear(f"{layer}/attention/linear_1", 2 * WIDTH, WIDTH)
                linear(f"{layer}/attention/linear_2", WIDTH, WIDTH)
    return Weights("WhisperSpec", 3, found)


def write_files(directory: Path) -> None:
    """A byte vocabulary with Whisper's special tokens, and its configuration."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={char: i for i, char in enumerate(alphabet)}, merges=[])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in SPECIAL])
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "lang_ids": [BYTES + 2, BYTES + 3],
        "suppress_ids": [0, *range(BYTES + 1, BYTES + len(SPECIAL))],
        "suppress_ids_begin": [BYTES],
        "alignment_heads": [[0, 1], [1, 0]],
    }
    (directory / "config.json").write_text(json.dumps(config), "utf-8")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's directory: `encoder.onnx`, `decoder.onnx` and the recogniser's files."""
    directory = tmp_path_factory.mktemp("whisper")
    weights = tiny_weights(1)
    write_encoder(weights, directory / "encoder.onnx")
    write_decoder(weights, [(0, 1), (1, 0)], directory / "decoder.onnx")
    write_files(directory)
    return directory


@pytest.fixture(scope="session")
def recognizer(tiny: Path) -> Recognizer:
    return Recognizer(tiny / "encoder.onnx", tiny / "decoder.onnx", tiny, threads=1)
