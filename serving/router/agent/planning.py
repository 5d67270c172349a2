"""One front door's plan, second by second."""

from __future__ import annotations

from collections.abc import Mapping

from models.errors import UsageError
from serving.fleet import Fleet
from serving.router.agent.kept import Rows
from serving.router.plan import Plan, plan, resumed
from serving.router.plan.explanation import Explanation
from serving.router.plan.reading import declared_capacities, problem_of
from serving.router.telemetry.observed import Observed
from serving.router.view import Pool


class Planner:
    """Begins with the `rows` that were planned last. Raises `DeclarationError` for a bad capacity record."""

    def __init__(self, fleet: Fleet, door: str, rows: Rows) -> None:
        self._fleet, self._door, self._rows = fleet, door, rows
        self._declared = declared_capacities(fleet)
        self.current: Plan | None = None

    def next(self, observed: Mapping[str, Observed]) -> Plan:
        """The plan for what is known now, on the way there from the last one."""
        problem = problem_of(self._fleet, observed, self._door, self._declared)
        previous = self.current or resumed(problem, self._door, self._rows)
        self.current = plan(problem, previous, [self._door])
        return self.current

    def explain(self, door: str, pool: Pool) -> Explanation:
        """Why the shares of `door`, this one or another, are what they are. Raises `UsageError`."""
        current = self.current
        if current is None:
            raise UsageError("There is no plan yet.", hint="Ask again in a second.")
        if door not in (self._door, *current.problem.sites):
            known = ", ".join(current.problem.sites)
            raise UsageError(f"The plan knows no site `{door}`.", hint=f"Sites: {known}.")
        if door != self._door:
            current = plan(current.problem, current, [door])
        return current.explain(door, pool)
