"""Whisper's encoder as ONNX: sound in, each decoder layer's cross-attention keys and values out.

Keys and values of the cross-attention depend on the sound alone, so they are computed here once and not by
the decoder at each token. The length is dynamic: nothing is padded to 30 seconds.
"""

from __future__ import annotations

from pathlib import Path

from onnxscript import ir

from models.graphs import KEEP_FP32
from models.whisper.ct2 import Weights
from models.whisper.graph import Network, Value, query_scale
from models.whisper.mel import log_mel


def write_encoder(weights: Weights, path: Path) -> None:
    """Write the encoder's graph.

    Input: `audio` FP32 `[batch, samples]`, mono, 16 kHz, -1 to 1; samples a multiple of 320, at most 480,000.
    Outputs: `states` FP32 `[batch, frames, width]` (the encoder's own, for comparisons) and per decoder layer
    `cross_key_<i>` FP32 `[batch, heads, width / heads, frames]` and `cross_value_<i>` FP32
    `[batch, heads, frames, width / heads]`, with frames = samples / 320.
    """
    net = Network("encoder", weights)
    audio = net.input("audio", ir.DataType.FLOAT, ["batch", "samples"])
    with net.scope("mel"):
        mel = log_mel(net, audio)
    with net.scope("stem"):
        x = _stem(net, mel)
    heads = weights.integer("encoder/num_heads")
    for layer in range(layers(weights, "encoder")):
        with net.scope(f"layer_{layer}"):
            x = _block(net, x, f"encoder/layer_{layer}", heads)
    states = net.norm(x, "encoder/layer_norm")
    width = weights.array("encoder/position_encodings/encodings").shape[1]
    net.output("states", states, ir.DataType.FLOAT, ["batch", "frames", width])
    _cross(net, states, weights.integer("decoder/num_heads"), width)
    net.save(path, {KEEP_FP32: "mel/"})


def layers(weights: Weights, part: str) -> int:
    """How many layers `part` (encoder or decoder) has."""
    prefix = f"{part}/layer_"
    numbers = {name[len(prefix) :].split("/")[0] for name in weights.variables if name.startswith(prefix)}
    return sum(number.isdigit() for number in numbers)


def _stem(net: Network, mel: Value) -> Value:
    """Two convolutions, the second halving the rate, and the positions: `[B, T, width]`."""
    x = mel
    for name, stride in (("encoder/conv1", 1), ("encoder/conv2", 2)):
        weight = net.constant(f"{name}/weight", net.weights.float32(f"{name}/weight"))
        bias = net.constant(f"{name}/bias", net.weights.float32(f"{name}/bias"))
        x = net.op.Gelu(net.op.Conv(x, weight, bias, strides=[stride], pads=[1, 1]))
    x = net.op.Transpose(x, perm=[0, 2, 1])
    name = "encoder/position_encodings/encodings"
    frames = net.op.Shape(x, start=1, end=2)
    positions = net.op.Slice(net.constant(name, net.weights.float32(name)), [0], frames, [0])
    return net.op.Add(x, positions)


def _block(net: Network, x: Value, name: str, heads: int) -> Value:
    width = net.weights.array(f"{name}/self_attention/linear_1/bias").shape[0]
    normed = net.norm(x, f"{name}/self_attention/layer_norm")
    joint = net.linear(normed, f"{name}/self_attention/linear_0", query_scale(width, 3, heads))
    query, key, value = (
        net.heads(part, heads) for part in net.op.Split(joint, num_outputs=3, axis=-1, _outputs=3)
    )
    scores = net.op.Softmax(net.op.MatMul(query, net.op.Transpose(key, perm=[0, 1, 3, 2])), axis=-1)
    attended = net.linear(net.merged(net.op.MatMul(scores, value)), f"{name}/self_attention/linear_1")
    return net.feed_forward(net.op.Add(x, attended), f"{name}/ffn")


def _cross(net: Network, states: Value, heads: int, width: int) -> None:
    for layer in range(layers(net.weights, "decoder")):
        with net.scope(f"cross_{layer}"):
            joint = net.linear(states, f"decoder/layer_{layer}/attention/linear_1")
            key, value = net.op.Split(joint, num_outputs=2, axis=-1, _outputs=2)
            size = width // heads
            split = net.op.Reshape(key, [0, 0, heads, -1])
            key = net.op.Transpose(split, perm=[0, 2, 3, 1])
            shape: list[int | str] = ["batch", heads, size, "frames"]
            net.output(f"cross_key_{layer}", key, ir.DataType.FLOAT, shape)
            shape = ["batch", heads, "frames", size]
            net.output(f"cross_value_{layer}", net.heads(value, heads), ir.DataType.FLOAT, shape)
