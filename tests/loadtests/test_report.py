"""The report says what the result says, needs nothing beside it, and copes with whatever a run leaves."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from loadtests import report
from loadtests.campaign import Campaign
from loadtests.report import charts, facts, overview, style, words
from loadtests.report.page import html
from loadtests.report.traffic import NOBODY, flows
from loadtests.report.view import COLOURED, OTHERS, View
from loadtests.results import Happened, Judged, Result, ServerSample
from models.errors import DeclarationError
from tests.loadtests.made_runs import WELL, Answer, lognormal, made, record, small

VOID = {"meta", "img", "source", "br", "link"}


class Page(HTMLParser):
    """Text and addresses of a page; fails where tags do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title") and data.strip():
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def news(doors: tuple[str, ...] = ("hub", "edge"), seconds: float = 60, rate: float = 30) -> Campaign:
    works = [
        {"name": "subtitles", "app": "subtitles", "client": "openai", "input": "clip", "class": "live"},
        {"name": "review", "app": "review", "client": "openai", "input": "text", "weight": 3},
        {
            "name": "pictures",
            "model": "open-nsfw",
            "client": "triton-http",
            "input": "picture",
            "class": "batch",
        },
    ]
    return Campaign.model_validate(
        {
            "campaign": "site-loss",
            "title": "两个站点，断开一个: a site is lost & comes back",
            "seconds": seconds,
            "warm_up_s": seconds / 20,
            "workload": works,
            "arrivals": [{"kind": "poisson", "rate": rate}],
            "events": [
                {"at_s": seconds * 0.4, "do": "cut", "site": doors[0]},
                {"at_s": seconds * 0.6, "do": "restore", "site": doors[0]},
            ],
            "objectives": {
                "classes": {"live": {"p50_ms": 900, "p99_ms": 3000}, "interactive": {"p99_ms": 400}},
                "error_rate": 0.005,
                "character_error_rate": 0.1,
            },
        }
    )


def losing(campaign: Campaign, other: str) -> Answer:
    """The first door's site is away from 40% to 60% of the time."""

    def answer(start: Any, random: np.random.Generator) -> Any:
        cut = 0.4 <= start.at / campaign.seconds < 0.6 and start.door == campaign.events[0].site
        took = {"subtitles": 0.7, "review": 0.05, "pictures": 0.2}[start.work.name]
        took *= float(np.exp(0.3 * random.normal())) * (1.5 if cut else 1)
        if cut and random.random() < 0.1:
            return record(start, took, site="", outcome="connection", detail="reset by <peer> & gone")
        heard = {"edits": 1, "characters": 23} if start.work.name == "subtitles" else {}
        return record(start, took, site=other if cut else start.door, attempts=1 + cut, **heard)

    return answer


