"""Whisper's decoder as ONNX: tokens in, the next token's probabilities out, with a key-value cache.

One graph does both the first pass over the prompt and every later token: the cache is empty at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnxscript import ir

from models.graphs import KEEP_FP32
from models.whisper.ct2 import Weights
from models.whisper.encoder import layers
from models.whisper.graph import NEVER, Network, Value, query_scale

FLOAT, INT64 = ir.DataType.FLOAT, ir.DataType.INT64


def write_decoder(weights: Weights, alignment_heads: Sequence[tuple[int, int]], path: Path) -> None:
    """Write the decoder's graph.

    Inputs: `tokens` INT64 `[batch, new]`; `padding` INT64 `[batch]`, how many of a row's first tokens (from
    the start of the cache) only fill it up; `frames` INT64 `[batch]`, how many of a row's encoder frames are
    its own; per layer `past_key_<i>`, `past_value_<i>` FP32 `[batch, heads, past, d]` and the encoder's
    `cross_key_<i>`, `cross_value_<i>`.
    Outputs: `logprobs` FP32 `[batch, vocabulary]`, natural logarithms, after the last token; `alignment` FP32
    `[batch, len(alignment_heads), new, audio_frames]`, the cross-attention weights of the (layer, head) pairs
    that follow the sound; per layer `key_<i>`, `value_<i>` FP32 `[batch, heads, past + new, d]`.
    """
    net = Network("decoder", weights)
    tokens = net.input("tokens", INT64, ["batch", "new"])
    padding = net.input("padding", INT64, ["batch"])
    frames = net.input("frames", INT64, ["batch"])
    count, heads = layers(weights, "decoder"), weights.integer("decoder/num_heads")
    size = weights.array("decoder/embeddings/weight").shape[1] // heads
    caches = [
        (
            net.input(f"past_key_{layer}", FLOAT, ["batch", heads, "past", size]),
            net.input(f"past_value_{layer}", FLOAT, ["batch", heads, "past", size]),
        )
        for layer in range(count)
    ]
    crosses = [
        (
            net.input(f"cross_key_{layer}", FLOAT, ["batch", heads, size, "audio_frames"]),
            net.input(f"cross_value_{layer}", FLOAT, ["batch", heads, "audio_frames", size]),
        )
        for layer in range(count)
    ]
    with net.scope("embedding"):
        past, new = net.dimension(caches[0][0], 2), net.dimension(tokens, 1)
        x = _embed(net, tokens, padding, past, new)
        self_bias = _self_bias(net, padding, past, new)
        cross_bias = _cross_bias(net, frames, crosses[0][0])
    followed, grown = [], []
    for layer, (cache, cross) in enumerate(zip(caches, crosses, strict=True)):
        with net.scope(f"layer_{layer}"):
            x, key, value = _self_attention(
                net, x, f"decoder/layer_{layer}/self_attention", heads, cache, self_bias
            )
            x, scores = _cross_attention(net, x, f"decoder/layer_{layer}/attention", heads, cross, cross_bias)
            x = net.feed_forward(x, f"decoder/layer_{layer}/ffn")
            if chosen := [head for at, head in alignment_heads if at == layer]:
                followed.append(net.op.Gather(scores, chosen, axis=1))
        grown.append((key, value))
    with net.scope("projection"):
        last = net.op.Gather(net.norm(x, "decoder/layer_norm"), -1, axis=1)
        projection = weights.float32("decoder/projection/weight")
        logits = net.op.MatMul(last, net.constant("projection", projection.T))
        alignment = net.op.Concat(*followed, axis=1)
    with net.scope("probabilities"):
        # Here and not outside: logits of equal probabilities may differ by a constant, and quantised ones do.
        logprobs = net.op.LogSoftmax(logits, axis=-1)
    net.output("logprobs", logprobs, FLOAT, ["batch", projection.shape[0]])
    net.output("alignment", alignment, FLOAT, ["batch", len(alignment_heads), "new", "audio_frames"])
    for layer, (key, value) in enumerate(grown):
        net.output(f"key_{layer}", key, FLOAT, ["batch", heads, "total", size])
        net.output(f"value_{layer}", value, FLOAT, ["batch", heads, "total", size])
    net.save(path, {KEEP_FP32: "probabilities/"})


def _embed(net: Network, tokens: Value, padding: Value, past: Value, new: Value) -> Value:
    op, name = net.op, "decoder/position_encodings/encodings"
    # The embedding stays FP16, as its publisher has it: the projection beside it is the same matrix in FP32.
    table = net.constant("tokens", net.weights.array("decoder/embeddings/weight").astype(np.float16))
    embedded = op.Cast(op.Gather(table, tokens), to=FLOAT)
    places = op.Range(past, op.Add(past, new), 1)
    own = op.Max(op.Sub(op.Unsqueeze(places, [0]), op.Unsqueeze(padding, [1])), 0)
    return op.Add(embedded, op.Gather(net.constant(name, net.weights.float32(name)), own))


def _self_bias(net: Network, padding: Value, past: Value, new: Value) -> Value:
    """`[B, 1, new, past + new]`: 0 where a token may look, `NEVER` at later tokens and at padding."""
    op = net.op
    total = op.Add(past, new)
    column = op.Range(0, total, 1)
    later = op.Greater(column, op.Unsqueeze(op.Range(past, total, 1), [1]))
    filling = op.Less(column, op.Unsqueeze(padding, [1, 2, 3]))
    return op.Where(op.Or(later, filling), NEVER, 0.0)


def _cross_bias(net: Network, frames: Value, cross_key: Value) -> Value:
    """`[B, 1, 1, audio_frames]`: `NEVER` at frames that are not the row's own."""
    column = net.op.Range(0, net.dimension(cross_key, 3), 1)
    return net.op.Where(net.op.Less(column, net.op.Unsqueeze(frames, [1, 2, 3])), 0.0, NEVER)


def _self_attention(
    net: Network, x: Value, name: str, heads: int, cache: tuple[Value, Value], bias: Value
) -> tuple[Value, Value, Value]:
    op = net.op
    width = net.weights.array(f"{name}/linear_1/bias").shape[0]
    joint = net.linear(net.norm(x, f"{name}/layer_norm"), f"{name}/linear_0", query_scale(width, 3, heads))
    query, key, value = (
        net.heads(part, heads) for part in op.Split(joint, num_outputs=3, axis=-1, _outputs=3)
    )
    key, value = op.Concat(cache[0], key, axis=2), op.Concat(cache[1], value, axis=2)
    scores = op.Add(op.MatMul(query, op.Transpose(key, perm=[0, 1, 3, 2])), bias)
    attended = net.merged(op.MatMul(op.Softmax(scores, axis=-1), value))
    return op.Add(x, net.linear(attended, f"{name}/linear_1")), key, value


def _cross_attention(
    net: Network, x: Value, name: str, heads: int, cross: tuple[Value, Value], bias: Value
) -> tuple[Value, Value]:
    op = net.op
    width = net.weights.array(f"{name}/linear_2/bias").shape[0]
    joint = net.linear(net.norm(x, f"{name}/layer_norm"), f"{name}/linear_0", query_scale(width, 1, heads))
    scores = op.Softmax(op.Add(op.MatMul(net.heads(joint, heads), cross[0]), bias), axis=-1)
    attended = net.merged(op.MatMul(scores, cross[1]))
    return op.Add(x, net.linear(attended, f"{name}/linear_2")), scores
