"""TensorRT engines, compiled from a bundle on the machine that will run them, or the reason why there is
none.

`$HEADEND_HOME/engines/<key>/` holds `<graph>.plan` and `engine.json`. The key is the sha256 of all that a
plan is bound to: bundle, TensorRT version, GPU, compute capability, precision and profile. A failure is kept
too, so that a site does not try for minutes at every start; ONNX Runtime then serves the bundle.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.card import Precision
from models.errors import HeadendError, IntegrityError
from models.files import canonical_json, digest, locked, new_directory, sha256_file
from models.gpu import Gpu, find_gpu
from models.home import home
from models.parity import run_cases, summary
from models.profiles import Profile, profile
from models.recipe import Runner

RECORD = "engine.json"


@dataclass(frozen=True)
class Key:
    """What a plan is bound to."""

    bundle: str
    tensorrt: str
    gpu: str
    compute_capability: str
    precision: Precision
    profiles: Mapping[str, Profile]
    """By graph."""

    @property
    def digest(self) -> str:
        """Names the engine's directory."""
        return digest(canonical_json(asdict(self)))


@dataclass(frozen=True)
class Engine:
    """A model's plans, or why ONNX Runtime serves it."""

    key: Key
    path: Path | None
    """Directory with `<graph>.plan`; None: fall back to ONNX Runtime."""
    reason: str = ""
    """Why there is no plan."""

    def plan(self, graph: str) -> Path:
        """One graph's plan."""
        if self.path is None:
            raise HeadendError(f"There is no engine: {self.reason}", hint="ONNX Runtime serves this bundle.")
        return self.path / f"{graph}.plan"


@dataclass(frozen=True)
class Compiler:
    """What compiles and runs plans; `models.plans` is the one there is."""

    version: str
    compile: Callable[[Path, Profile], bytes]
    runner: Callable[[Mapping[str, bytes]], Runner]


def tensorrt_compiler() -> Compiler:
    """TensorRT. Raises `MissingExtraError` without the extra `gpu`."""
    from models import plans

    return Compiler(plans.version(), plans.compile_plan, plans.plan_runner)


def engine_key(bundle: Bundle, precision: Precision, compiler: Compiler, gpu: Gpu) -> Key:
    """The key of a bundle's engine on this machine."""
    recorded = bundle.recorded()
    profiles = {graph: profile(bundle.card, graph, recorded) for graph in bundle.card.graphs}
    return Key(bundle.digest, compiler.version, gpu.name, gpu.compute_capability, precision, profiles)


def default_precision(bundle: Bundle) -> Precision:
    """fp16 where the bundle has it; never int8, whose operators TensorRT does not take."""
    return "fp16" if "fp16" in bundle.card.precisions else "fp32"


def build_engine(bundle: Bundle, precision: Precision | None = None, *, again: bool = False) -> Engine:
    """This machine's engine of a bundle: the one in the cache, a new one, or the reason for having none.

    `again` tries anew what failed before. Raises `HeadendError` if there is no GPU, `MissingExtraError`
    without the extra `gpu`.
    """
    gpu = find_gpu()
    compiler = tensorrt_compiler()
    key = engine_key(bundle, precision or default_precision(bundle), compiler, gpu)
    return obtain(bundle, key, compiler, again=again)


def obtain(bundle: Bundle, key: Key, compiler: Compiler, *, again: bool = False) -> Engine:
    """The engine of a key from the cache, or compiled and proven now."""
    target = home() / "engines" / key.digest
    with locked(home() / "engines" / f".{key.digest}.build"):
        kept = cached(key)
        if kept and (kept.path or not again):
            return kept
        with new_directory(target) as fresh:
            record: dict[str, Any] = {"key": asdict(key)}
            try:
                record |= _compile(bundle, key, compiler, fresh)
            except Exception as error:  # whatever TensorRT does, ONNX Runtime serves on
                record["reason"] = f"{type(error).__name__}: {error}"
                for plan in fresh.glob("*.plan"):
                    plan.unlink()
            (fresh / RECORD).write_text(json.dumps(record, indent=2), "utf-8")
    found = cached(key)
    if found is None:
        raise IntegrityError(f"{target} was damaged right after it was written.")
    return found


def cached(key: Key) -> Engine | None:
    """The engine of a key if it is in the cache and every plan is whole; None otherwise."""
    directory = home() / "engines" / key.digest
    try:
        record = json.loads((directory / RECORD).read_bytes())
        if "reason" in record:
            return Engine(key, None, str(record["reason"]))
        plans: dict[str, str] = record["plans"]
        whole = all(sha256_file(directory / name) == sha256 for name, sha256 in plans.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Engine(key, directory) if whole else None


def _compile(bundle: Bundle, key: Key, compiler: Compiler, out: Path) -> dict[str, Any]:
    """Write proven plans; raises what the compiler raises, or `ParityError`."""
    plans = {
        graph: compiler.compile(bundle.graph(graph, key.precision), key.profiles[graph])
        for graph in bundle.card.graphs
    }
    recorded = bundle.recorded()
    results = run_cases(
        bundle.card,
        key.precision,
        [item.case for item in recorded],
        [item.expected for item in recorded],
        compiler.runner(plans),
    )
    for graph, plan in plans.items():
        (out / f"{graph}.plan").write_bytes(plan)
    return {
        "plans": {f"{graph}.plan": digest(plan) for graph, plan in plans.items()},
        "parity": summary(results),
    }
