"""Who asks: one speaker is one client with a connection of its own, as a service would have it.

Speakers use the client libraries that services use, without retries of their own, and check every answer.
"""

from __future__ import annotations

import re
from typing import Protocol

from loadtests.campaign import Campaign, Work
from loadtests.speakers import asking
from loadtests.speakers.asking import Answer
from models.errors import MissingExtraError, UsageError

__all__ = ["Answer", "Speaker", "check", "open_speaker"]

_ADDRESS = re.compile(r"(https://)?(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}")


class Speaker(Protocol):
    """Asks one kind of work at one front door; used by one thread or greenlet at a time."""

    def ask(self) -> Answer:
        """Send the next request and wait for its answer. Whatever the fleet does becomes an outcome."""
        ...

    def close(self) -> None:
        """Close the connection. One of gRPC's that stays open keeps a gevent-patched process from ending."""
        ...


def open_speaker(work: Work, address: str) -> Speaker:
    """A speaker for `work` at a front door; it connects when it first asks. `address`: `host:port`, or
    `https://host:port` of a door that takes TLS.

    Raises `UsageError` when the work's input does not fit what is asked, `MissingExtraError` when a client
    library is not installed.
    """
    if not _ADDRESS.fullmatch(address):
        raise UsageError(f"`{address}` is not a front door's address", hint="It has the form HOST:PORT.")
    try:
        return _open(work, address)
    except ImportError as error:
        raise MissingExtraError(f"The client `{work.client}`", "loadtest") from error


def check(campaign: Campaign) -> None:
    """Raise `UsageError` when an input of the campaign is not known or does not fit what is asked."""
    for work in campaign.workload:
        asking.check(work)


def _open(work: Work, address: str) -> Speaker:
    """Each client library is imported by its own speaker only: some change the process, all take time."""
    match work.client:
        case "openai":
            from loadtests.speakers.openai_client import OpenAiSpeaker

            return OpenAiSpeaker(work, address)
        case "triton-grpc":
            from loadtests.speakers.triton_grpc import TritonGrpcSpeaker

            return TritonGrpcSpeaker(work, address)
        case "triton-http":
            from loadtests.speakers.triton_http import TritonHttpSpeaker

            return TritonHttpSpeaker(work, address)
        case "http":
            from loadtests.speakers.bare_http import BareHttpSpeaker

            return BareHttpSpeaker(work, address)
