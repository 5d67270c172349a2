"""Figures as a person reads them."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.results import Judged, Outcome

OUTCOMES: dict[Outcome, str] = {
    "ok": "right",
    "wrong": "wrong answers",
    "refused": "refused as full",
    "timeout": "timed out",
    "connection": "lost connections",
    "client-error": "rejected requests",
    "server-error": "server errors",
    "not-sent": "not sent: too many waited",
}
DAY_S = 86_400


def ms(value: float) -> str:
    """A latency, milliseconds: `0.84 ms`, `123 ms`, `1.23 s`, `2:05 min`."""
    if value < 1e3:
        return f"{_three(value)} ms"
    return f"{_three(value / 1e3)} s" if value < 100e3 else f"{clock(value / 1e3)} min"


def _three(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def brief_ms(value: float) -> str:
    """A latency that a person chose: `60 ms`, `2.5 s`."""
    if value < 1e3:
        return f"{value:g} ms" if value else "0"
    return f"{value / 1e3:g} s" if value < 120e3 else f"{value / 60e3:g} min"


def share(value: float) -> str:
    """A share of 1, in percent; what is not quite none or all of it never reads as if it were."""
    if 0 < value < 0.0001:
        return "< 0.01%"
    if 0.9999 < value < 1:
        return "> 99.99%"
    digits = 2 if value < 0.1 or value > 0.99 else 1
    return f"{100 * value:.{digits}f}".rstrip("0").rstrip(".") + "%" if value else "0%"


def rate(value: float) -> str:
    """Requests a second."""
    return f"{_three(value)}/s" if value < 1e3 else f"{value:,.0f}/s"


def clock(seconds: float) -> str:
    """A moment of the run: `0:07`, `12:30`, `5:00:00`, `2 d 5:00:00`."""
    whole = round(seconds)
    days, rest = divmod(whole, DAY_S)
    hours, rest = divmod(rest, 3_600)
    text = f"{hours}:{rest // 60:02}:{rest % 60:02}" if days or hours else f"{rest // 60}:{rest % 60:02}"
    return f"{days} d {text}" if days else text


def length(seconds: float) -> str:
    """How long something took: `42 s`, `10 min`, `7 days`."""
    for unit, of in (("days", DAY_S), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * of:
            return f"{seconds / of:.3g} {unit}"
    return f"{seconds:.3g} s"


def value(judged: Judged) -> str:
    """What an objective came to, exactly enough to tell it from the limit."""
    if judged.value is None:
        return "nothing"
    texts = {"ms": (ms, "{:,.3f} ms"), "share": (share, "{:.4%}"), "count": ("{:,.0f}".format, "{:,.3f}")}
    brief, exact = texts[judged.unit]
    text = brief(judged.value)
    same = text == brief(judged.limit) and judged.value != judged.limit
    return exact.format(judged.value) if same else text


def limit(judged: Judged) -> str:
    """What an objective asks for."""
    units = {"ms": brief_ms, "share": share, "count": "{:,g}".format}
    return f"{'at least' if judged.objective == 'goodput' else 'at most'} {units[judged.unit](judged.limit)}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """`a, b and c`, or `a, b, c and 9 more`."""
    shown = list(names[:most])
    if left := len(names) - len(shown):
        return f"{', '.join(shown)} and {left} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
