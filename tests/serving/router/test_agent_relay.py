"""Two sites that can dial out but not be reached: they hear of each other through a relay, over mutual TLS,
and go on without it.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from agent_sites import RunningSite, running
from waiting import until

from serving.identity import Authority

pytestmark = pytest.mark.e2e
FLEET = """
fleet: three
models: {{}}
apps: {{review: {{}}}}
sites:
  hub: {{front_door: "127.0.0.1:{0}", peer: "127.0.0.1:{1}", relay: true}}
  truck: {{front_door: "127.0.0.1:{2}", peer: "127.0.0.1:{3}"}}
  van: {{front_door: "127.0.0.1:{4}", peer: "127.0.0.1:{5}"}}
"""
NAMES = ("hub", "truck", "van")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningSite]]:
    root = tmp_path_factory.mktemp("relay")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADEND_HOME", str(root / "home"))
        authority = Authority.make("three")
        for name in NAMES:
            authority.renew(name)
        with running(root / "agents", FLEET, NAMES, hidden={"truck": 3, "van": 5}) as sites:
            until(lambda: all_hear(sites, NAMES), "all hear of all", 90)
            yield sites


def all_hear(sites: dict[str, RunningSite], names: tuple[str, ...]) -> bool:
    return all(sites[name].hears(other) for name in names for other in names if other != name)


def answers(site: RunningSite) -> set[int]:
    with httpx.Client(timeout=20) as client:
        return {client.post(f"{site.door}/v1/moderations", content=b"{}").status_code for _ in range(20)}


def refused(site: RunningSite) -> float:
    reasons = ("size", "format", "fleet", "site", "signature")
    return sum(site.metric(f'headend_summaries_refused_total{{reason="{reason}"}}') for reason in reasons)


def test_what_cannot_be_reached_is_known_through_the_relay(sites: dict[str, RunningSite]) -> None:
    truck, van = sites["truck"], sites["van"]
    known = truck.routes()["sites"]["van"]
    assert until(lambda: truck.routes()["sites"]["van"]["pools"]["app.review"]["ready"], "its pools", 30)
    assert known["rtt_ms"] is None, "it was never reached"
    failed = 'headend_questions_failed_total{site="van"}'
    for other in ("hub", "truck"):
        until(lambda other=other: sites[other].metric(failed) > 0, "it was asked in vain", 40)
    assert van.metric('headend_questions_failed_total{site="hub"}') < 5
    assert [refused(site) for site in sites.values()] == [0, 0, 0]


def test_it_stays_fresh(sites: dict[str, RunningSite]) -> None:
    ages = [
        sites[a].routes()["sites"][b]["age_s"]
        for _ in range(5)
        for a, b in (("truck", "van"), ("van", "truck"))
    ]
    assert sorted(ages)[len(ages) // 2] < 5


def test_requests_are_answered_at_every_door(sites: dict[str, RunningSite]) -> None:
    until(lambda: all(site.routes()["plan_age_s"] is not None for site in sites.values()), "plans", 60)
    assert set.union(*(answers(site) for site in sites.values())) == {200}


def test_the_relay_dies_and_returns(sites: dict[str, RunningSite]) -> None:
    hub, truck, van = (sites[name] for name in NAMES)
    agent = hub.processes["agent"]
    agent.kill()
    agent.wait()
    until(lambda: not truck.hears("van") and not van.hears("truck"), "nobody tells them of each other", 60)
    assert truck.routes()["sites"]["van"]["heard"], "what it said last stays known"
    assert [answers(site) for site in sites.values()] == [{200}] * 3
    hub.start("agent")
    until(lambda: all_hear(sites, NAMES), "all hear of all again", 90)
    assert [refused(site) for site in sites.values()] == [0, 0, 0]
