"""The gate before a bundle: outputs against the source runtime on recorded real inputs, and the task's own
metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.card import Card, Precision, Tolerance
from models.errors import BuildError
from models.recipe import Array, Case, Runner


class ParityError(BuildError):
    """A variant is not equal to its source within the card's tolerances."""


@dataclass(frozen=True)
class Comparison:
    """One output tensor against its source's, over one case."""

    graph: str
    case: str
    tensor: str
    shape: tuple[int, ...]
    passed: bool
    max_absolute: float
    outliers: float
    """Share of elements beyond the tolerance."""
    worst: tuple[int, ...]
    """Index of the element furthest beyond (or nearest to) its tolerance."""
    found: float
    expected: float
    problem: str = ""

    def sentence(self, tolerance: Tolerance) -> str:
        """What went wrong, for a person."""
        what = f"graph `{self.graph}`, case `{self.case}`, output `{self.tensor}`"
        if self.problem:
            return f"{what}: {self.problem}"
        allowed = f"{tolerance.absolute:g} + {tolerance.relative:g} x |expected|"
        return (
            f"{what}: worst element {list(self.worst)} is {self.found:.7g}, expected {self.expected:.7g}; "
            f"{self.outliers:.3%} of {int(np.prod(self.shape))} elements are further off than {allowed} "
            f"(allowed: {tolerance.outliers:.3%})"
        )


def compare(case: Case, tensor: str, found: Array, expected: Array, tolerance: Tolerance) -> Comparison:
    """Element by element `|found - expected| <= absolute + relative * |expected|`; NaN and infinity must
    coincide.
    """
    shape = tuple(int(size) for size in expected.shape)

    def verdict(passed: bool, **how: Any) -> Comparison:
        values: dict[str, Any] = {
            "max_absolute": 0.0,
            "outliers": 0.0,
            "worst": (),
            "found": 0.0,
            "expected": 0.0,
        }
        return Comparison(case.graph, case.name, tensor, shape, passed, **(values | how))

    if found.shape != expected.shape or found.dtype != expected.dtype:
        return verdict(
            False,
            problem=f"is {found.dtype} {list(found.shape)}, expected {expected.dtype} {list(expected.shape)}",
        )
    if expected.size == 0:
        return verdict(True)
    a, b = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    off = np.where(np.isnan(off), np.inf, off)
    allowed = tolerance.absolute + tolerance.relative * np.abs(np.where(np.isfinite(b), b, 0.0))
    beyond = off - allowed
    index = np.unravel_index(int(np.argmax(beyond)), shape)
    outliers = float(np.mean(beyond > 0))
    return verdict(
        outliers <= tolerance.outliers and bool(np.isfinite(off).all()),
        max_absolute=float(off.max()),
        outliers=outliers,
        worst=tuple(int(i) for i in index),
        found=float(a[index]),
        expected=float(b[index]),
    )


def run_cases(
    card: Card,
    precision: Precision,
    cases: Sequence[Case],
    expected: Sequence[Mapping[str, Array]],
    run: Runner,
) -> list[Comparison]:
    """Compare a variant's outputs over all cases. Raises `ParityError` showing every tensor outside its
    tolerance.
    """
    tolerance = card.parity.tolerances[precision]
    results: list[Comparison] = []
    for case, reference in zip(cases, expected, strict=True):
        found = run(case.graph, case.inputs)
        if missing := set(reference) - set(found):
            raise ParityError(
                f"{card.name} {precision}: `{case.graph}` has no output {', '.join(sorted(missing))}."
            )
        results += [compare(case, name, found[name], value, tolerance) for name, value in reference.items()]
    if failed := [result for result in results if not result.passed]:
        failed.sort(key=lambda result: -result.outliers)
        lines = "\n".join(result.sentence(tolerance) for result in failed)
        raise ParityError(
            f"{card.name} {precision} is not equal to its source:\n{lines}",
            hint="Fix the export, or, where the difference is understood, the tolerance in the card.",
        )
    return results


def summary(results: Sequence[Comparison]) -> list[dict[str, Any]]:
    """For the report: figures with three digits, because the last ones differ between CPUs and say
    nothing.
    """
    return [_rounded(asdict(result)) for result in results]


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: float(f"{value:.3g}") if isinstance(value, float) else value
        for key, value in values.items()
        if key not in ("problem", "passed")
    }
