"""States of sequences: what a request begins with, what is kept, and what is forgotten."""

from __future__ import annotations

import numpy as np
import pytest

from serving.triton.memory import Memory, Turn, states_of

DECLARED = [{"input": "before", "output": "after", "dtype": "FP32", "shape": [2]}]


def memory(clock=lambda: 0.0):
    return Memory(states_of(DECLARED, lambda _: np.float32, batched=True), 10, clock)


def turn(sequence, *, begins=False, ends=False):
    return Turn(sequence, begins, ends)


def test_each_sequence_begins_with_zeros_and_goes_on_with_what_it_made():
    kept = memory()
    for sequence in (1, "two"):
        begin = kept.recall(turn(sequence, begins=True))
        assert begin["before"].tolist() == [[0, 0]]
        kept.keep(turn(sequence, begins=True), {"after": np.full((1, 2), len(kept) + 1, np.float32)})
    assert kept.recall(turn(1))["before"].tolist() == [[1, 1]]
    assert kept.recall(turn("two"))["before"].tolist() == [[2, 2]]


def test_one_that_begins_anew_remembers_nothing():
    kept = memory()
    kept.keep(turn(1, begins=True), {"after": np.ones((1, 2), np.float32)})
    assert kept.recall(turn(1, begins=True))["before"].tolist() == [[0, 0]]


def test_what_has_ended_or_never_began_is_not_known():
    kept = memory()
    kept.keep(turn(1, begins=True), {"after": np.ones((1, 2), np.float32)})
    kept.keep(turn(1, ends=True), {"after": np.ones((1, 2), np.float32)})
    assert len(kept) == 0
    for sequence in (1, 2):
        with pytest.raises(KeyError):
            kept.recall(turn(sequence))


def test_what_was_left_is_forgotten_and_what_is_asked_is_not():
    now = 0.0
    kept = memory(lambda: now)
    values = {"after": np.ones((1, 2), np.float32)}
    kept.keep(turn("left", begins=True), values)
    kept.keep(turn("asked", begins=True), values)
    for now in (15.0, 30.0, 45.0):  # noqa: B007 - the clock gives it
        kept.keep(turn("asked"), values)
    assert len(kept) == 1
    assert kept.recall(turn("asked"))
