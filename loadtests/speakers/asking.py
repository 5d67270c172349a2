"""What speakers have in common: what is asked in turn, and what answers come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

from loadtests import inputs
from loadtests.campaign import Work
from loadtests.inputs import Payload, judging
from loadtests.inputs.judging import Found
from loadtests.inputs.tensors import questions
from loadtests.results import Outcome
from models.errors import UsageError
from serving import credential
from serving.fleet import CLASS_HEADER, AppName

SITE_HEADER, ATTEMPTS_HEADER = "x-headend-site", "x-envoy-attempt-count"
_SAID = 300
"""Characters that are kept of what a server says with an error."""
_TAKES: dict[AppName, tuple[inputs.Kind, ...]] = {"subtitles": ("speech",), "review": ("text", "picture")}
_JUDGES: dict[AppName, Callable[[Mapping[str, Any], Payload], Found]] = {
    "subtitles": judging.subtitles,
    "review": judging.review,
}

Asked = TypeVar("Asked")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request."""

    outcome: Outcome
    site: str = ""
    """The site that answered; empty when nobody did, or did not say."""
    attempts: int = 1
    """Attempts that the front door made."""
    detail: str = ""
    """What was wrong, in a sentence."""
    edits: int = 0
    """Characters that differ from a transcript, of `characters` in it."""
    characters: int = 0


class Headers(Protocol):
    """Of an answer; every client has its own class for them."""

    def get(self, name: str, default: str, /) -> Any:
        """The value of one."""
        ...


class Turns(Generic[Asked]):
    """What is asked in turn, over all speakers of a process: many speakers together send all of it alike."""

    def __init__(self, each: Sequence[Asked]) -> None:
        self._each, self._number = each, count()

    def next(self) -> Asked:
        """The next one."""
        return self._each[next(self._number) % len(self._each)]

    def __iter__(self) -> Iterator[Asked]:
        return iter(self._each)


@cache
def of_app(app: AppName, name: str) -> Turns[Payload]:
    """What is sent to an app with the input `name`. Raises `UsageError` when it does not take that."""
    given = inputs.get(name)
    if given.kind not in _TAKES[app]:
        fitting = [one for one in inputs.names() if inputs.get(one).kind in _TAKES[app]]
        raise UsageError(
            f"app `{app}` does not take the input `{name}`", hint=f"It takes {', '.join(fitting)}."
        )
    return Turns(given.payloads)


def check(work: Work) -> None:
    """Raise `UsageError` when the work's input is not known or does not fit what is asked."""
    if work.app:
        of_app(work.app, work.input)
    elif work.model:
        questions(work.model, work.input, work.batch)


def judge_app(app: AppName, answer: Mapping[str, Any], payload: Payload) -> Found:
    """Whether an app's answer is right."""
    return guarded(lambda: _JUDGES[app](answer, payload))


def guarded(judge: Callable[[], Found]) -> Found:
    """What `judge` finds; an answer that it cannot even look into is wrong."""
    try:
        return judge()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        return Found(f"the answer is not of the form that was asked for: {error!r}")


def url_of(address: str) -> str:
    """Of a front door."""
    return address if _is_secure(address) else f"http://{address}"


def dialled(address: str) -> tuple[str, bool]:
    """A front door's `host:port`, and whether it takes TLS."""
    return address.removeprefix("https://"), _is_secure(address)


def _is_secure(address: str) -> bool:
    return address.startswith("https://")


def identifying(work: Work) -> dict[str, str]:
    """Headers of every request: its class, and the key of whoever runs the campaign."""
    return {CLASS_HEADER: work.class_, **credential.headers()}


def answered(found: Found, headers: Headers) -> Answer:
    """An answer that came."""
    outcome: Outcome = "wrong" if found.problem else "ok"
    return Answer(outcome, *_way(headers), found.problem, found.edits, found.characters)


def failed(outcome: Outcome, detail: str, headers: Headers | None = None) -> Answer:
    """An error, with the headers of the answer that said so."""
    return Answer(
        outcome,
        *_way({} if headers is None else headers),
        credential.hidden(" ".join(detail.split()))[:_SAID],
    )


def of_status(status: int) -> Outcome:
    """What an HTTP status other than 2xx stands for."""
    if status in (429, 503):
        return "refused"
    return "client-error" if 400 <= status < 500 else "server-error"


def _way(headers: Headers) -> tuple[str, int]:
    """The answering site and the attempts. Envoy writes `-` for a site when nobody was asked."""
    site, attempts = headers.get(SITE_HEADER, ""), headers.get(ATTEMPTS_HEADER, "")
    return "" if site == "-" else site, int(attempts) if attempts.isdecimal() else 1
