"""What a site's agent is told: one JSON file, derived from the fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, field_serializer

from models.errors import HeadendError
from models.schema import Strict
from serving.fleet import Fleet
from serving.router.telemetry.facts import PoolFacts
from serving.router.telemetry.summary import PoolKey
from serving.router.view import FleetView


class AgentConfig(Strict):
    """The whole part."""

    fleet: Fleet
    view: FleetView
    """The fleet as the site's front door sees it, as Envoy's files were derived from it; without a plan."""
    triton_metrics: int
    """Port of Triton's metrics; 0: the site has no Triton."""
    facts: dict[PoolKey, PoolFacts]
    """Of the pools that the site answers."""
    directory: Path
    """The site's."""

    @property
    def envoy(self) -> Path:
        """Where Envoy's files are."""
        return self.directory / "envoy"

    @field_serializer("view", mode="wrap")
    def _without_plan(self, view: FleetView, serialize: Any) -> Any:
        # Its keys are not text, and the agent makes a plan of its own.
        return {key: value for key, value in serialize(view).items() if key != "plan"}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises `HeadendError` for a file that is not whole."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise HeadendError(f"{path} cannot be read: {error}", hint="Derive it: headend up") from error
