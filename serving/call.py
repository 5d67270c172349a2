"""`headend call`: ask the fleet's apps through its front doors, as any client would."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import typer
from rich.markup import escape

from models.console import err, out, print_json
from models.errors import HeadendError, UsageError
from serving import credential, trust
from serving.fleet import Fleet
from serving.site.status import running_fleet

app = typer.Typer(
    help="Ask the fleet's apps: subtitles for speech, a review of pictures and text. Where front doors ask "
    "for a key, it is taken from the environment variable HEADEND_API_KEY.",
    no_args_is_help=True,
)

Format = Literal["srt", "vtt", "ttml", "json", "verbose_json", "text"]
FleetFile = Annotated[
    Path | None,
    typer.Option("--fleet", "-f", help="The fleet's declaration; by default the fleet that runs here."),
]
OneSite = Annotated[str | None, typer.Option("--site", help="Ask this site's front door only.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Write one JSON object to standard output, for scripts.")
]

_COLOUR = {"pass": "green", "review": "yellow", "block": "red"}
_TIMEOUT = httpx.Timeout(600, connect=5)


@app.command()
def subtitles(
    file: Annotated[Path, typer.Argument(help="Any video or audio file.", exists=True, dir_okay=False)],
    format: Annotated[Format, typer.Option("--format", help="What to write.")] = "srt",
    language: Annotated[
        str, typer.Option("--language", help="What is spoken (`zh`, `en`, …); by default detected.")
    ] = "",
    site: OneSite = None,
    fleet: FleetFile = None,
    as_json: AsJson = False,
) -> None:
    """Write subtitles of the speech in FILE to standard output."""
    fields = {"model": "subtitles", "response_format": format} | ({"language": language} if language else {})

    def ask(client: httpx.Client) -> httpx.Response:
        with file.open("rb") as content:
            return client.post("/v1/audio/transcriptions", data=fields, files={"file": (file.name, content)})

    with err.status(f"listening to {file.name}"):
        response, door = _first_answer(_doors(fleet, site), ask)
    answered = _answered(response, door)
    if as_json:
        print_json({**answered, "format": format, "content": response.text})
    else:
        typer.echo(response.text.rstrip("\n"))


@app.command()
def review(
    subject: Annotated[
        str, typer.Argument(metavar="FILE|TEXT", help="A picture, a text file, or the text itself.")
    ],
    site: OneSite = None,
    fleet: FleetFile = None,
    as_json: AsJson = False,
) -> None:
    """Review a picture or a text: decision, categories, on-screen text and terms found."""
    body = {"model": "review", "input": _input(subject)}
    with err.status("reviewing"):
        response, door = _first_answer(
            _doors(fleet, site), lambda client: client.post("/v1/moderations", json=body)
        )
    answer, answered = response.json(), _answered(response, door)
    if as_json:
        print_json({**answered, "answer": answer})
    else:
        _show_review(answer)


def _doors(file: Path | None, site: str | None) -> list[str]:
    fleet = Fleet.load(file) if file else running_fleet()
    if site is None:
        return [entry.url for entry in fleet.sites.values()]
    if site not in fleet.sites:
        raise UsageError(
            f"Fleet {fleet.fleet} has no site `{site}`.", hint=f"Its sites: {', '.join(fleet.sites)}."
        )
    return [fleet.sites[site].url]


def _first_answer(
    doors: list[str], ask: Callable[[httpx.Client], httpx.Response]
) -> tuple[httpx.Response, str]:
    """The answer of the first front door that can be reached, and its address. `doors`: their URLs."""
    for url in doors:
        door = url.partition("//")[2]
        try:
            with httpx.Client(
                base_url=url,
                headers=credential.headers(),
                timeout=_TIMEOUT,
                trust_env=False,
                verify=trust.client_context(),
            ) as client:
                response = ask(client)
        except httpx.ConnectError:
            continue
        except httpx.HTTPError as error:
            raise HeadendError(
                f"The front door at {door} broke off: {error or type(error).__name__}.",
                hint="See: headend status",
            ) from error
        if response.is_error:
            raise HeadendError(f"{_sentence(response)} (HTTP {response.status_code} from {door})")
        return response, door
    raise HeadendError(
        f"No front door answers at {' or '.join(url.partition('//')[2] for url in doors)}.",
        hint="Start the fleet: headend up",
    )


def _answered(response: httpx.Response, door: str) -> dict[str, Any]:
    """Who answered and how fast; also said on standard error."""
    found = {
        "front_door": door,
        "site": response.headers.get("x-headend-site", ""),
        "seconds": round(response.elapsed.total_seconds(), 3),
    }
    err.print("[dim]answered by site {site} through {front_door} in {seconds:.1f} s[/]".format(**found))
    return found


def _sentence(response: httpx.Response) -> str:
    """What the service said, which is `{"error": {"message": …}}` for `/v1`."""
    try:
        error = response.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return response.text.strip()[:500] or response.reason_phrase


def _input(subject: str) -> str | list[dict[str, Any]]:
    path = Path(subject)
    kind = mimetypes.guess_type(subject)[0] or ""
    if len(subject) > 255 or not path.is_file():
        if kind.startswith("image/"):
            raise UsageError(f"There is no file {subject}.")
        return subject
    if kind.startswith("image/"):
        data = base64.b64encode(path.read_bytes()).decode()
        return [{"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}]
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is neither a picture (by its name) nor UTF-8 text.",
            hint="Pictures: .jpg, .png, .webp, …",
        ) from error


def _show_review(answer: dict[str, Any]) -> None:
    for result in answer["results"]:
        verdict = result["headend"]
        decision = verdict["decision"]
        out.print(f"[bold {_COLOUR[decision]}]{decision}[/] by policy {verdict['policy']['version']}")
        for reason in verdict["reasons"]:
            out.print(
                f"  {reason['action']}: {reason['category']} {reason['score']:.2f} ({reason['because']})"
            )
        scores = ", ".join(f"{name} {result['category_scores'][name]:.2f}" for name in verdict["judged"])
        out.print(f"  judged for: {scores or 'nothing'}")
        for term in verdict["evidence"]["terms"]:
            out.print(
                f"  term “{escape(term['term'])}” of {term['category']} found as “{escape(term['found'])}”"
            )
        for image in verdict["evidence"]["images"]:
            for line in (line for frame in image["looked_at"] for line in frame["lines"]):
                out.print(f"  reads “{escape(line['text'])}” ({line['confidence']:.2f})")
