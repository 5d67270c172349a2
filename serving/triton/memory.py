"""What a model with states keeps for each sequence between its requests, inside Triton's Python backend.

Triton's sequence batcher leads all requests of a sequence to one instance, one after the other, refuses those
of a sequence that has not begun, and forgets one that was asked nothing for the declared time. As it does not
say when it forgets, what is kept here is dropped some time later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Id = int | str
_LATER = 2.0
"""Times Triton's own limit."""


@dataclass(frozen=True)
class Turn:
    """Where a request stands in its sequence."""

    sequence: Id
    begins: bool
    ends: bool


@dataclass(frozen=True)
class State:
    """A tensor that the next request of the sequence gets as `input`, as this one made it as `output`."""

    input: str
    output: str
    zeros: Array
    """What a sequence begins with."""


class Memory:
    """Of one instance of a model; `clock` gives seconds."""

    def __init__(
        self, states: Sequence[State], idle_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.states = states
        self._limit_s, self._clock = idle_s * _LATER, clock
        self._kept: dict[Id, tuple[float, Mapping[str, Array]]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def recall(self, turn: Turn) -> Mapping[str, Array]:
        """The states that a request's inference begins with, by input. Raises `KeyError` without."""
        if turn.begins:
            return {state.input: state.zeros for state in self.states}
        return self._kept[turn.sequence][1]

    def keep(self, turn: Turn, outputs: Mapping[str, Array]) -> None:
        """Remember what an inference made of them, by output, unless it was the sequence's last."""
        now = self._clock()
        self._kept.pop(turn.sequence, None)
        if not turn.ends:
            # At the end of the order: the first are those asked longest ago.
            self._kept[turn.sequence] = now, {state.input: outputs[state.output] for state in self.states}
        while self._kept:
            first = next(iter(self._kept))
            if now - self._kept[first][0] <= self._limit_s:
                break
            del self._kept[first]


def states_of(
    declared: Sequence[Mapping[str, Any]], dtype: Callable[[str], Any], *, batched: bool
) -> list[State]:
    """From the model's parameter `states`; `batched`: tensors have a batch dimension, of one row here.

    `dtype`: NumPy's for a name of the Open Inference Protocol.
    """
    return [
        State(
            each["input"],
            each["output"],
            np.zeros([*([1] if batched else []), *each["shape"]], dtype(each["dtype"])),
        )
        for each in declared
    ]
