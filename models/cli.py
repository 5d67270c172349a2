"""`headend models`: see, build, prove, import and compile models."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from models.bundle import Bundle, open_bundle
from models.card import Card, Precision
from models.catalog_index import card_names, is_packaged, list_cards, load_card
from models.console import err, out, print_json
from models.errors import UsageError
from models.signing import DEVELOPMENT_NOTICE
from models.store import open_store

app = typer.Typer(
    name="models",
    help="Models: one card, one way. Weights are fetched by digest, exported to ONNX, proven equal to their "
    "source, signed, and kept in a store that sites pull from.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="A directory or fsspec URL; by default $HEADEND_HOME/store."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A model; see `headend models list`.")]


@app.command("list")
def list_(json: Json = False, store: StoreUrl = None) -> None:
    """What models there are, and which have a bundle."""
    kept = open_store(store)
    rows: list[dict[str, Any]] = [
        {
            "name": card.name,
            "title": card.title,
            "task": card.task,
            "version": card.version,
            "licence": card.licence,
            "precisions": card.precisions,
            "imported": not is_packaged(card.name),
            "bundle": kept.current(card.name),
        }
        for card in list_cards()
    ]
    if json:
        return print_json({"models": rows})
    table = Table("name", "what it is", "licence", "precisions", "bundle", box=None, pad_edge=False)
    for row in rows:
        bundle = f"{row['bundle']:.12}" if row["bundle"] else "not built"
        table.add_row(row["name"], row["title"], row["licence"], ", ".join(row["precisions"]), bundle)
    out.print(table)


@app.command()
def show(name: Name, json: Json = False, store: StoreUrl = None) -> None:
    """A model's card, its current bundle and how close each precision is to the source."""
    card = load_card(name)
    kept = open_store(store)
    bundle = kept.fetch(name) if kept.current(name) else None
    if json:
        about = _about(bundle) if bundle else None
        return print_json({"card": card.model_dump(mode="json"), "bundle": about})
    out.print(f"{card.name}: {card.title} ({card.task}, version {card.version}, licence {card.licence})")
    if card.notice:
        out.print(card.notice)
    _print_tensors(card)
    if bundle is None:
        out.print(f"\nNo bundle yet: headend models build {name}")
        return None
    out.print(f"\nbundle {bundle.digest}\n  at {bundle.path}")
    for line in _parity_lines(bundle):
        out.print(f"  {line}")
    return _say_key(bundle.development)


@app.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Which models.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every card there is.")] = False,
    json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Build models into signed bundles, and make them current in the store.

    Steps already done for the same card, weights and tools are kept, also after an interruption. A model that
    is not equal to its source within its card's tolerances is not built.
    """
    from models.build import build as build_one  # needs the extra `build`; the other commands do not
    from models.watch import Watch

    chosen = card_names() if all_ else names or []
    if not chosen:
        raise UsageError(
            "Name the models to build, or say --all.", hint=f"There are: {', '.join(card_names())}."
        )
    for name in chosen:
        load_card(name)  # a mistyped last name is said before the first is built
    with Watch() as watch:
        built = [build_one(name, store=open_store(store), listener=watch) for name in chosen]
    if json:
        print_json({"built": [_plain(vars(result)) for result in built]})
    else:
        for result in built:
            out.print(f"{result.name} {result.digest}")
    _say_key(any(result.development for result in built))


@app.command()
def verify(
    name: Name,
    digest: Annotated[str | None, typer.Option(help="A bundle other than the current one.")] = None,
    json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Hash every file of a model's bundle again and check its signature; exit code 1 names the first bad
    file.
    """
    bundle = open_store(store).fetch(name, digest)
    bundle = open_bundle(bundle.path, bundle.digest, full=True)
    if json:
        return print_json(_about(bundle))
    out.print(f"{name} {bundle.digest} is whole; signed with key {bundle.signed_by}, which is trusted here.")
    return _say_key(bundle.development)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.onnx", help="The model.")],
    card: Annotated[Path, typer.Option("--card", metavar="CARD.yaml", help="Its card; see `schema`.")],
    json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Take your own ONNX file in, the same way as the catalog's models.

    Recorded inputs are read from `cases/*.npz` beside the card (one array per input, with the batch
    dimension); without them the variants are compared with the original on generated numbers, and the report
    says so.
    """
    from models.importing import register

    name = register(file, card)
    err.print(f"{name} is registered; building it.")
    build([name], json=json, store=store)


@app.command()
def engine(
    name: Name,
    precision: Annotated[
        str | None, typer.Option(help="fp32 or fp16; by default fp16 where there is one.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Try anew what failed before.")] = False,
    json: Json = False,
    store: StoreUrl = None,
) -> None:
    """Compile a model's bundle into TensorRT plans for this machine's GPU, and prove them.

    An engine that cannot be built or is not equal to its source is not used: ONNX Runtime serves the model,
    and the reason is said here.
    """
    from models.engine import build_engine

    if precision not in (None, "fp32", "fp16"):
        raise UsageError(f"`{precision}` is not a precision of engines.", hint="Choose fp32 or fp16.")
    load_card(name)
    bundle = open_store(store).fetch(name)
    _say_key(bundle.development)
    with err.status(f"{name}: compiling for this GPU; this takes minutes the first time"):
        result = build_engine(bundle, cast("Precision | None", precision), again=again)
    if json:
        about = {"key": asdict(result.key), "path": str(result.path) if result.path else None}
        return print_json({**about, "reason": result.reason})
    if result.path is None:
        return out.print(f"{name}: no engine, ONNX Runtime serves it. {result.reason}", markup=False)
    return out.print(f"{name}: {result.key.precision} engine for {result.key.gpu} at {result.path}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a card, for editors."""
    print_json(Card.model_json_schema())


def _about(bundle: Bundle) -> dict[str, Any]:
    return {
        "name": bundle.card.name,
        "digest": bundle.digest,
        "path": str(bundle.path),
        "signed_by": bundle.signed_by,
        "development_key": bundle.development,
        "parity": bundle.parity(),
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def _print_tensors(card: Card) -> None:
    batch = "[batch] + " if card.serving.max_batch_size else ""
    for role, tensors in (("input ", card.serving.inputs), ("output", card.serving.outputs)):
        for tensor in tensors:
            optional = " (optional)" if tensor.optional else ""
            out.print(f"  {role} {tensor.name}: {tensor.dtype} {batch}{tensor.shape}{optional}", markup=False)


def _parity_lines(bundle: Bundle) -> list[str]:
    lines = []
    for precision, found in bundle.parity()["precisions"].items():
        worst = max((item["max_absolute"] for item in found["tensors"]), default=0.0)
        line = f"{precision}: largest difference to the source {worst:g}"
        if rate := found.get("character_error_rate"):
            line += f", character error rate {rate['found']:.2%} (source {rate['source']:.2%})"
        lines.append(line)
    return lines


def _say_key(development: bool) -> None:
    if development:
        err.print(f"Note: {DEVELOPMENT_NOTICE}.")
