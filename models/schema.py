"""Declarations a person writes: strict YAML; errors name the place and the nearest right key."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from models.errors import DeclarationError


class Strict(BaseModel):
    """Base of every declaration: frozen, and an unknown key is an error."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True
    )


class Declaration(Strict):
    """A declaration that stands in a file of its own."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `path` as YAML. Raises `DeclarationError` naming file, place and what would be right."""
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise DeclarationError(f"{path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise DeclarationError(f"{path} is not UTF-8 text: {error.reason}") from error
        return cls.parse(text, where=str(path))

    @classmethod
    def parse(cls, text: str, *, where: str) -> Self:
        """Read YAML text; `where` names its origin in errors."""
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise DeclarationError(f"{where} is not YAML: {error}") from error
        if not isinstance(data, dict):
            raise DeclarationError(f"{where}: expected a mapping at the top, found {type(data).__name__}")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise DeclarationError(_explain(cls, where, error)) from error


def _explain(cls: type[BaseModel], where: str, error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key `{place}`{_nearest(cls, item['loc'])}")
        else:
            lines.append(f"{where}: {place or 'top'}: {item['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def _nearest(cls: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    known = sorted(_keys_at(cls, loc[:-1]))
    close = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; known here: {', '.join(known)}" if known else ""


def _keys_at(cls: type[BaseModel], loc: tuple[int | str, ...]) -> set[str]:
    """Field names of the models reachable at `loc`, passing over parts of it that are keys of mappings."""
    reachable: set[type[BaseModel]] = {cls}
    for part in loc:
        found = {
            model
            for parent in reachable
            if part in parent.model_fields
            for model in _models_in(parent.model_fields[str(part)].annotation)
        }
        reachable = found or reachable
    return {field.alias or name for model in reachable for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for arg in get_args(annotation) for model in _models_in(arg)}
