"""A model's way from card to store, as declared steps: see `models.steps` for how they are kept and
resumed.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

from models import bundle, by_hand, gate, generated, graphs, metric, parity, precisions, recorded, sources
from models.bundle import is_sound, open_bundle, write_bundle
from models.card import BASE, Card, Precision
from models.catalog_index import card_directory, load_card
from models.errors import BuildError
from models.files import digest, locked, sha256_file, write_atomic
from models.home import home
from models.recipes import CardRecipe
from models.signing import load_signer
from models.steps import RECORD, Chain, Event, Listener, Say, Step
from models.store import Store, open_store


@dataclass(frozen=True)
class Built:
    """What a build ended with."""

    name: str
    digest: str
    path: Path
    development: bool
    """Signed with this machine's development key."""
    record: Path
    """JSON: every step with its status, seconds and what it did; `by_hand.py` beside it does the same as a
    script.
    """


def _nobody(event: Event) -> None:
    """A listener that does not listen."""


def build(name: str, *, store: Store | None = None, listener: Listener = _nobody) -> Built:
    """Build a model and make it current in the store; steps already done for the same inputs are kept.

    Raises `BuildError` (a step failed), `IntegrityError` (the source is not what the card pins) and
    `UsageError` (no such model). Whatever fails, the store keeps what it had.
    """
    card = load_card(name)
    root = home() / "build" / name
    with locked(root / ".lock", busy=f"{name} is being built by another process."):
        return _Build(card, root, store or open_store(), listener).run()


