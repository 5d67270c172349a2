"""Messages are bounded before and after they are uncompressed."""

from __future__ import annotations

import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from telemetry_made import BOOT, signed

from serving.router.telemetry.message import Message, RefusedError, decode, encode


def test_a_message_survives_the_wire():
    message = Message(fleet="two", site="b", summaries=[signed()], known={"a": (BOOT, 5)}, padding="x" * 500)
    assert decode(encode(message), 100_000) == message


def test_what_uncompresses_to_too_much_is_refused_before_it_is_all_there():
    bomb = zlib.compress(b'{"fleet": "' + b"a" * 50_000_000)
    assert len(bomb) < 100_000
    with pytest.raises(RefusedError, match="larger than 1000000") as refused:
        decode(bomb, 1_000_000)
    assert refused.value.reason == "size"


@pytest.mark.parametrize("text", ["", "[]", '{"fleet": "two"}', '{"fleet": "two", "site": "b", "more": 1}'])
def test_what_is_no_message_is_refused(text):
    with pytest.raises(RefusedError) as refused:
        decode(zlib.compress(text.encode()), 1000)
    assert refused.value.reason == "format"


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_a_message(data):
    for candidate in (data, zlib.compress(data)):
        with suppress(RefusedError):
            assert isinstance(decode(candidate, 10_000), Message)
