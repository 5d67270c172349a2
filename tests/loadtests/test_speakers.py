"""Speakers through the real client libraries, at a server that behaves well or badly as each test says."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from speaker_doors import (
    SPOKEN,
    UNSAFE,
    Door,
    inference,
    moderation,
    over_grpc,
    over_http,
    transcription,
)

from loadtests import inputs
from loadtests.campaign import Work
from loadtests.results import Outcome
from loadtests.speakers import Answer, Speaker, open_speaker
from models.errors import UsageError
from serving import credential

KEY = "hk_abcdefghij_secret"


@pytest.fixture
def http_door() -> Iterator[Door]:
    with over_http() as door:
        yield door


@pytest.fixture
def grpc_door() -> Iterator[Door]:
    with over_grpc() as door:
        yield door


SUBTITLES = {"app": "subtitles", "input": "mandarin-news"}
REVIEW = {"app": "review", "input": "unwanted-texts"}
NSFW = {"model": "open-nsfw", "input": "photographs"}
BY_HTTP = [
    pytest.param(SUBTITLES | {"client": "openai"}, id="openai-subtitles"),
    pytest.param(REVIEW | {"client": "openai"}, id="openai-review"),
    pytest.param(SUBTITLES | {"client": "http"}, id="http-subtitles"),
    pytest.param(REVIEW | {"client": "http"}, id="http-review"),
    pytest.param(NSFW | {"client": "http"}, id="http-model"),
    pytest.param(NSFW | {"client": "triton-http"}, id="triton-http"),
]
BY_GRPC = NSFW | {"client": "triton-grpc"}


def speaker(work: dict[str, Any], address: str, **changes: Any) -> Speaker:
    return open_speaker(Work.model_validate({"name": "work", "class": "batch"} | work | changes), address)


def asked(work: dict[str, Any], address: str, times: int = 1, **changes: Any) -> list[Answer]:
    one = speaker(work, address, **changes)
    try:
        return [one.ask() for _ in range(times)]
    finally:
        one.close()


@pytest.mark.parametrize("work", BY_HTTP)
class TestHttp:
    def test_a_right_answer(self, work: dict[str, Any], http_door: Door) -> None:
        answers = asked(work, http_door.address, times=6)
        assert {(each.outcome, each.site, each.attempts, each.detail) for each in answers} == {
            ("ok", "edge", 2, "")
        }
        assert answers[0].characters == (len(SPOKEN) if work.get("app") == "subtitles" else 0)
        assert {seen.headers["x-headend-class"] for seen in http_door.seen} == {"batch"}
        assert len(http_door.seen) == 6

    def test_a_wrong_answer_is_an_error(self, work: dict[str, Any], http_door: Door) -> None:
        clean = json.dumps({"input": "早上好"}).encode()
        http_door.body = {"subtitles": transcription("谢谢观看"), "review": moderation(clean)}.get(
            work.get("app", "")
        )
        if http_door.body is None:
            http_door.body, http_door.headers["Inference-Header-Content-Length"] = (
                inference(UNSAFE)[0],
                inference(UNSAFE)[1]["Inference-Header-Content-Length"],
            )
        (answer,) = asked(work, http_door.address)
        assert (answer.outcome, answer.site) == ("wrong", "edge")
        assert answer.detail

    @pytest.mark.parametrize(
        "body", [b"", b"rubbish", b"[]", b"{}", b'{"text": 3, "results": [], "outputs": 1}']
    )
    def test_an_answer_without_sense_is_wrong(
        self, work: dict[str, Any], http_door: Door, body: bytes
    ) -> None:
        http_door.body = body
        (answer,) = asked(work, http_door.address)
        assert (answer.outcome, answer.site) == ("wrong", "edge")
        assert answer.detail

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            (429, "refused"),
            (503, "refused"),
            (400, "client-error"),
            (404, "client-error"),
            (500, "server-error"),
            (502, "server-error"),
            (504, "server-error"),
        ],
    )
    def test_a_status(self, work: dict[str, Any], http_door: Door, status: int, outcome: Outcome) -> None:
        http_door.status, http_door.body = status, b'{"error": "the queue is full"}'
        first, second = asked(work, http_door.address, times=2)
        assert first == second
        assert (first.outcome, first.site, first.attempts) == (outcome, "edge", 2)
        assert str(status) in first.detail
        assert "the queue is full" in first.detail
        assert len(http_door.seen) == 2  # the clients' own retries are off

    def test_an_error_that_is_no_json(self, work: dict[str, Any], http_door: Door) -> None:
        http_door.status, http_door.body = 503, b"<html>no healthy upstream</html>"
        (answer,) = asked(work, http_door.address)
        assert answer.outcome == "refused"
        assert "no healthy upstream" in answer.detail

    def test_no_answer_in_time_and_then_one(self, work: dict[str, Any], http_door: Door) -> None:
        go = threading.Event()
        http_door.before = lambda: go.wait(30)
        one = speaker(work, http_door.address, timeout_s=0.3)
        assert one.ask().outcome == "timeout"
        go.set()
        assert one.ask().outcome == "ok"
        one.close()

    def test_a_connection_that_ends_and_then_an_answer(self, work: dict[str, Any], http_door: Door) -> None:
        http_door.cut = True
        one = speaker(work, http_door.address)
        answer = one.ask()
        assert (answer.outcome, answer.site) == ("connection", "")
        assert answer.detail
        http_door.cut = False
        assert one.ask().outcome == "ok"
        one.close()

    def test_nobody_listens(self, work: dict[str, Any]) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            (answer,) = asked(work, f"127.0.0.1:{taken.getsockname()[1]}")
        assert (answer.outcome, answer.site, answer.attempts) == ("connection", "", 1)

    def test_a_door_that_does_not_say_who_answered(self, work: dict[str, Any], http_door: Door) -> None:
        http_door.headers = {"x-headend-site": "-"}
        (answer,) = asked(work, http_door.address)
        assert (answer.outcome, answer.site, answer.attempts) == ("ok", "", 1)

    def test_the_key_is_sent_and_never_told(
        self, work: dict[str, Any], http_door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(credential.VARIABLE, KEY)
        http_door.status, http_door.body = 403, f"{KEY} may not".encode()
        (answer,) = asked(work, http_door.address)
        assert http_door.seen[0].headers["authorization"] == f"Bearer {KEY}"
        assert "… may not" in answer.detail
        assert KEY not in answer.detail


class TestGrpc:
    def test_a_right_answer(self, grpc_door: Door) -> None:
        answers = asked(BY_GRPC, grpc_door.address, times=3)
        assert answers == [Answer("ok", "edge", 2)] * 3
        assert {(seen.path, seen.headers["x-headend-class"]) for seen in grpc_door.seen} == {
            ("open-nsfw", "batch")
        }

    def test_a_wrong_answer_is_an_error(self, grpc_door: Door) -> None:
        grpc_door.body = b"wrong"
        (answer,) = asked(BY_GRPC, grpc_door.address)
        assert (answer.outcome, answer.site) == ("wrong", "edge")
        assert "unsafe" in answer.detail

    @pytest.mark.parametrize(
        ("code", "outcome"),
        [
            (grpc.StatusCode.UNAVAILABLE, "refused"),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, "refused"),
            (grpc.StatusCode.INVALID_ARGUMENT, "client-error"),
            (grpc.StatusCode.NOT_FOUND, "client-error"),
            (grpc.StatusCode.UNIMPLEMENTED, "client-error"),
            (grpc.StatusCode.INTERNAL, "server-error"),
            (grpc.StatusCode.UNKNOWN, "server-error"),
            (grpc.StatusCode.DEADLINE_EXCEEDED, "timeout"),
        ],
    )
    def test_a_code(self, grpc_door: Door, code: grpc.StatusCode, outcome: Outcome) -> None:
        grpc_door.code = code
        first, second = asked(BY_GRPC, grpc_door.address, times=2)
        assert first == second == Answer(outcome, "edge", 2, f"{code.name}: the door says no")
        assert len(grpc_door.seen) == 2

    def test_no_answer_in_time_and_then_one(self, grpc_door: Door) -> None:
        go = threading.Event()
        grpc_door.before = lambda: go.wait(30)
        one = speaker(BY_GRPC, grpc_door.address, timeout_s=0.5)
        assert one.ask().outcome == "timeout"
        go.set()
        assert one.ask().outcome == "ok"
        one.close()

    def test_the_key_is_sent(self, grpc_door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(credential.VARIABLE, KEY)
        asked(BY_GRPC, grpc_door.address)
        assert grpc_door.seen[0].headers["authorization"] == f"Bearer {KEY}"

    def test_nobody_listens(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            answers = asked(BY_GRPC, f"127.0.0.1:{taken.getsockname()[1]}", times=2)
        assert {(each.outcome, each.site) for each in answers} == {("connection", "")}


def test_payloads_take_turns_over_all_speakers(http_door: Door) -> None:
    speakers = [speaker(REVIEW | {"client": "http"}, http_door.address) for _ in range(2)]
    number = len(inputs.get("unwanted-texts").payloads)
    for turn in range(number):
        assert speakers[turn % 2].ask().outcome == "ok"
    assert len({seen.body for seen in http_door.seen}) == number
    for one in speakers:
        one.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "http://127.0.0.1:80", "127.0.0.1:80/v1", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is not a front door's address"):
        speaker(SUBTITLES | {"client": "openai"}, address)


COOPERATE = """
from gevent import monkey; monkey.patch_all()
from grpc.experimental import gevent as grpc_gevent; grpc_gevent.init_gevent()
import json, sys
import gevent
from loadtests.campaign import Work
from loadtests.speakers import open_speaker
work, address, number = Work.model_validate(json.loads(sys.argv[1])), sys.argv[2], int(sys.argv[3])
speakers = [open_speaker(work, address) for _ in range(number)]
greenlets = [gevent.spawn(one.ask) for one in speakers]
gevent.joinall(greenlets, timeout=60)
print(json.dumps([greenlet.value.outcome for greenlet in greenlets]))
for one in speakers:
    one.close()
"""


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(SUBTITLES | {"client": "openai"}, id="openai"),
        pytest.param(SUBTITLES | {"client": "http"}, id="http"),
        pytest.param(NSFW | {"client": "triton-http"}, id="triton-http"),
        pytest.param(BY_GRPC, id="triton-grpc"),
    ],
)
def test_speakers_wait_side_by_side_in_a_patched_process(
    work: dict[str, Any], http_door: Door, grpc_door: Door
) -> None:
    door = grpc_door if work is BY_GRPC else http_door
    together = 4
    # Nobody is answered before all have asked: were one to block the others, this would break.
    door.before = threading.Barrier(together, timeout=30).wait
    done = subprocess.run(
        [sys.executable, "-c", COOPERATE, json.dumps({"name": "work"} | work), door.address, str(together)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert json.loads(done.stdout) == ["ok"] * together
