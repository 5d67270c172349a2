"""Parts that a site has while a change is tried there, beside those that its declaration asks for."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from models.errors import HeadendError
from models.files import write_atomic
from models.schema import Strict
from serving.site.spec import PartSpec, SiteDirectory

_FILE = "rollout-parts.json"


class _Extra(Strict):
    parts: list[PartSpec] = []


def read(directory: SiteDirectory) -> list[PartSpec]:
    """Parts of the roll-out that is under way at this site; most of the time none."""
    path = directory.path / _FILE
    try:
        return _Extra.model_validate_json(path.read_bytes()).parts
    except FileNotFoundError:
        return []
    except ValidationError as error:
        raise HeadendError(
            f"{path} was not written by this version of headend.", hint="Remove it."
        ) from error


def write(directory: SiteDirectory, parts: Sequence[PartSpec]) -> None:
    """Replace them; the site's supervisor learns of it through the next spec."""
    write_atomic(
        directory.path / _FILE, _Extra(parts=list(parts)).model_dump_json(indent=1).encode(), mode=0o600
    )
