"""TensorRT, through NVIDIA's Polygraphy: compile a graph into a plan, and run plans. Needs the extra
`gpu`.

Networks are strongly typed: the graph's own precision is the plan's, as TensorRT 11 does always and 10 on
request. TF32 stays off, so that an fp32 plan is fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from models.errors import MissingExtraError
from models.profiles import Profile
from models.recipe import Array, Runner

try:
    import tensorrt
    from polygraphy.backend import trt
except ImportError as error:
    raise MissingExtraError(f"Building TensorRT engines ({error.name} is missing)", "gpu") from error


def version() -> str:
    """TensorRT's version; a plan is bound to it."""
    return str(tensorrt.__version__)


def compile_plan(graph: Path, profile: Profile) -> bytes:
    """A serialised plan for this machine's GPU. Whatever TensorRT refuses is raised as Polygraphy's
    exception.
    """
    shapes = trt.Profile()
    for name, allowed in profile.items():
        shapes.add(name, min=allowed.least, opt=allowed.usual, max=allowed.most)
    network = trt.NetworkFromOnnxPath(str(graph), strongly_typed=True)
    config = trt.CreateConfig(profiles=[shapes], tf32=False)
    return bytes(trt.EngineBytesFromNetwork(network, config=config)())


def plan_runner(plans: Mapping[str, bytes]) -> Runner:
    """Run plans by graph name; each is loaded when used and let go of again."""

    def run(graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with trt.TrtRunner(trt.EngineFromBytes(plans[graph])) as runner:
            return {name: value.copy() for name, value in runner.infer(dict(inputs)).items()}

    return run
