"""What agents send each other: summaries as they were signed, in one compressed and bounded message.

A summary travels as the text that its site signed, so that whoever passes it on can neither change nor
invent one. JSON inside zlib (RFC 1950).
"""

from __future__ import annotations

import zlib
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from models.card import Name
from serving.router.telemetry.summary import MOST_BYTES, MOST_SITES, Boot, Sequence, Wire

MOST_QUESTION_BYTES = 2 << 20
"""Of an uncompressed question: one summary, and what is known of a thousand sites."""
MOST_ANSWER_BYTES = 32 << 20
"""Of an uncompressed answer: a relay's may hold a thousand summaries."""
_MOST_PADDING = 64 << 10

Reason = Literal["size", "format", "fleet", "site", "replay", "signature"]
"""Why something was refused: too large; not a message or summary; of another fleet; of a site that is not in
the fleet, or not the one that sends it; not newer than what is known; not signed by its site."""


class RefusedError(Exception):
    """What came is not taken."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Signed(Wire):
    """One summary as its site has signed it."""

    summary: Annotated[str, StringConstraints(max_length=MOST_BYTES)]
    """JSON of a `SiteSummary`."""
    certificate: Annotated[str, StringConstraints(max_length=8192)] = ""
    """The site's, PEM; empty in a fleet without a CA."""
    signature: Annotated[str, StringConstraints(max_length=1024)] = ""
    """Of the summary's UTF-8 bytes by the certificate's key, base64."""


class Message(Wire):
    """A question or its answer."""

    format: Literal[1] = 1
    fleet: Name
    site: Name
    """Who sends it."""
    summaries: Annotated[list[Signed], Field(max_length=MOST_SITES)] = []
    known: Annotated[dict[Name, tuple[Boot, Sequence]], Field(max_length=MOST_SITES)] = {}
    """Of a question: the newest that its sender has of each site."""
    padding: Annotated[str, StringConstraints(max_length=_MOST_PADDING)] = ""
    """Bytes for measuring how fast they travel."""


def encode(message: Message) -> bytes:
    """The message for the wire."""
    return zlib.compress(message.model_dump_json(exclude_defaults=True).encode(), level=1)


def decode(data: bytes, most: int) -> Message:
    """The message that `data` is, uncompressed no larger than `most` bytes. Raises `RefusedError`."""
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, most)
    except zlib.error as error:
        raise RefusedError("format", f"it is not zlib: {error}") from error
    if stream.unconsumed_tail:
        raise RefusedError("size", f"it is larger than {most} bytes")
    try:
        return Message.model_validate_json(text)
    except ValidationError as error:
        raise RefusedError("format", f"it is no message: {error.errors()[0]['msg']}") from error
