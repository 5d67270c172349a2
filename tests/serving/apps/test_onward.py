"""What a request hands on to the models it needs."""

from __future__ import annotations

import time

import pytest

from serving.apps.errors import AppError
from serving.apps.onward import Onward


def test_hop_and_class_go_on_and_the_deadline_becomes_a_timeout() -> None:
    said = Onward.of({"x-headend-hop": "1", "x-headend-class": "live", "x-headend-deadline-ms": "2000"})
    assert said.headers() == {"x-headend-hop": "1", "x-headend-class": "live"}
    assert 1.5 < said.left_s(60) <= 2
    assert said.left_s(0.5) == 0.5
    assert Onward.of({}).headers() == {}
    assert Onward.of({}).left_s(60) == 60


def test_a_deadline_that_has_passed_is_said() -> None:
    with pytest.raises(AppError, match="deadline") as caught:
        Onward(until=time.monotonic() - 1).left_s(60)
    assert caught.value.status == 504


@pytest.mark.parametrize("header", [{"x-headend-class": "urgent"}, {"x-headend-deadline-ms": "soon"}])
def test_nonsense_is_refused(header: dict[str, str]) -> None:
    with pytest.raises(AppError, match=next(iter(header))) as caught:
        Onward.of(header)
    assert caught.value.status == 400
