"""Campaign declarations: what is refused and how, and that those which come with headend can be run."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests import arrivals, campaign, speakers
from loadtests.campaign import Campaign
from models.errors import DeclarationError, UsageError

WORK = {"name": "lines", "model": "ppocr-cls", "client": "http", "input": "text-lines"}
POISSON = {"kind": "poisson", "rate": 1}


def declared(**changes: Any) -> str:
    base = {"campaign": "mine", "title": "T", "seconds": 10, "workload": [WORK], "arrivals": [POISSON]}
    return yaml.safe_dump(base | changes)


def parsed(**changes: Any) -> Campaign:
    return Campaign.parse(declared(**changes), where="mine.yaml")


def test_shipped_campaigns() -> None:
    assert set(campaign.shipped()) == {"smoke", "site-loss", "evening-news", "trace", "overload", "soak"}


@pytest.mark.parametrize("name", campaign.shipped())
def test_a_shipped_campaign_can_be_run_on_the_demo_fleet(name: str) -> None:
    found = campaign.find(name)
    assert found.campaign == name
    assert found.objectives.classes
    assert {work.class_ for work in found.workload} <= set(found.objectives.classes)
    speakers.check(found)
    assert list(islice(arrivals.schedule(found, ["hub", "edge"]), 5))
    assert {event.site for event in found.events} <= {"hub", "edge"}


@pytest.mark.parametrize("name", campaign.shipped())
def test_a_shipped_campaign_ends_by_time_and_not_by_its_limits(name: str) -> None:
    found = campaign.find(name)
    mean = sum(10 * arrivals.mean_rate(found, second) for second in range(0, int(found.seconds), 10))
    assert 10 < mean < found.limits.requests / 2


def test_smoke_sends_everything_to_both_doors() -> None:
    found = campaign.find("smoke")
    sent = {(start.work.name, start.door) for start in arrivals.schedule(found, ["hub", "edge"])}
    assert sent == {(work.name, door) for work in found.workload for door in ("hub", "edge")}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"secnods": 3}, "unknown key `secnods`; did you mean `seconds`?"),
        ({"workload": [{**WORK, "wieght": 3}]}, "unknown key `workload.0.wieght`; did you mean `weight`?"),
        ({"arrivals": [{"kind": "poison", "rate": 1}]}, "arrivals.0"),
        ({"arrivals": [{"kind": "poisson", "rate": 0}]}, "arrivals.0.poisson.rate"),
        ({"arrivals": []}, "arrivals"),
        ({"workload": []}, "workload"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": 8 * 86_400}, "seconds"),
        ({"workload": [{**WORK, "app": "review"}]}, "either `app` or `model`"),
        ({"workload": [{**WORK, "client": "openai"}]}, "use client triton-grpc, triton-http or http"),
        (
            {"workload": [{"name": "a", "app": "review", "client": "triton-grpc", "input": "clean-texts"}]},
            "use client openai or http",
        ),
        (
            {"workload": [{"name": "a", "app": "review", "client": "http", "input": "x", "batch": 2}]},
            "`batch` is for models",
        ),
        ({"workload": [WORK, WORK]}, "two works are called `lines`"),
        ({"arrivals": [{**POISSON, "work": ["lnes"]}]}, "arrivals of `lnes`"),
        ({"arrivals": [{**POISSON, "from_s": 10}]}, "end before they begin"),
        ({"warm_up_s": 10}, "nothing is left after `warm_up_s`"),
        ({"events": [{"at_s": 10, "do": "cut", "site": "hub"}]}, "an event at 10 s comes after the end"),
        ({"events": [{"at_s": 1, "do": "kill", "site": "hub"}]}, "`kill` needs a `part`"),
        ({"events": [{"at_s": 1, "do": "cut", "site": "hub", "part": "serve"}]}, "only `kill` takes one"),
        ({"limits": {"spend": 1}}, "`spend` needs `price_per_1000`"),
        ({"objectives": {"error_rate": 2}}, "objectives.error_rate"),
        ({"objectives": {"classes": {"lively": {}}}}, "objectives.classes.lively"),
    ],
)
def test_what_is_refused_names_file_place_and_remedy(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parsed(**changes)
    assert says in caught.value.message
    assert caught.value.message.startswith("mine.yaml")
    assert caught.value.exit_code == 2


def test_a_campaign_is_found_by_name_or_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(declared(), "utf-8")
    assert campaign.find(str(path)) == parsed()
    with pytest.raises(DeclarationError, match="there is no campaign `smok`") as caught:
        campaign.find("smok")
    assert "smoke" in caught.value.hint
    with pytest.raises(DeclarationError, match="No such file"):
        campaign.find(str(tmp_path / "other.yaml"))


def test_goodput_counts_by_the_p99_objective_of_the_class() -> None:
    found = parsed(objectives={"classes": {"live": {"p99_ms": 300}, "batch": {"p50_ms": 5}}})
    assert found.objective_ms("live") == 300
    assert found.objective_ms("batch") is None
    assert found.objective_ms("interactive") is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input": "text-lnes"}, "there is no input `text-lnes`"),
        ({"input": "mandarin-news"}, "model `ppocr-cls` does not take the input `mandarin-news`"),
        ({"model": "ppocr-clx"}, "There is no model `ppocr-clx`"),
        ({"model": "silero-vad", "input": "mandarin-news", "batch": 2}, "does not take 2 rows at once"),
        ({"model": None, "app": "subtitles", "input": "captions"}, "app `subtitles` does not take"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_before_a_run(change: dict[str, Any], says: str) -> None:
    found = parsed(workload=[WORK | change])
    with pytest.raises(UsageError) as caught:
        speakers.check(found)
    assert says in caught.value.message
    assert caught.value.hint
    with pytest.raises(UsageError):
        speakers.open_speaker(found.workload[0], "127.0.0.1:1")
