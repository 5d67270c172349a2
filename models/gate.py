"""Proves every variant of a model: tensors case by case, then the task metric where there is one.

Some recorded inputs go into the bundle with the source's outputs (`models.recorded`), so that a site can
prove an engine that it compiles, and warm a model up, without the source.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models import metric, recorded
from models.card import BASE, Card
from models.generated import generated
from models.parity import ParityError, run_cases, summary
from models.recipes import CardRecipe
from models.runtime import runner
from models.steps import Say


def prove(
    card: Card, recipe: CardRecipe, source: Path, exported: Path, variants: Path, out: Path, say: Say
) -> str:
    """Write `parity.json` and recorded cases into `out`; returns a sentence on the result.

    `variants` is laid out as a bundle: `graphs/<precision>/<graph>.onnx` and `files/`. Raises `ParityError`
    for a variant that is not equal to its source.
    """
    reference = recipe.reference(source)
    given = recipe.cases(source, exported)
    cases = given or generated(card, reference)
    say(f"source runtime on {len(cases)} cases", None)
    expected = [reference(case.graph, case.inputs) for case in cases]
    texts = _Texts(recipe, source, say) if recipe.has_task_metric else None
    report: dict[str, Any] = {
        "reference": card.parity.reference,
        "runtime": f"onnxruntime {version('onnxruntime')}",
        "cases": [case.name for case in cases],
        "recorded": bool(given),
        "precisions": {},
    }
    did = []
    for precision in sorted({*BASE, *card.precisions}):
        say(f"{precision} on {len(cases)} cases", None)
        run = runner({graph: variants / "graphs" / precision / f"{graph}.onnx" for graph in card.graphs})
        results = run_cases(card, precision, cases, expected, run)
        found: dict[str, Any] = {"tensors": summary(results)}
        sentence = f"{precision} within {max(result.max_absolute for result in results):.2g}"
        if texts:
            found["character_error_rate"] = rate = texts.rate(card, precision, variants)
            sentence += f", CER {rate['found']:.2%} (source {rate['source']:.2%})"
        report["precisions"][precision] = found
        did.append(sentence)
    (out / "parity.json").write_text(json.dumps(report, indent=2, ensure_ascii=False), "utf-8")
    recorded.write(cases, expected, out / "cases")
    return "; ".join(did)


class _Texts:
    """Texts of the source and of variants for the recipe's clips, and their error rates."""

    def __init__(self, recipe: CardRecipe, source: Path, say: Say) -> None:
        self._recipe, self._say = recipe, say
        self._clips = list(recipe.own("clips")())
        self._right = [clip.text for clip in self._clips]
        say(f"source runtime on {len(self._clips)} clips", None)
        self._source_texts: list[str] = recipe.own("reference_texts")(source, self._clips)
        self._source_rate = metric.error_rate(self._source_texts, self._right)

    def rate(self, card: Card, precision: Any, variants: Path) -> dict[str, Any]:
        """Error rates of one variant. Raises `ParityError` if it rose by more than the card allows."""
        self._say(f"{precision} on {len(self._clips)} clips", None)
        texts: list[str] = self._recipe.own("texts")(variants, precision, self._clips)
        found = metric.error_rate(texts, self._right)
        allowed = card.parity.max_error_rate_rise.get(precision, 0.0)
        if found - self._source_rate > allowed + 1e-12:
            lines = "\n".join(
                f"{clip.name}: `{text}`, the source `{source}`, spoken or written `{clip.text}`"
                for clip, text, source in zip(self._clips, texts, self._source_texts, strict=True)
                if text != source
            )
            raise ParityError(
                f"{card.name} {precision}: character error rate {found:.2%}, the source's is "
                f"{self._source_rate:.2%}, and the card allows a rise of {allowed:.2%}:\n{lines}"
            )
        return {
            "source": round(self._source_rate, 4),
            "found": round(found, 4),
            "allowed_rise": allowed,
            "clips": {clip.name: text for clip, text in zip(self._clips, texts, strict=True)},
        }
