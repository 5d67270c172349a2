"""A build as a plain script, for whoever wants to see or change what one step does."""

from __future__ import annotations

_SCRIPT = '''\
"""What `headend models build {name}` does, step by step. Run it in an empty directory; it stores nothing."""

import shutil
from pathlib import Path

from models import gate, graphs, precisions, sources
from models.catalog_index import load_card
from models.recipes import CardRecipe

card = load_card("{name}")
recipe = CardRecipe(card)
exported, slim, variants, parity = map(Path, ("export", "simplify", "variants", "parity"))
for directory in (exported, slim, variants / "files", parity):
    directory.mkdir(parents=True)

source = sources.fetch(card)
recipe.export(source, exported)
for graph, file in card.graphs.items():
    print(graph, graphs.check(exported / file))
    print(graph, graphs.simplify(exported / file, slim / f"{{graph}}.onnx"))
    for precision in sorted({{"fp32", *card.precisions}}):
        target = variants / "graphs" / precision / f"{{graph}}.onnx"
        target.parent.mkdir(parents=True, exist_ok=True)
        precisions.convert(slim / f"{{graph}}.onnx", target, precision)
for name in card.files:
    shutil.copyfile(exported / name, variants / "files" / name)
print(gate.prove(card, recipe, source, exported, variants, parity, print))
'''


def script(name: str) -> str:
    """The script for one model."""
    return _SCRIPT.format(name=name)
