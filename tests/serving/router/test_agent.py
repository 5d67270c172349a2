"""Real agents beside real Envoys, over real sockets: three sites, of which one is a black hole."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from agent_sites import RunningSite, running
from waiting import until

from serving.fleet import DEFAULT_CLASS
from serving.identity import Authority, SiteIdentity, client_context, requests, server_name
from serving.router.agent import kept
from serving.router.telemetry.exchange import TOOK_HEADER
from serving.router.telemetry.message import Message, encode
from serving.router.view import Pool

pytestmark = pytest.mark.e2e

REVIEW = Pool("app", "review")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningSite]]:
    with running(tmp_path_factory.mktemp("agents")) as sites:
        until(lambda: sites["here"].hears("there") and sites["there"].hears("here"), "summaries", 60)
        yield sites


def test_sites_hear_of_each_other_and_know_the_way(sites: dict[str, RunningSite]) -> None:
    here = sites["here"]
    assert 0 < until(lambda: here.routes()["sites"]["there"]["rtt_ms"], "the way is measured", 20) < 1000
    assert set(here.routes()["sites"]["there"]["pools"]) == {"app.review"}
    assert until(
        lambda: sites["here"].routes()["sites"]["there"]["pools"]["app.review"]["ready"], "ready", 20
    )


def test_a_peer_that_answers_nothing_delays_nobody(sites: dict[str, RunningSite]) -> None:
    here = sites["here"]
    until(lambda: here.metric('headend_questions_failed_total{site="hole"}') >= 2, "hole was asked twice", 40)
    ages = []
    for _ in range(20):
        found = here.routes()["sites"]
        ages.append((found["there"]["age_s"], found["here"]["age_s"]))
        threading.Event().wait(0.2)
    late = sum(max(pair) > 1.5 for pair in ages)
    assert late <= 2, f"summaries every half second: {ages}"
    assert not here.hears("hole")
    assert here.metric("headend_sites_stale") >= 0


def test_what_clients_ask_is_measured(sites: dict[str, RunningSite]) -> None:
    here = sites["here"]
    before = here.routes()["sites"]["here"]["pools"]["app.review"]
    # One may be counted as the window ends; there are three to six in it.
    assert before["answered"] < 0.3, "probes of other sites are no requests"
    with httpx.Client(timeout=10) as client:

        def asked() -> bool:
            for _ in range(5):
                assert client.post(f"{here.door}/v1/moderations", content=b"{}").status_code == 200
            pool = here.routes()["sites"]["here"]["pools"]["app.review"]
            return bool(pool["answered"] > 2 and pool["offered"].get(DEFAULT_CLASS, 0) > 2)

        until(asked, "a rate of answers", 60)
    pool = here.routes()["sites"]["here"]["pools"]["app.review"]
    assert pool["request_bytes"] > 100
    told = until(
        lambda: sites["there"].routes()["sites"]["here"]["pools"]["app.review"]["answered"] > 0, "told", 20
    )
    assert told


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"no zlib at all", "format"),
        (zlib.compress(b"0" * (3 << 20)), "size"),
        (encode(Message(fleet="three", site="nobody")), "site"),
        (encode(Message(fleet="four", site="there")), "fleet"),
        (zlib.compress(json.dumps({"fleet": "three", "site": "there", "evil": 1}).encode()), "format"),
    ],
)
def test_hostile_messages_are_refused_at_the_peer_listener_and_counted(
    sites: dict[str, RunningSite], body: bytes, reason: str
) -> None:
    here = sites["here"]
    line = f'headend_summaries_refused_total{{reason="{reason}"}}'
    before = here.metric(line)
    answer = httpx.post(f"{here.peer}/-/agent/telemetry", content=body, timeout=10)
    assert (answer.status_code, answer.json()["reason"]) == (400, reason)
    assert here.metric(line) == before + 1
    assert here.hears("there")


def test_the_way_of_a_question_is_none_of_an_agents_work(sites: dict[str, RunningSite]) -> None:
    """By what is left of the time, the asker measures the link."""
    message = encode(Message(fleet="three", site="there"))

    def slowly() -> Iterator[bytes]:
        yield message[:10]
        time.sleep(0.7)
        yield message[10:]

    begun = time.monotonic()
    with httpx.stream(
        "POST", f"{sites['here'].peer}/-/agent/telemetry", content=slowly(), timeout=10
    ) as answer:
        whole_ms = (time.monotonic() - begun) * 1000
        assert answer.status_code == 200
        took_ms = float(answer.headers[TOOK_HEADER])
    assert 0 < took_ms <= whole_ms - 700


def test_nothing_else_of_the_agent_is_open_to_others(sites: dict[str, RunningSite]) -> None:
    here = sites["here"]
    for path in ("/metrics", "/-/routes", "/-/alive", "/-/agent/../metrics", "/-/agent%2f..%2fmetrics"):
        assert httpx.get(here.peer + path).status_code in (400, 404), path
    message = encode(Message(fleet="three", site="there"))
    assert httpx.post(f"{here.door}/-/agent/telemetry", content=message).status_code == 404


def test_an_agent_that_is_killed_under_load_changes_nothing_and_comes_back(
    sites: dict[str, RunningSite],
) -> None:
    here = sites["here"]
    files, stop, statuses = here.files(), threading.Event(), []

    def ask() -> None:
        with httpx.Client(timeout=10) as client:
            while not stop.is_set():
                statuses.append(client.post(f"{here.door}/v1/moderations", content=b"{}").status_code)

    with ThreadPoolExecutor(2) as clients:
        asking = [clients.submit(ask) for _ in range(2)]
        try:
            until(lambda: len(statuses) > 50, "requests before")
            here.processes["agent"].kill()
            here.processes["agent"].wait()
            killed_at = len(statuses)
            until(lambda: not sites["there"].hears("here"), "the others notice", 30)
            until(lambda: len(statuses) > killed_at + 100, "requests without an agent")
            assert here.files().keys() == files.keys()
            here.start("agent")
            until(lambda: here.hears("there") and sites["there"].hears("here"), "it is back", 60)
        finally:
            stop.set()
        for each in asking:
            each.result(timeout=20)
    assert set(statuses) == {200}


def test_a_stopped_agent_that_goes_on_is_taken_in_again(sites: dict[str, RunningSite]) -> None:
    there = sites["there"].processes["agent"]
    os.kill(there.pid, signal.SIGSTOP)
    try:
        until(lambda: not sites["here"].hears("there"), "it is stale", 30)
        assert sites["here"].routes()["sites"]["there"]["heard"], "what it said last stays known"
    finally:
        os.kill(there.pid, signal.SIGCONT)
    until(lambda: sites["here"].hears("there"), "it is heard again", 30)


def test_a_restarted_agent_begins_with_the_plan_that_was_written(sites: dict[str, RunningSite]) -> None:
    here = sites["here"]
    row = {"here": 0.25, "there": 0.75}
    agent = here.processes["agent"]
    agent.terminate()
    assert agent.wait(timeout=10) == 0, "SIGTERM ends it cleanly"
    kept.write(here.directory, {(REVIEW, "live"): row})
    here.start("agent")
    shares = until(lambda: here.routes().get("shares"), "shares", 60)
    assert shares["app.review"]["live"] == row
    until(lambda: here.routes()["plan_age_s"] is not None, "it plans again", 60)
    assert kept.read(here.directory)[REVIEW, "live"].keys() == row.keys()


def test_an_agent_is_small(sites: dict[str, RunningSite]) -> None:
    agent = psutil.Process(sites["here"].processes["agent"].pid)
    assert agent.memory_full_info().uss < 150 << 20


def test_agents_with_identities_speak_over_mutual_tls_and_a_revoked_site_is_not_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    authority = Authority.make("three")
    for site in ("here", "there"):
        authority.issue(site, SiteIdentity.of("three", site))
    with running(tmp_path / "agents") as sites:
        here = sites["here"]
        until(lambda: here.hears("there") and sites["there"].hears("here"), "summaries", 60)
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{here.peer}/-/agent/telemetry", content=b"x", timeout=5)
        before = here.metric('headend_questions_failed_total{site="there"}')
        authority.issue("there", SiteIdentity.of("three", "there"))
        until(lambda: here.hears("there"), "a renewed certificate is taken up", 30)
        assert here.metric('headend_questions_failed_total{site="there"}') <= before + 1
        authority.revoke("there")
        authority.distribute(["here"])
        until(lambda: not here.hears("there"), "a revoked site is not heard", 40)


def test_a_site_elsewhere_gets_its_next_certificate_from_the_authoritys_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path / "home"))
    authority, there = Authority.make("three"), SiteIdentity(elsewhere / "fleets/three/there/identity")
    authority.renew("here")
    usb = tmp_path / "usb"
    asked = requests.make("three", "there", there)
    requests.answer(authority, "there", asked, usb)
    # It is due at once: with the slack for clocks it has lived for a day already.
    issued = authority.sign("there", asked, timedelta(hours=1))
    (usb / "cert.pem").write_text(issued.certificate)
    requests.accept("three", "there", there, usb)
    with running(tmp_path / "agents", homes={"there": elsewhere}) as sites:
        until(
            lambda: there.read_certificate().serial_number != int(issued.serial, 16), "a next certificate", 60
        )
        newest = Authority("three").register.of("there")[-1]
        assert there.read_certificate().serial_number == int(newest.serial, 16)
        assert newest.expires - issued.expires > timedelta(days=20)
        until(lambda: sites["here"].hears("there") and sites["there"].hears("here"), "summaries", 60)
        remaining = "headend_certificate_remaining_seconds "
        until(lambda: sites["there"].metric(remaining) > 20 * 86400, "its agent has taken it up", 30)
        assert not (tmp_path / "home/fleets/three/there").exists()
        context = client_context(there)
        with httpx.Client(verify=context) as client:
            answer = client.post(
                f"{sites['here'].peer.replace('http', 'https')}/-/agent/certificate",
                content=asked,
                headers={"x-headend-peer": "spiffe://three/site/here", "x-headend-peer-serial": "1"},
                extensions={"sni_hostname": server_name("three", "here")},
            )
        assert answer.status_code == 403
        assert "not due yet" in answer.text
