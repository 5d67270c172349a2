"""How many copies of a model a site runs, on how many threads each."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.card import Card
from models.catalog_index import load_card
from serving.fleet import Fleet
from serving.triton.instances import MOST_BY_DEFAULT, copies, instances, threads

SMALL, LARGE, RECOGNIZER = load_card("ppocr-cls"), load_card("ppocr-det"), load_card("whisper-base")


def fleet_with(use: dict[str, Any] | None = None, **site: Any) -> Fleet:
    declared = {card.name: use or {} for card in (SMALL, LARGE, RECOGNIZER)}
    return Fleet.model_validate(
        {"fleet": "test", "models": declared, "sites": {"here": {"front_door": "127.0.0.1:9000", **site}}}
    )


@pytest.mark.parametrize(
    ("card", "at_hand", "expected"),
    [(SMALL, 1, (1, 1)), (SMALL, 2, (2, 1)), (SMALL, 64, (4, 1)), (LARGE, 2, (1, 2)), (LARGE, 64, (1, 64))],
)
def test_copies_keep_threads_busy(card: Card, at_hand: int, expected: tuple[int, int]) -> None:
    fleet = fleet_with(threads=at_hand)
    assert (instances(fleet, "here", card), threads(fleet, "here", card)) == expected


def test_without_a_number_of_threads_the_machines_cores_count() -> None:
    assert threads(fleet_with(), "here", LARGE) == os.cpu_count()


def test_gpus_have_one_copy_each_and_a_recognizer_stays_on_the_cpu() -> None:
    fleet = fleet_with(gpus=[0, 1], threads=8)
    assert (instances(fleet, "here", SMALL), copies(fleet, "here", SMALL)) == (1, 2)
    assert copies(fleet, "here", RECOGNIZER) == 1
    assert copies(fleet_with({"instances": 3}, gpus=[0, 1]), "here", SMALL) == 6


@given(at_hand=st.integers(1, 512), declared=st.none() | st.integers(1, 64))
def test_what_is_declared_holds_and_cores_are_not_promised_twice(at_hand: int, declared: int | None) -> None:
    fleet = fleet_with({"instances": declared}, threads=at_hand)
    for card in (SMALL, LARGE):
        found = instances(fleet, "here", card)
        if declared:
            assert found == declared
        else:
            assert 1 <= found <= MOST_BY_DEFAULT
            assert found * threads(fleet, "here", card) <= at_hand
