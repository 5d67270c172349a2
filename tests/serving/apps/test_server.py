"""The Ray Serve part as a process: it answers, heals, and ends with nothing left. Models are not needed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from waiting import free_ports, until

from serving.apps.cluster import temp_dir_of
from serving.apps.config import AppConfig, AppsConfig
from tests.serving.apps.media import media

pytestmark = pytest.mark.e2e


class Part:
    """One `serving.apps.server` in a session of its own."""

    def __init__(self, folder: Path, **options: Any) -> None:
        own, app, nobody = free_ports(3)
        self.config = AppsConfig(
            site="here",
            port=own,
            run_dir=folder / "run",
            front_door=f"127.0.0.1:{nobody}",
            apps={"subtitles": AppConfig(port=app)},
            **options,
        )
        self.own, self.app = f"http://127.0.0.1:{own}", f"http://127.0.0.1:{app}"
        self.log = folder / "log"
        (folder / "config.json").write_text(self.config.model_dump_json())
        self._argv = [sys.executable, "-m", "serving.apps.server", "--config", str(folder / "config.json")]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._argv, stdout=log, stderr=log, start_new_session=True)
        until(self.ready, f"ready, see {self.log}")

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.own}/-/ready", timeout=5).status_code == 200
        return False

    def processes(self) -> list[psutil.Process]:
        """All that live in its session, itself included."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if os.getsid(process.pid) == self.process.pid and alive:
                    found.append(process)
        return found

    def find(self, name: str) -> psutil.Process:
        def named() -> psutil.Process | None:
            with suppress(psutil.Error):
                return next(
                    (process for process in self.processes() if name in " ".join(process.cmdline())), None
                )
            return None

        found: psutil.Process = until(named, f"a process {name}", 60)
        return found

    def end(self) -> None:
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        self.process.wait(30)
        shutil.rmtree(temp_dir_of(self.config.run_dir), ignore_errors=True)

    def transcribe(self, file: bytes) -> httpx.Response:
        return httpx.post(
            f"{self.app}/v1/audio/transcriptions",
            data={"model": "subtitles"},
            files={"file": file},
            timeout=60,
        )


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    running = Part(tmp_path_factory.mktemp("apps"))
    running.start()
    try:
        yield running
    finally:
        running.end()


def test_it_answers_on_the_loopback_interface_only(part: Part) -> None:
    assert httpx.get(f"{part.own}/-/alive").json() == {"alive": True}
    assert httpx.get(f"{part.own}/-/ready").json() == {"subtitles": True}
    assert httpx.get(f"{part.app}/-/ready/subtitles").json() == {"app": "subtitles", "site": "here"}
    assert httpx.get(f"{part.app}/-/ready/review").status_code == 404
    ours = {part.config.port, part.config.apps["subtitles"].port}
    listening = [
        connection.laddr
        for process in part.processes()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.port for address in listening if address.ip == "127.0.0.1"} >= ours
    # Serve's own way between replicas, unused here, cannot be told an address; Ray's token guards it.
    everywhere = [address for address in listening if address.ip in ("0.0.0.0", "::")]
    assert len(everywhere) <= len(part.config.apps)


def test_bad_input_and_missing_models_are_told_apart(part: Part) -> None:
    bad = part.transcribe(b"not media")
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid_file")
    assert bad.headers["x-headend-generated-by"] == "headend/subtitles"
    unanswered = part.transcribe(media("wav", "pcm_s16le"))
    assert (unanswered.status_code, unanswered.json()["error"]["code"]) == (503, "model_unavailable")


def test_a_killed_replica_comes_back_and_the_rest_stays(part: Part) -> None:
    replica = part.find("ServeReplica")
    replica.kill()
    until(lambda: httpx.get(f"{part.own}/-/ready").status_code == 503, "the loss is seen", 10)
    assert httpx.get(f"{part.own}/-/alive").status_code == 200
    until(part.ready, "ready again")
    assert part.find("ServeReplica").pid != replica.pid
    assert part.log.read_text().count("subtitles: answers on port") == 2


def test_apps_answer_while_their_controller_is_away(part: Part) -> None:
    part.find("ServeController").kill()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        assert httpx.get(f"{part.app}/-/ready/subtitles").status_code == 200
        time.sleep(0.1)
    assert part.find("ServeController").is_running()  # a new one


def test_secrets_and_files_are_its_owners(part: Part) -> None:
    assert (part.config.run_dir / "token").stat().st_mode & 0o777 == 0o600
    assert temp_dir_of(part.config.run_dir).stat().st_mode & 0o777 == 0o700
    token = (part.config.run_dir / "token").read_text()
    assert token not in part.log.read_text()


def test_it_ends_clean_and_starts_again(tmp_path: Path) -> None:
    shared_memory = set(Path("/dev/shm").iterdir())
    part = Part(tmp_path)
    try:
        part.start()
        part.process.send_signal(signal.SIGTERM)
        assert part.process.wait(30) == 0, part.log.read_text()
        until(lambda: not part.processes(), "all processes gone", 5)
        assert not temp_dir_of(part.config.run_dir).exists()
        assert not [path for path in set(Path("/dev/shm").iterdir()) - shared_memory if "plasma" in path.name]

        part.start()  # killed, it takes all but the raylet's agents along, and they are in its session
        part.process.kill()
        until(lambda: len(part.processes()) <= 2, "Ray's processes follow their driver", 30)
        assert {process.name().split("::")[-1] for process in part.processes()} <= {
            "DashboardAgent",
            "RuntimeEnvAgent",
        }
        part.end()

        part.start()  # over what the killed one left
        part.find("raylet/raylet").kill()
        assert part.process.wait(30) == 1
        assert "raylet died" in part.log.read_text()
    finally:
        part.end()


def test_an_app_that_never_comes_back_ends_the_part(tmp_path: Path) -> None:
    part = Part(tmp_path, patience_s=8)
    try:
        part.start()
        # Serve takes a minute to find out that a replica hangs.
        part.find("ServeReplica").suspend()
        assert part.process.wait(60) == 1
        assert "app `subtitles` has not answered for" in part.log.read_text()
    finally:
        part.end()


def test_a_wrong_config_is_explained(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"site": "here", "prot": 1}')
    done = subprocess.run(
        [sys.executable, "-m", "serving.apps.server", "--config", tmp_path / "config.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "did you mean `port`?" in done.stderr
    assert "Traceback" not in done.stderr
