"""The one tree of exceptions. Every message says what was wrong; every hint says what to do next."""

from __future__ import annotations


class HeadendError(Exception):
    """Something a person can act on.

    Commands print the message and the hint and exit with `exit_code`; no traceback is shown.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(HeadendError):
    """What was asked cannot be understood: a bad name, file or option."""

    exit_code = 2


class DeclarationError(UsageError):
    """A card, fleet or policy file does not follow its schema."""


class IntegrityError(HeadendError):
    """Bytes are not what a digest or a signature says they are."""


class BuildError(HeadendError):
    """A step of a model's build failed; what was built before is untouched."""


class MissingExtraError(HeadendError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the extra `{extra}`.", hint=f"Install it: pip install 'headend[{extra}]'"
        )
