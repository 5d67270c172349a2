"""The roll-out's state machine, in a world of sites that steps change and kills leave half changed."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from serving.site.rollout import machine
from serving.site.rollout.machine import Position, SiteChange, Step, begin, passed, steps_of, turned

SITES = ("a", "b", "c")
PARTS = st.sampled_from([(), ("serve",), ("triton", "envoy")])
MODELS = st.sampled_from([(), ("m",), ("m", "n")])
CHANGES = st.lists(
    st.builds(
        SiteChange, st.sampled_from(SITES), st.sampled_from(["start", "change", "stop"]), MODELS, PARTS
    ),
    unique_by=lambda change: change.site,
)
SHARES = st.lists(st.integers(1, 100), unique=True, max_size=4).map(sorted)


@dataclass
class World:
    """What the steps' actions come to, each of them the same however often it is done."""

    version: dict[str, str] = field(default_factory=dict)
    canary: dict[str, int] = field(default_factory=dict)
    """Site to percent."""
    drained: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, changes: list[SiteChange]) -> World:
        return cls({each.site: "none" if each.how == "start" else "old" for each in changes})

    def do(self, step: Step) -> None:
        match step.kind:
            case "canary":
                self.canary.setdefault(step.site, 0)
            case "share":
                assert step.site in self.canary, "a share needs a canary"
                self.canary[step.site] = step.percent
            case "drain" | "close":
                self.drained.add(step.site)
            case "undrain" | "open":
                self.drained.discard(step.site)
            case "start" | "change":
                self.version[step.site] = "new"
            case "stop":
                self.version[step.site] = "none"
            case "retire":
                assert self.version[step.site] == "new", "the canary goes when its version is promoted"
                self.canary.pop(step.site, None)

    def undo(self, step: Step) -> None:
        match step.kind:
            case "canary":
                self.canary.pop(step.site, None)
            case "share" if step.site in self.canary:
                self.canary[step.site] = 0
            case "drain" | "close":
                self.drained.discard(step.site)
            case "undrain" | "open":
                self.drained.add(step.site)
            case "change" | "stop":
                self.version[step.site] = "old"
            case "start":
                self.version[step.site] = "none"


OUTCOMES = st.lists(st.sampled_from(["passes", "killed before", "killed after", "fails", "asked back"]))


@given(CHANGES, SHARES, OUTCOMES)
def test_whatever_happens_it_ends_all_new_or_all_as_it_was(
    changes: list[SiteChange], shares: list[int], outcomes: list[str]
) -> None:
    world, now = World.of(changes), begin(steps_of(changes, shares))
    for outcome in [*outcomes, *["passes"] * (2 * len(now.steps) + 1)]:
        if (step := now.step) is None:
            break
        if outcome == "killed before":  # the state was written, and nothing was done
            now = Position.model_validate_json(now.model_dump_json())
            continue
        if outcome == "asked back":
            now = turned(now, "asked")
            continue
        (world.do if now.status == "going" else world.undo)(step)
        if outcome == "fails" and now.status == "going":
            now = turned(now, "failed")
        elif outcome != "killed after":
            now = passed(now)
    assert now.status in ("done", "undone")
    assert world.drained == set() or now.status == "done"
    assert world.canary == {}
    if now.status == "undone":
        assert world == World.of(changes)
    else:
        want = {each.site: "none" if each.how == "stop" else "new" for each in changes}
        assert world.version == want
        assert world.drained == {each.site for each in changes if each.how == "stop"}


@given(CHANGES, SHARES)
def test_the_way_back_is_the_way_there(changes: list[SiteChange], shares: list[int]) -> None:
    steps = steps_of(changes, shares)
    for at in range(len(steps)):
        now, back = turned(Position(steps=tuple(steps), at=at), "why"), []
        while (step := now.step) is not None:
            back.append(step)
            now = passed(now)
        assert back == steps[at::-1]
        assert (now.status, now.reason) == ("undone", "why")


@given(CHANGES, SHARES)
def test_the_first_site_is_judged_longest(changes: list[SiteChange], shares: list[int]) -> None:
    steps = steps_of(changes, shares)
    tried = [each.site for each in steps if each.kind == "canary"]
    for number, site in enumerate(tried):
        given_ = [each.percent for each in steps if each.kind == "share" and each.site == site]
        assert given_ == (shares if number == 0 else shares[-1:])
    kinds = [each.kind for each in steps]
    assert "start" not in kinds[kinds.index("change") :] if "change" in kinds else True
    assert len(set(tried)) == len(tried)


def test_an_end_is_an_end() -> None:
    done = passed(begin([Step(kind="change", site="a")]))
    assert done.status == "done"
    assert turned(done, "too late") == done
    assert passed(done) == done
    assert begin([]).status == "done"
    assert machine.turned(turned(Position(steps=done.steps), "first"), "second").reason == "first"