def lost(doors: tuple[str, ...] = ("hub", "edge"), **other: Any) -> Result:
    campaign = news(doors)
    steady = {"per_second": 4, "compute_ms": 60, "batch": 1, "pending": 0}
    samples = [
        ServerSample(at_s=at, site=door, model=model, queue_ms=1 + at / 30, **steady)
        for at in range(2, 60, 4)
        for door in doors
        for model in ("open-nsfw", "whisper-base", "silero-vad")
    ]
    happened = [
        Happened(at_s=24, do=f"cut {doors[0]}", took_s=1.2),
        Happened(at_s=36, do=f"restore {doors[0]}", took_s=30, error="its Triton did not become ready"),
    ]
    given = {"server": samples, "events": happened, "fleet": {"fleet": "demo", "sites": {}}} | other
    return made(campaign, losing(campaign, doors[-1]), doors=doors, **given)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-loss")
    lost().save(folder)
    assert report.write(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page((written / "report.html").read_text("utf-8"))


def test_the_files(written: Path) -> None:
    names = {path.name for path in written.iterdir()}
    assert names == {
        "result.json", "report.html", "report.png", "report-latency.png", "report-throughput.png",
        "report-percentiles.png", "report-ways.png", "report-servers.png",
    }  # fmt: skip
    for path in written.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 400
            colours = picture.convert("RGB").getcolors(1 << 24) or []
            assert len(colours) > 50, f"{path.name} is empty"


def test_the_page_needs_nothing_beside_it(page: Page) -> None:
    assert page.addresses
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe", "object"} & set(page.seen)


def test_pictures_of_the_page_need_nothing_either(page: Page) -> None:
    for address in page.addresses:
        picture = ElementTree.fromstring(base64.b64decode(address.partition(",")[2]))
        assert not list(picture.iter("{http://www.w3.org/2000/svg}text")), "letters must not need a font"
        references = [
            value for each in picture.iter() for name, value in each.items() if name.endswith("href")
        ]
        assert all(value.startswith("#") for value in references)


def test_the_verdict_comes_first(page: Page) -> None:
    text = page.text
    assert "两个站点，断开一个: a site is lost & comes back" in text
    places = [
        text.index(each)
        for each in ("✕ Missed: error rate", "requests in 60 s to hub and edge", "Objectives")
    ]
    assert places == sorted(places)
    assert places[0] < 250


def test_what_the_page_says(page: Page) -> None:
    for each in (
        "live p99 at most 3 s",
        "character error rate at most 10% 4.35%",
        "Response time over the run",
        "0:24 cut hub",
        "failed its Triton did not become ready",
        "lost connections subtitles",
        "reset by <peer> & gone",
        "It kept up",
        "error_rate: 0.005",
        "fleet: demo",
        "hub: 127.0.0.1:8080",
    ):
        assert each in page.text, each


def test_what_others_wrote_is_text_only(written: Path) -> None:
    assert "<peer>" not in (written / "report.html").read_text("utf-8")


def test_the_same_result_gives_the_same_pictures() -> None:
    view = View(made(small(seconds=10), lognormal()))
    for chart in charts.CHARTS[:2]:
        assert charts.svg(chart, view, style.NARROW) == charts.svg(chart, view, style.NARROW)


def refusing(start: Any, _: np.random.Generator) -> Any:
    return record(start, 0.01, site="", outcome="refused", detail="HTTP 429")


def unnamed(start: Any, _: np.random.Generator) -> Any:
    return record(start, 0.02, site="")


ODD = {
    "nothing sent": lambda: made(small(rate=1e-9, seconds=20), lognormal()),
    "one request": lambda: made(
        small(rate=0.05, seconds=20, arrivals=[{"kind": "constant", "rate": 0.04}]), lognormal()
    ),
    "nothing right": lambda: made(small(seconds=10), refusing),
    "site not known": lambda: made(small(seconds=10), unnamed, doors=("127.0.0.1:8080",)),
    "twelve sites": lambda: lost(tuple(f"site-{number:02}" for number in range(12))),
    "a week": lambda: made(news(seconds=7 * 86_400, rate=0.005), losing(news(seconds=7 * 86_400), "edge")),
    "cut short at once": lambda: made(small(), lognormal(), until=0.0),
    "all warm-up": lambda: made(small(warm_up_s=30), lognormal(), until=20),
    "no objectives": lambda: made(small(objectives={}, seconds=10), lognormal()),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("error")
def test_odd_runs(name: str) -> None:
    result = ODD[name]()
    view = View(result)
    for chart in charts.CHARTS:
        assert charts.svg(chart, view, style.NARROW)
    assert overview.png(view).startswith(b"\x89PNG")
    assert facts.headline(result)
    assert facts.summary(result)
    assert [row.objective for row in facts.objectives(result)] == [each.objective for each in result.judged]
    assert all(0 <= row.filled <= 1 for row in facts.objectives(result))
    assert len(facts.works(result)) == len(result.campaign.workload)


@pytest.mark.parametrize(
    ("changed", "loud"),
    [
        (
            {"until": 30.0},
            "No verdict: the run was interrupted This is a partial report: the campaign asks for 60 s.",
        ),
        (
            {"generator": WELL.model_copy(update={"problems": ["A worker used 99% of its core."]})},
            "Invalid: the generator was the bottleneck These figures say nothing about the fleet.",
        ),
    ],
)
def test_what_must_not_be_taken_for_a_verdict_is_loud(changed: dict[str, Any], loud: str) -> None:
    result = made(small(rate=10), lognormal(), **changed)
    page = Page(html(View(result)))
    assert loud in page.text
    assert all(problem in page.text for problem in result.generator.problems)
    assert "✓ held" not in page.text
    assert "not judged" in page.text
    assert style.stamp_text(result) in ("PARTIAL", "INVALID")


def test_doors_and_sites() -> None:
    result = lost()
    ways = flows(View(result))
    assert set(ways) == {"hub", "edge"}
    assert ways["edge"].keys() == {"edge"}
    assert ways["hub"].keys() == {"hub", "edge", NOBODY}
    assert sum(each.total() for each in ways.values()) == result.sent


def test_sites_beyond_the_colours_are_drawn_as_one() -> None:
    view = View(lost(tuple(f"site-{number:02}" for number in range(12))))
    assert len(view.sites) == COLOURED
    assert view.sites[-1] == OTHERS
    assert view.sites[0] == "site-00", "the site that an event is about has a colour"
    assert view.shown("site-00") == "site-00"
    drawn = sum(
        view.rate(lambda one, site=site: one.right * (view.shown(one.site) == site)).sum()
        for site in view.sites
    )
    assert drawn == pytest.approx(view.rate(lambda one: one.right).sum())


def test_rates_are_of_what_was_sent() -> None:
    result = made(small(rate=80), lognormal())
    view = View(result)
    rate = view.rate(lambda one: one.sent)
    assert (rate * np.diff(view.fine.edges)).sum() == pytest.approx(sum(one.sent for one in result.slices))
    assert view.planned is not None
    assert view.planned.mean() == pytest.approx(80, rel=0.01)


def test_a_stall_is_seen() -> None:
    def stalled(start: Any, _: Any) -> Any:
        return record(start, 0.02 + max(0.0, 32 - start.at) * (start.at >= 30))

    view = View(made(small(rate=80), stalled, doors=("hub",)))
    worst = np.nanmax(view.latencies("interactive", "hub").p99)
    assert worst == pytest.approx(2000, rel=0.05)
    response, _ = view.curves["interactive"]
    assert response.ms[-1] == pytest.approx(2000, rel=0.05)


def test_without_a_result(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="No such file"):
        report.write(tmp_path)


def test_words() -> None:
    assert [words.ms(each) for each in (0.84, 12.34, 123.4, 1234, 65_000, 125_000)] == [
        "0.84 ms", "12.3 ms", "123 ms", "1.23 s", "65.0 s", "2:05 min",
    ]  # fmt: skip
    assert [words.share(each) for each in (0, 0.00001, 0.0104, 0.5, 0.9912, 0.99999, 1)] == [
        "0%", "< 0.01%", "1.04%", "50%", "99.12%", "> 99.99%", "100%",
    ]  # fmt: skip
    assert [words.clock(each) for each in (7, 750, 18_000, 190_800)] == [
        "0:07", "12:30", "5:00:00", "2 d 5:00:00",
    ]  # fmt: skip
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b"]) == "a and b"
    assert words.listed(list("abcde")) == "a, b, c and 2 more"


def test_what_is_over_a_limit_never_reads_as_the_limit() -> None:
    over = Judged(objective="error rate", limit=0.01, value=0.01003, unit="share", held=False)
    assert (words.limit(over), words.value(over)) == ("at most 1%", "1.0030%")
    late = Judged(objective="live p99", limit=300, value=300.4, unit="ms", held=False)
    assert (words.limit(late), words.value(late)) == ("at most 300 ms", "300.400 ms")


def test_of_a_target_that_is_not_ours_less_is_said() -> None:
    result = made(small(rate=10), lognormal(), doors=("127.0.0.1:8080",))
    text = Page(html(View(result))).text
    assert "Inside the sites" not in text
    assert "answered elsewhere" not in text
