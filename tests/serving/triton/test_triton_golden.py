"""The repository of the packaged demo fleet, pinned file by file: a change of serving shows in review.

After a change that is meant, write the files anew and read the difference:

    HEADEND_GOLDEN=write pytest tests/serving/triton/test_triton_golden.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models.catalog_index import load_card
from serving.fleet import Fleet, demo_fleet
from serving.triton.derive import Flavour, model_config

GOLDEN = Path(__file__).parent / "golden"
DEMO = demo_fleet()
DEMO = DEMO.model_copy(
    update={"sites": {name: site.model_copy(update={"threads": 2}) for name, site in DEMO.sites.items()}}
)


def gpu_fleet() -> Fleet:
    """The demo's models on two GPUs, Triton refusing what is too much."""
    declared = DEMO.model_dump(mode="json")
    for use in declared["models"].values():
        use |= {"precision": "fp16", "instances": 2, "admission": "triton"}
    declared["sites"] = {
        "gpu": {"kind": "local", "front_door": "127.0.0.1:9000", "gpus": [0, 1], "threads": 2}
    }
    return Fleet.model_validate(declared)


@pytest.mark.parametrize("name", DEMO.models)
@pytest.mark.parametrize(
    ("scenario", "fleet", "site", "flavour", "engine"),
    [
        ("embedded", DEMO, "hub", "embedded", False),
        ("container", DEMO, "hub", "container", False),
        ("container-gpu", gpu_fleet(), "gpu", "container", True),
    ],
)
def test_demo_fleet(
    name: str, scenario: str, fleet: Fleet, site: str, flavour: Flavour, engine: bool
) -> None:
    rendered = model_config(
        fleet,
        site,
        load_card(name),
        flavour=flavour,
        version=1,
        bundle="0" * 64,
        engine=engine,
    ).render()
    path = GOLDEN / scenario / f"{name}.pbtxt"
    if os.environ.get("HEADEND_GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rendered, "utf-8")
    assert rendered == path.read_text("utf-8")


def test_nothing_is_pinned_that_is_not_served() -> None:
    assert {path.stem for path in GOLDEN.rglob("*.pbtxt")} == set(DEMO.models)
