"""Builds: what was done is kept, what was interrupted is resumed, what is wrong is not built."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import write_model
from onnx import TensorProto, helper

from models import files, graphs, precisions
from models.build import Built, build
from models.bundle import open_bundle
from models.catalog_index import load_card
from models.errors import BuildError, HeadendError, IntegrityError
from models.parity import ParityError
from models.runtime import runner
from models.steps import Event
from models.store import open_store

STEPS = ["fetch", "export", "check", "simplify", "variants", "parity", "bundle", "store"]
KILLED = """
import os, signal, sys
from models.build import build
step, moment = sys.argv[1:]
def listen(event):
    if event.step == step and event.status == moment:
        os.kill(os.getpid(), signal.SIGKILL)
build("tiny", listener=listen)
"""


def _statuses(name: str) -> tuple[Built, dict[str, str]]:
    seen: dict[str, str] = {}

    def listen(event: Event) -> None:
        seen[event.step] = event.status

    return build(name, listener=listen), seen


@pytest.mark.parametrize("moment", ["running", "done"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_it_resumes_there(tiny: Callable[..., str], step: str, moment: str) -> None:
    tiny()
    dead = subprocess.run([sys.executable, "-c", KILLED, step, moment], check=False)
    assert dead.returncode == -signal.SIGKILL
    assert (open_store().current("tiny") is not None) == ((step, moment) == ("store", "done"))
    result, statuses = _statuses("tiny")
    before = STEPS[: STEPS.index(step) + (moment == "done")]
    assert statuses == {name: "kept" if name in before else "done" for name in STEPS}
    assert open_store().fetch("tiny").digest == result.digest


def test_killed_at_any_moment_it_resumes(tiny: Callable[..., str]) -> None:
    tiny()
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "import models.build"], check=True)
    imported = time.monotonic() - start
    for part in (0.0, 0.2, 0.4):
        process = subprocess.Popen([sys.executable, "-c", KILLED, "none", "none"])
        time.sleep(imported + part)
        process.kill()
        process.wait()
        current = open_store().current("tiny")
        assert current is None or open_store().fetch("tiny")
    assert open_store().fetch("tiny", build("tiny").digest)
    assert not list((Path(os.environ["HEADEND_HOME"]) / "build" / "tiny").glob(".new-*"))


def test_a_second_build_keeps_every_step_and_the_digest(built: Built) -> None:
    build("tiny")
    result, statuses = _statuses("tiny")
    assert set(statuses.values()) == {"kept"}
    assert result.digest == built.digest


def test_from_nothing_again_the_digest_is_the_same(
    built: Built, tiny: Callable[..., str], state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path / "another"))
    again = build(tiny())
    assert again.digest == built.digest
    assert not again.path.is_relative_to(state)


def test_a_changed_output_or_card_is_done_again(built: Built, tiny: Callable[..., str], state: Path) -> None:
    build("tiny")
    (state / "build" / "tiny" / "simplify" / "model.onnx").write_bytes(b"")
    _, statuses = _statuses("tiny")
    assert statuses["simplify"] == "done"
    assert statuses["bundle"] == "kept"  # the same came out
    tiny(("precisions: [fp32, fp16, int8]", "precisions: [fp32, int8]"))
    result, statuses = _statuses("tiny")
    assert {name for name, status in statuses.items() if status == "done"} == {
        "variants",
        "parity",
        "bundle",
        "store",
    }
    assert result.digest != built.digest


def test_the_record_tells_what_was_done(built: Built, state: Path) -> None:
    result = build("tiny")
    record = json.loads(result.record.read_text())
    assert record["bundle"] == built.digest
    assert [step["step"] for step in record["steps"]] == STEPS
    for step in record["steps"]:
        assert step["did"]
        assert step["seconds"] >= 0
        assert step["status"] in ("kept", "done")


def test_the_script_does_the_same_by_hand(built: Built, state: Path, tmp_path: Path) -> None:
    build("tiny")
    (tmp_path / "hand").mkdir()
    script = state / "build" / "tiny" / "by_hand.py"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, script], cwd=tmp_path / "hand", check=True, env=env)
    bundle = files.tree_digests(built.path)
    hand = files.tree_digests(tmp_path / "hand" / "variants") | files.tree_digests(
        tmp_path / "hand" / "parity"
    )
    assert hand.items() <= bundle.items()
    assert bundle.keys() - hand.keys() == {"card.yaml", "manifest.json", "manifest.sig"}


def test_outside_its_tolerance_the_worst_element_is_shown(tiny: Callable[..., str]) -> None:
    name = tiny(("int8: {absolute: 0.2}", "int8: {absolute: 1.0e-9}"), scale=2.0)
    with pytest.raises(ParityError) as failure:
        build(name)
    text = str(failure.value)
    assert "tiny int8 is not equal to its source" in text
    assert "case `three`, output `y`: worst element [" in text
    assert "expected" in text
    assert open_store().current(name) is None
    assert _statuses(tiny(scale=2.0))[1]["variants"] == "kept"


def test_a_failed_build_leaves_what_was_current(built: Built, tiny: Callable[..., str]) -> None:
    tiny(("int8: {absolute: 0.2}", "int8: {absolute: 0.0}"))
    with pytest.raises(ParityError):
        build("tiny")
    assert open_store().fetch("tiny").digest == built.digest


def test_without_recorded_inputs_generated_ones_are_named(tiny: Callable[..., str], state: Path) -> None:
    name = tiny()
    (state / "cards" / name / "cases" / "three.npz").unlink()
    result = build(name)
    report = open_bundle(result.path, result.digest).parity()
    assert report["recorded"] is False
    assert report["cases"] == ["generated-1", "generated-2"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("shape: [16]", "shape: [17]", r"input `x` as FP32 \[-1, 17\], the graph has FP32 \[-1, 16\]"),
        ("name: y", "name: z", "the card declares outputs z; the graph has y"),
        ("name: y, dtype: FP32", "name: y, dtype: INT64", "output `y` as INT64"),
        ("max_batch_size: 8", "max_batch_size: 0", "input `x` as FP32"),
    ],
)
def test_tensors_unlike_the_cards_are_refused(
    tiny: Callable[..., str], old: str, new: str, message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        build(tiny((old, new)))


def test_what_is_not_onnx_is_refused(tiny: Callable[..., str], state: Path, tmp_path: Path) -> None:
    name = tiny()
    card = (state / "cards" / name / "card.yaml").read_text()
    junk = b"this is no model"
    right = load_card(name).source.imported["model.onnx"]
    (state / "cards" / name / "card.yaml").write_text(card.replace(right, files.digest(junk)))
    (state / "cards" / name / "source" / "model.onnx").write_bytes(junk)
    with pytest.raises(BuildError, match=r"model.onnx is not sound ONNX"):
        build(name)


def test_shapes_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5]))
    onnx.save(model, path)
    with pytest.raises(BuildError, match="is not sound ONNX"):
        graphs.check(path)


def test_an_imported_file_that_changed_is_refused(tiny: Callable[..., str], state: Path) -> None:
    name = tiny()
    source = state / "cards" / name / "source" / "model.onnx"
    found = files.digest(source.read_bytes() + b"x")
    expected = load_card(name).source.imported["model.onnx"]
    source.write_bytes(source.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match=f"has digest {found}, but the card pins {expected}"):
        build(name)


def test_two_builds_of_a_model_do_not_meet(tiny: Callable[..., str], state: Path) -> None:
    name = tiny()
    with (
        files.locked(state / "build" / name / ".lock"),
        pytest.raises(HeadendError, match="being built by another process"),
    ):
        build(name)


def test_int8_is_smaller_and_fp16_keeps_its_inputs_and_outputs(built: Built) -> None:
    bundle = open_bundle(built.path, built.digest)
    graph = onnx.load(bundle.graph("model", "fp16")).graph
    kinds = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert kinds == {TensorProto.FLOAT}
    weights = [onnx.numpy_helper.to_array(item).dtype for item in graph.initializer]
    assert np.dtype(np.float16) in weights
    quantised = onnx.load(bundle.graph("model", "int8")).graph
    assert "MatMulInteger" in {node.op_type for node in quantised.node}


def test_nodes_that_a_graph_keeps_in_fp32_stay_so(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    for number, node in enumerate(model.graph.node):
        node.name = f"{'front' if number == 0 else 'rest'}/{number}"
    helper.set_model_props(model, {precisions.KEEP_FP32: "front/"})
    onnx.save(model, path)
    precisions.convert(path, tmp_path / "half.onnx", "fp16")
    weights = {item.name: item.data_type for item in onnx.load(tmp_path / "half.onnx").graph.initializer}
    assert weights == {"w1": TensorProto.FLOAT, "w2": TensorProto.FLOAT16}


def test_what_a_library_raises_is_told_and_its_traceback_kept(tiny: Callable[..., str], state: Path) -> None:
    name = tiny()
    np.savez(state / "cards" / name / "cases" / "three.npz", x=np.ones((3, 17), np.float32))
    with pytest.raises(BuildError, match="step `parity` failed: InvalidArgument") as failure:
        build(name)
    assert "Got invalid dimensions" in str(failure.value)
    assert "Traceback" in (state / "build" / name / "traceback.txt").read_text()


def test_between_nodes_kept_in_fp32_nothing_is_rounded(tmp_path: Path) -> None:
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", 8), ("y", 4))
    ]
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2, name="rest/split"),
        helper.make_node("Mul", ["a", "a"], ["square"], name="front/square"),  # 90,000: fp16 ends at 65,504
        helper.make_node("Sqrt", ["square"], ["root"], name="front/root"),
        helper.make_node("Add", ["root", "b"], ["y"], name="rest/add"),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "kept", value[:1], value[1:]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    helper.set_model_props(model, {precisions.KEEP_FP32: "front/"})
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(BuildError, match="int8 changes nothing"):
        precisions.convert(tmp_path / "model.onnx", tmp_path / "small.onnx", "int8")
    precisions.convert(tmp_path / "model.onnx", tmp_path / "half.onnx", "fp16")
    casts = [node for node in onnx.load(tmp_path / "half.onnx").graph.node if node.op_type == "Cast"]
    assert len(casts) == 4  # into the graph, into the kept part, out of it, out of the graph
    found = runner({"model": tmp_path / "half.onnx"})("model", {"x": np.full((2, 8), 300, np.float32)})
    assert found["y"].tolist() == [[600.0] * 4] * 2
