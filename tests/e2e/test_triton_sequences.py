"""A model with a memory in the real Triton: sequences over streams, beside each other, begun and ended."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from triton_process import Triton, fleet_of
from tritonclient.utils import InferenceServerException
from waiting import until

from loadtests.testbed.streams.versions import BYTES, PLAIN, TALLY, build_version
from models.store import open_store

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    one = Triton(tmp_path_factory.mktemp("serving"), fleet_of({PLAIN: {}, TALLY: {}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADEND_HOME", str(tmp_path_factory.mktemp("home")))
        build_version(1)
        store = open_store()
        one.write({name: store.fetch(name) for name in (PLAIN, TALLY)})
        try:
            one.start([PLAIN, TALLY])
            until(lambda: one.answers("health/ready"), "both models")
            yield one
        finally:
            one.stop()


def ones(count: int) -> Any:
    data = np.zeros((1, BYTES), np.uint8)
    data[0, :count] = 1
    tensor = grpc.InferInput("data", [1, BYTES], "UINT8")
    tensor.set_data_from_numpy(data)
    return [tensor]


def test_each_sequence_has_a_total_of_its_own(triton: Triton) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with grpc.InferenceServerClient(triton.grpc) as client:
        client.start_stream(lambda result, error: answers.put(error or int(result.as_numpy("total")[0, 0])))

        def ask(sequence: int, count: int, **flags: bool) -> Any:
            client.async_stream_infer(TALLY, ones(count), sequence_id=sequence, **flags)
            return answers.get(timeout=60)

        assert ask(1, 5, sequence_start=True) == 5
        assert ask(2, 7, sequence_start=True) == 7
        assert ask(1, 1) == 6
        assert ask(2, 1) == 8
        assert ask(1, 1, sequence_end=True) == 7
        assert ask(1, 3, sequence_start=True) == 3, "it begins anew"
        assert ask(2, 1) == 9
        assert "START" in str(ask(3, 1)), "what has not begun is refused"


def test_clients_neither_send_nor_get_the_states(triton: Triton) -> None:
    with grpc.InferenceServerClient(triton.grpc) as client:
        about = client.get_model_metadata(TALLY)
        assert [each.name for each in about.inputs] == ["data"]
        assert [each.name for each in about.outputs] == ["total"]
        with pytest.raises(InferenceServerException, match="correlation ID"):
            client.infer(TALLY, ones(1))
