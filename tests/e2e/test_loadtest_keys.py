"""Campaigns against fleets that ask who calls: every client shows the key, and nothing tells it."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from built import TEST_HOME
from fleet_process import HEADEND, RunningFleet, headend
from server_certificate import ServerAuthority
from waiting import until

from loadtests.results import Result, total
from serving import credential

pytestmark = pytest.mark.e2e
CLIENTS = ("triton-grpc", "triton-http", "http")


@pytest.fixture
def guarded(small) -> RunningFleet:
    fleet = small(access={})
    fleet.up()
    fleet.wait()
    return fleet


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    path = tmp_path / "sound.yaml"
    work = {"model": "silero-vad", "input": "random", "class": "live"}
    declaration = {
        "campaign": "sound",
        "title": "Whether it is speech, through every client.",
        "seconds": 3,
        "workload": [{"name": client, "client": client, **work} for client in CLIENTS],
        "arrivals": [{"kind": "constant", "rate": 10}],
        "objectives": {"error_rate": 0},
    }
    path.write_text(yaml.safe_dump(declaration))
    return path


def key(fleet: RunningFleet, *options: str) -> str:
    return headend("keys", "create", "campaign", *options, "-f", fleet.file).stdout.strip()


def texts(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            yield (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace")


def commands_below(process: psutil.Process) -> list[str]:
    found = []
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # Short-lived ones end while they are looked at.
            found.append(" ".join(each.cmdline()))
    return found


def test_every_client_shows_the_key_and_nothing_tells_it(
    guarded: RunningFleet, campaign: Path, tmp_path: Path
) -> None:
    secret = key(guarded, "--class", "live")
    out = tmp_path / "run"
    process = subprocess.Popen(
        [HEADEND, "loadtest", "run", campaign, "-f", guarded.file, "--out", out, "--workers", "2"],
        env={**os.environ, "HEADEND_HOME": str(TEST_HOME), credential.VARIABLE: secret},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        seen = until(
            lambda: len(found := commands_below(psutil.Process(process.pid))) > 3 and found, "its workers", 60
        )
        said = process.communicate(timeout=240)[0]
    finally:
        process.kill()
    result = Result.load(out)
    assert {one.work for one in result.series} == set(CLIENTS)
    assert (total(result.series, "ok"), result.errors) == (result.sent, []), said
    assert result.sent == 30
    assert (out / "report.html").exists()
    assert not [each for each in [*seen, said, *texts(out)] if secret.split("_", 2)[2] in each]


def test_a_front_door_with_tls_is_brought_up_and_its_keys_do_not_travel_in_the_clear(
    small, campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = ServerAuthority(tmp_path)
    certificate, private = authority.issue("door", "127.0.0.1")
    fleet = small(access={})
    fleet.declaration["sites"]["one"]["tls"] = {"certificate": str(certificate), "key": str(private)}
    fleet.up()
    fleet.wait()
    assert fleet.status()["ready"]
    monkeypatch.setenv(credential.VARIABLE, key(fleet, "--class", "live"))
    command = ("loadtest", "run", campaign, "-f", fleet.file, "--out", tmp_path / "run")
    assert "CERTIFICATE_VERIFY_FAILED" in headend(*command, code=2).stderr
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    headend(*command, code=None)
    result = Result.load(tmp_path / "run")
    assert (total(result.series, "ok"), result.errors) == (result.sent, [])
    doctor = headend("doctor", "-f", fleet.file, code=None).stdout
    assert "shows a certificate for" in doctor
    private.unlink()
    fleet.end()
    fleet.process = None
    refused = headend("up", "-f", fleet.file, "--detach", code=2).stderr
    assert "`tls.key` of site `one`" in refused


def test_a_key_that_is_missing_wrong_or_too_low_is_asked_for_before_anything_is_sent(
    guarded: RunningFleet, campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> str:
        out = tmp_path / "refused"
        done = headend("loadtest", "run", campaign, "-f", guarded.file, "--out", out, code=2)
        assert not out.exists()
        return done.stderr

    monkeypatch.delenv(credential.VARIABLE, raising=False)
    assert "asks for a key, and there is none" in refused()
    monkeypatch.setenv(credential.VARIABLE, "hk_aaaaaaaaaa_bbbb")
    assert "does not take the key" in refused()
    monkeypatch.setenv(credential.VARIABLE, "two words")
    assert "characters that no API key" in refused()
    monkeypatch.setenv(credential.VARIABLE, key(guarded))
    assert "asks in class `live`" in refused()
    monkeypatch.setenv(credential.VARIABLE, key(guarded, "--role", "operate", "--class", "live"))
    assert "the role `infer`" in refused()
