"""The newest summary of every site stands; what must not be is refused and counted."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telemetry_made import BOOT, Clock, board, forged, signed, summary

from serving.router.telemetry.board import Board
from serving.router.telemetry.links import LinkMeter
from serving.router.telemetry.message import RefusedError, Signed
from serving.router.telemetry.observed import STALE_AFTER_S

OTHER_BOOT = "f" * 32


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_age_counts_from_when_a_newer_summary_came_by_this_machines_clock(clock):
    known = board(clock)
    clock.now += 3
    assert known.observed({})["b"].age_s == 3, "of one never heard of: since the start"
    assert known.take(signed(sequence=1), "b")
    clock.now += 2
    assert not known.take(signed(sequence=1), "b"), "the same once more makes nothing younger"
    assert known.observed({})["b"].age_s == 2
    assert known.take(signed(sequence=2), "b")
    assert known.observed({})["b"].age_s == 0
    clock.now += STALE_AFTER_S + 0.1
    seen = known.observed({})["b"]
    assert seen.is_stale
    assert seen.summary == summary(sequence=2), "stale is marked, not forgotten"
    assert not sum(known.refused.values())


@pytest.mark.parametrize(
    ("hostile", "reason"),
    [
        (Signed(summary="x" * 1000), "format"),
        (Signed(summary="é" * 200_000), "size"),
        (forged(sequence=-1), "format"),
        (forged(pools={"model.echo": {"kind": "model", "ready": True, "answered": -5.0}}), "format"),
        (Signed(summary=summary().model_dump_json().replace("3.0", "NaN")), "format"),
        (forged(fleet="three"), "fleet"),
        (signed("nobody"), "site"),
        (signed("a"), "site"),
    ],
)
def test_hostile_summaries_are_refused_and_counted(clock, hostile, reason):
    known = board(clock)
    assert not known.take(hostile, "b")
    assert known.refused == {reason: 1}
    assert all(seen.summary is None for seen in known.observed({}).values())


def test_an_older_summary_is_a_replay_and_so_is_an_ended_boot(clock):
    known = board(clock)
    known.take(signed(sequence=5), "b")
    assert not known.take(signed(sequence=4), "b")
    assert known.take(signed(sequence=0, boot=OTHER_BOOT), "b"), "the agent was started anew"
    assert not known.take(signed(sequence=6, boot=BOOT), "b")
    assert known.refused == {"replay": 2}
    assert known.observed({})["b"].summary == summary(sequence=0, boot=OTHER_BOOT)


def test_a_relay_that_is_behind_does_no_harm(clock):
    known = board(clock)
    known.take(signed(sequence=5), "b")
    assert not known.take(signed(sequence=4), "c")
    assert not known.refused


def test_a_summary_that_its_site_has_not_signed_is_refused(clock):
    class Strict:
        def sign(self, summary: str) -> Signed:
            return Signed(summary=summary)

        def check(self, signed: Signed, site: str) -> None:
            raise RefusedError("signature", "nobody signs here")

    known = Board("two", "a", ["a", "b"], Strict(), clock)
    assert not known.take(signed(), "b")
    assert known.refused == {"signature": 1}


def test_news_are_what_the_asker_lacks(clock):
    known = board(clock)
    known.publish(summary("a", 7))
    known.take(signed("b", 3), "b")
    sites = ["a", "b"]
    assert len(known.news({}, sites)) == 2
    assert known.known() == {"b": (BOOT, 3)}
    assert [each.summary for each in known.news({"a": (BOOT, 7)}, sites)] == [signed("b", 3).summary]
    assert not known.news({"a": (BOOT, 7), "b": (BOOT, 3)}, sites)
    assert len(known.news({"b": (OTHER_BOOT, 9)}, ["b"])) == 1


def test_links_are_those_measured_from_here(clock):
    known, link = board(clock), LinkMeter(clock)
    link.add(1000, 0.02, padded=False)
    assert known.observed({"b": link})["b"].rtt_s == 0.02
    assert known.observed({"b": link})["c"].rtt_s is None


@given(
    told=st.lists(
        st.tuples(
            st.sampled_from(["b", "c"]), st.integers(0, 5), st.sampled_from([BOOT, OTHER_BOOT]), st.booleans()
        ),
        max_size=30,
    )
)
def test_no_order_of_messages_lets_an_older_summary_stand(told):
    known = board(Clock())
    for site, sequence, boot, direct in told:
        before = known.observed({})[site].summary
        known.take(signed(site, sequence, boot), site if direct else "c")
        after = known.observed({})[site].summary
        assert after is not None or before is None
        if before and after and before.boot == after.boot:
            assert after.sequence >= before.sequence
    for site in ("b", "c"):
        boots = [boot for where, _, boot, _ in told if where == site]
        changes = sum(one != other for one, other in itertools.pairwise(boots))
        if changes > 1:
            last = known.observed({})[site].summary
            first_change = next(boot for boot in boots if boot != boots[0])
            assert last is not None
            assert last.boot == first_change, "what has ended never comes back"
