"""The report's files: a page that needs nothing beside it, and pictures."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment
from markupsafe import Markup

from loadtests.report import charts, facts, overview, style, words
from loadtests.report.charts import CHARTS, Chart
from loadtests.report.style import Look
from loadtests.report.view import View
from loadtests.results import Result, Verdict
from models.errors import HeadendError
from models.files import write_atomic

PAGE, OVERVIEW = "report.html", "report.png"
_SIGNS: dict[Verdict, str] = {"held": "✓", "missed": "✕", "invalid": "⚠", "none": "–"}
_CSS_DPI = 96


@dataclass(frozen=True)
class _Picture:
    data: str
    """A `data:` address."""
    width: int
    height: int


def write(folder: Path) -> Path:
    """See `loadtests.report.write`."""
    result = Result.load(folder)
    view = View(result)
    try:
        write_atomic(folder / OVERVIEW, overview.png(view))
        for chart in _of_use(view):
            write_atomic(folder / f"report-{chart.name}.png", charts.png(chart, view))
        write_atomic(folder / PAGE, html(view).encode())
    except OSError as error:
        raise HeadendError(
            f"the report cannot be written: {error}", hint="Is there room, and may you write?"
        ) from error
    return folder / PAGE


def html(view: View) -> str:
    """The page."""
    result = view.result
    package = resources.files("loadtests.report")
    template = Environment(autoescape=True).from_string(package.joinpath("page.html").read_text("utf-8"))
    works = facts.works(result)
    return template.render(
        result=result,
        css=Markup(package.joinpath("page.css").read_text("utf-8")),  # noqa: S704 - our own file
        sign=_SIGNS[result.verdict],
        headline=facts.headline(result),
        summary=facts.summary(result),
        origin=facts.origin(result),
        facts=facts.facts(result),
        objectives=facts.objectives(result),
        charts=[_section(chart, view) for chart in _of_use(view)],
        works=works,
        characters=any(row.character_errors != "–" for row in works),
        generator=facts.generator(result),
        campaign=_yaml(result.campaign.model_dump(mode="json", by_alias=True, exclude_defaults=True)),
        fleet=_yaml(result.fleet) if result.fleet else "",
        outcomes=words.OUTCOMES,
        clock=words.clock,
        length=words.length,
    )


def _of_use(view: View) -> list[Chart]:
    """Charts that have something to show; of a target that is not ours nothing is known inside."""
    return [chart for chart in CHARTS if chart.name != "servers" or view.result.server]


def _section(chart: Chart, view: View) -> dict[str, Any]:
    return {
        "title": chart.title,
        "caption": chart.caption,
        "timed": chart.timed,
        "wide": _picture(chart, view, style.WIDE),
        "narrow": _picture(chart, view, style.NARROW),
    }


def _picture(chart: Chart, view: View, look: Look) -> _Picture:
    data = base64.b64encode(charts.svg(chart, view, look)).decode("ascii")
    return _Picture(
        f"data:image/svg+xml;base64,{data}",
        round(look.width * _CSS_DPI),
        round(chart.height(view, look) * _CSS_DPI),
    )


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