class _Build:
    def __init__(self, card: Card, root: Path, store: Store, listener: Listener) -> None:
        self.card, self.root, self.store = card, root, store
        self.recipe = CardRecipe(card)
        self.chain = Chain(card.name, root, listener)
        self.signer = load_signer()

    def run(self) -> Built:
        write_atomic(self.root / "by_hand.py", by_hand.script(self.card.name).encode())
        steps = (self.fetch, self.export, self.check, self.simplify, self.variants, self.parity, self.bundle)
        for make in (*steps, self.publish):
            self.chain.do(make())
        record = self.root / "record.json"
        about = {"model": self.card.name, "bundle": self.digest, "steps": self.chain.records}
        write_atomic(record, json.dumps(about, indent=2, ensure_ascii=False).encode())
        return Built(self.card.name, self.digest, _local(self.digest), self.signer.development, record)

    @property
    def digest(self) -> str:
        """Digest of the bundle that the step `bundle` made."""
        return (self.chain.output("bundle") / "digest").read_text().strip()

    def fetch(self) -> Step:
        def run(out: Path, say: Say) -> str:
            directory = sources.fetch(self.card, say)
            files = sources.source_files(self.card)
            (out / "source.json").write_text(json.dumps(files, indent=2, sort_keys=True))
            size = sum((directory / name).stat().st_size for name in files)
            return f"{len(files)} files, {size / 1e6:.1f} MB, digests as pinned"

        return Step("fetch", (), self.card.source.model_dump(mode="json"), run)

    def export(self) -> Step:
        wanted = [*self.card.graphs.values(), *self.card.files]

        def run(out: Path, say: Say) -> str:
            say("exporting", None)
            self.recipe.export(sources.fetch(self.card), out)
            if missing := [name for name in wanted if not (out / name).is_file()]:
                raise BuildError(f"{self.card.name}: the export did not write {', '.join(missing)}.")
            return f"{'recipe' if self.recipe.own('export') else 'native'}: {', '.join(wanted)}"

        inputs = [wanted, self.recipe.code(), _tools("onnx", "numpy")]
        return Step("export", ("fetch",), inputs, run)

    def check(self) -> Step:
        def run(out: Path, say: Say) -> str:
            found = {}
            for graph, file in self.card.graphs.items():
                say(graph, None)
                found[graph] = graphs.check(self.chain.output("export") / file)
                if self.card.serving.runtime == "onnx":
                    graphs.check_against_card(self.chain.output("export") / file, self.card)
            (out / "graphs.json").write_text(json.dumps(found, indent=2))
            return "; ".join(
                f"{graph}: {about['nodes']} nodes, {about['parameters'] / 1e6:.2f} M parameters, sound"
                for graph, about in found.items()
            )

        inputs = [_serving(self.card), _code(graphs), _tools("onnx")]
        return Step("check", ("export",), inputs, run)

    def simplify(self) -> Step:
        def run(out: Path, say: Say) -> str:
            did = []
            for graph, file in self.card.graphs.items():
                say(graph, None)
                change = graphs.simplify(self.chain.output("export") / file, out / f"{graph}.onnx")
                graphs.check(out / f"{graph}.onnx")
                did.append(f"{graph}: {change}")
            return "; ".join(did)

        inputs = [self.card.graphs, _code(graphs), _tools("onnx", "onnxslim")]
        return Step("simplify", ("export", "check"), inputs, run)

    def variants(self) -> Step:
        """All precisions, laid out as in the bundle."""

        def run(out: Path, say: Say) -> str:
            for precision in self.precisions:
                for graph in self.card.graphs:
                    say(f"{graph} {precision}", None)
                    target = out / "graphs" / precision / f"{graph}.onnx"
                    target.parent.mkdir(parents=True, exist_ok=True)
                    precisions.convert(self.chain.output("simplify") / f"{graph}.onnx", target, precision)
            (out / "files").mkdir()
            for name in self.card.files:
                shutil.copyfile(self.chain.output("export") / name, out / "files" / name)
            sizes = {p: _size(out / "graphs" / p) for p in self.precisions}
            return ", ".join(f"{precision} {size / 1e6:.1f} MB" for precision, size in sizes.items())

        inputs = [self.precisions, list(self.card.files), _code(precisions), _tools("onnx", "onnxruntime")]
        return Step("variants", ("export", "simplify"), inputs, run)

    @property
    def precisions(self) -> list[Precision]:
        """The card's precisions; fp32 is always among them."""
        return sorted({*BASE, *self.card.precisions})

    def parity(self) -> Step:
        def run(out: Path, say: Say) -> str:
            return gate.prove(
                self.card,
                self.recipe,
                sources.fetch(self.card),
                self.chain.output("export"),
                self.chain.output("variants"),
                out,
                say,
            )

        inputs = [
            self.card.parity.model_dump(mode="json"),
            self.recipe.code(),
            self.recipe.recordings(),
            _code(gate, generated, metric, parity, recorded),
            _tools("onnxruntime", "numpy"),
        ]
        return Step("parity", ("fetch", "export", "variants"), inputs, run)

    def bundle(self) -> Step:
        card = (card_directory(self.card.name) / "card.yaml").read_bytes()

        def run(out: Path, say: Say) -> str:
            contents = out / "contents"
            for step in ("variants", "parity"):
                made, record = self.chain.output(step), shutil.ignore_patterns(RECORD)
                shutil.copytree(made, contents, ignore=record, dirs_exist_ok=True)
            (contents / "card.yaml").write_bytes(card)
            path = write_bundle(contents, self.card, self.signer, home() / "store" / "bundles")
            shutil.rmtree(contents)
            (out / "digest").write_text(path.name)
            return f"{path.name[:12]}…, {_size(path) / 1e6:.1f} MB, signed with key {self.signer.key_id}"

        inputs = [digest(card), self.signer.key_id, _code(bundle)]
        return Step(
            "bundle", ("variants", "parity"), inputs, run, lambda: is_sound(_local(self.digest), self.digest)
        )

    def publish(self) -> Step:
        def run(out: Path, say: Say) -> str:
            self.store.put(open_bundle(_local(self.digest), self.digest))
            return f"current in {self.store.url}"

        def holds() -> bool:
            return self.store.current(self.card.name) == self.digest and self.store.has(self.digest)

        return Step("store", ("bundle",), [self.store.url], run, holds)


def _local(bundle: str) -> Path:
    return home() / "store" / "bundles" / bundle


def _serving(card: Card) -> dict[str, object]:
    """What is declared of serving. A card without sequences says what it said before there were any."""
    return card.serving.model_dump(mode="json", exclude=None if card.serving.sequences else {"sequences"})


def _code(*modules: ModuleType) -> dict[str, str]:
    """sha256 of the code that a step runs: a new headend does its own work, not what an older one left."""
    return {module.__name__: sha256_file(Path(str(module.__file__))) for module in modules}


def _tools(*names: str) -> dict[str, str]:
    return {name: version(name) for name in names}


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
