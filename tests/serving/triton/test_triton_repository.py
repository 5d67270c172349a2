"""The model repository: what is written, what is left alone, and that a kill leaves it sound."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from models.bundle import Bundle
from models.errors import UsageError
from serving.fleet import Fleet
from serving.triton.config import parse
from serving.triton.repository import Changes, write_repository


def fleet_of(*names: str, **use: Any) -> Fleet:
    site = {"kind": "local", "front_door": "127.0.0.1:9000"}
    return Fleet.model_validate(
        {"fleet": "test", "models": {name: dict(use) for name in names}, "sites": {"here": site}}
    )


def write(bundles: Mapping[str, Bundle], out: Path, **options: Any) -> Changes:
    return write_repository(
        options.pop("fleet", None) or fleet_of(*bundles),
        "here",
        bundles,
        out,
        **({"flavour": "embedded"} | options),
    )


def served(out: Path) -> dict[str, set[str]]:
    """What Triton would find: model name to the files of the version that its configuration names."""
    found = {}
    for path in out.glob("*/config.pbtxt"):
        (version,) = parse(path.read_text()).version_policy.specific.versions
        directory = path.parent / str(version)
        found[path.parent.name] = {
            file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file()
        }
    return found


def marks(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}


def test_embedded_models_run_in_the_python_backend(make_bundle: Any, tmp_path: Path) -> None:
    bundle, out = make_bundle("one"), tmp_path / "out"
    assert write({"one": bundle}, out) == Changes(written=["one"])
    assert served(out) == {"one": {"model.py", "model.onnx"}}
    (weights,) = out.rglob("model.onnx")
    assert weights.samefile(bundle.graph("model", "fp32"))  # linked: no second copy on the disk
    (shim,) = out.rglob("model.py")
    assert "from serving.triton.onnx_model import TritonPythonModel" in shim.read_text()


def test_container_models_need_nothing_of_ours(make_bundle: Any, tmp_path: Path) -> None:
    out, plan = tmp_path / "out", tmp_path / "plan"
    plan.write_bytes(b"a plan built on the target")
    bundles = {"one": make_bundle("one"), "two": make_bundle("two")}
    write(bundles, out, flavour="container", engines={"two": plan})
    assert served(out) == {"one": {"model.onnx"}, "two": {"model.plan"}}


def test_what_is_right_already_is_not_touched(make_bundle: Any, tmp_path: Path) -> None:
    bundles, out = {"one": make_bundle("one"), "two": make_bundle("two")}, tmp_path / "out"
    write(bundles, out)
    before = marks(out)
    assert write(bundles, out) == Changes(unchanged=["one", "two"])
    assert marks(out) == before


def test_new_weights_get_a_new_version_and_the_serving_one_stays(make_bundle: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kept = []
    for factor in (1.0, 2.0, 3.0):
        assert write({"one": make_bundle("one", factor)}, out).written == ["one"]
        kept.append({path.name for path in (out / "one").iterdir() if path.name.isdecimal()})
    assert [len(versions) for versions in kept] == [1, 2, 2]
    assert not kept[0] & kept[2]


def test_one_model_has_one_version_number_at_every_site(make_bundle: Any, tmp_path: Path) -> None:
    bundle = make_bundle("one")
    for out in (tmp_path / "hub", tmp_path / "edge"):
        write({"one": bundle}, out)
    first, second = ({path.name for path in tmp_path.glob(f"{site}/one/[0-9]*")} for site in ("hub", "edge"))
    assert first == second


def test_a_change_of_settings_keeps_the_version(make_bundle: Any, tmp_path: Path) -> None:
    bundles, out = {"one": make_bundle("one")}, tmp_path / "out"
    write(bundles, out)
    before = {path for path in out.rglob("[0-9]*") if path.is_dir()}
    assert write(bundles, out, fleet=fleet_of("one", instances=2)).written == ["one"]
    assert {path for path in out.rglob("[0-9]*") if path.is_dir()} == before


def test_a_model_that_left_the_site_is_removed(make_bundle: Any, tmp_path: Path) -> None:
    bundles, out = {"one": make_bundle("one"), "two": make_bundle("two")}, tmp_path / "out"
    write(bundles, out)
    assert write({"two": bundles["two"]}, out) == Changes(removed=["one"], unchanged=["two"])
    assert not (out / "one").exists()


def test_a_missing_bundle_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="headend models build one"):
        write({}, tmp_path / "out", fleet=fleet_of("one"))
    assert not list(tmp_path.rglob("config.pbtxt"))


def test_a_precision_that_the_bundle_lacks_is_refused(make_bundle: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int8"):
        write({"one": make_bundle("one")}, tmp_path / "out", fleet=fleet_of("one", precision="int8"))


def test_killed_at_any_moment_every_model_is_whole(make_bundle: Any, tmp_path: Path) -> None:
    """From {one, two} to {one with new weights, three}: killed at each file operation in turn."""
    old = {"one": make_bundle("one"), "two": make_bundle("two")}
    new = {"one": make_bundle("one", 3.0), "three": make_bundle("three")}
    whole = {"model.py", "model.onnx"}
    for moment in range(1, 500):
        out = tmp_path / f"out-{moment}"
        write(old, out)
        finished = _killed_at(moment, new, out)
        assert all(files == whole for files in served(out).values()), f"killed at operation {moment}"
        assert "one" in served(out)
        write(new, out)
        assert served(out) == {"one": whole, "three": whole}
        if finished:
            break
    assert finished
    assert moment > 20


def _killed_at(moment: int, bundles: Mapping[str, Bundle], out: Path) -> bool:
    """Write in a process that is killed at its `moment`th file operation; whether it got to the end."""
    child = os.fork()
    if child == 0:
        left = moment

        def count(event: str, _: tuple[object, ...]) -> None:
            nonlocal left
            if event in {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod"}:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        write(bundles, out)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status)
