"""Faults of real processes under a real supervisor."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from waiting import free_ports

from serving.site.machine import State
from serving.site.process import memory
from serving.site.spec import PartSpec, SiteDirectory, SiteSpec

PART = Path(__file__).with_name("part.py")


def part(name, *options, **more):
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, str(PART), str(port), *map(str, options)]
    return PartSpec(name=name, argv=argv, ports={"http": port}, ready=url, **{"grace_s": 2, **more})


def until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.05)


class Running:
    """A supervised site."""

    def __init__(self, *parts):
        self.directory = SiteDirectory("test", "here")
        self.directory.create()
        self.write(*parts)
        with self.directory.log("supervisor").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "serving.site.supervisor", "test", "here"],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def write(self, *parts):
        self.directory.write_spec(SiteSpec(fleet="test", site="here", front_door="", parts=list(parts)))

    def part(self, name):
        state = self.directory.read_state()
        found = [part for part in state.parts if part.name == name] if state else []
        return found[0] if found else None

    def wait(self, name, state, seconds=20):
        until(lambda: (found := self.part(name)) and found.state is state and found.pid, seconds)
        return self.part(name)

    def everything(self):
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    started = []

    def begin(*parts):
        started.append(Running(*parts))
        return started[-1]

    yield begin
    for site in started:
        if site.process.poll() is None:
            site.process.terminate()
        site.process.wait(30)


def gone(processes):
    return not any(map(running, processes))


def running(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # It ended between the two questions.
        return False


def test_parts_become_ready_and_end_without_a_trace(run):
    site = run(part("one"), part("two"))
    one, two = site.wait("one", State.READY), site.wait("two", State.READY)
    assert one.pid != two.pid
    assert memory(one.keeper) > 5 << 20
    assert "part begins" in site.directory.log("one").read_text()
    processes = site.everything()
    site.process.terminate()
    assert site.process.wait(10) == 0
    assert gone(processes)
    assert {p.state for p in site.directory.read_state().parts} == {State.STOPPED}
    assert not site.directory.supervised()


def test_a_killed_part_is_restarted_and_the_other_not_touched(run):
    site = run(part("one"), part("two"))
    one, two = site.wait("one", State.READY), site.wait("two", State.READY)
    os.kill(one.pid, signal.SIGKILL)
    until(lambda: site.part("one").restarts == 1)
    again = site.wait("one", State.READY)
    assert again.pid != one.pid
    assert again.ports == one.ports
    assert again.error == "killed by SIGKILL"
    assert site.part("two") == two


def test_a_part_that_exits_at_once_is_given_up_and_revived_by_hand(run, tmp_path):
    broken = PartSpec(
        name="broken", argv=["/bin/sh", "-c", "echo no luck; exit 3"], ready="http://127.0.0.1:1"
    )
    site = run(broken, part("well"))
    until(lambda: (found := site.part("broken")) and found.state is State.FAILED)
    assert site.part("broken").error == "exit status 3 (4 starts, never ready)"
    assert "no luck" in site.directory.log("broken").read_text()
    well = site.wait("well", State.READY)
    assert site.directory.read_state().state is State.FAILED
    site.process.send_signal(signal.SIGHUP)
    until(lambda: site.part("broken").state is not State.FAILED)
    assert site.part("well") == well


def test_a_program_that_does_not_exist_says_so(run):
    site = run(PartSpec(name="missing", argv=["/no/such/program"], ready="http://127.0.0.1:1"))
    until(lambda: (found := site.part("missing")) and found.error)
    assert site.part("missing").error == "exit status 127"
    assert "cannot start /no/such/program" in site.directory.log("missing").read_text()


def test_a_stubborn_part_is_killed_after_its_grace(run):
    site = run(part("stubborn", "stubborn", grace_s=0.5))
    site.wait("stubborn", State.READY)
    processes = site.everything()
    site.process.terminate()
    assert site.process.wait(10) == 0
    assert gone(processes)


def test_a_second_signal_does_not_wait_for_the_grace(run):
    site = run(part("stubborn", "stubborn", grace_s=60))
    site.wait("stubborn", State.READY)
    processes = site.everything()
    site.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert site.process.poll() is None
    site.process.send_signal(signal.SIGINT)
    assert site.process.wait(10) == 0
    assert gone(processes)


@pytest.mark.parametrize("victim", ["part", "keeper", "supervisor", "keeper and part", "asked"])
def test_daemons_of_a_part_never_outlive_it(run, tmp_path, victim):
    pid_file = tmp_path / "daemon.pid"
    site = run(part("one", "daemons", pid_file))
    one = site.wait("one", State.READY)
    until(pid_file.exists)
    processes = site.everything()
    began = [psutil.Process(one.pid), psutil.Process(int(pid_file.read_text()))]
    assert set(began) <= set(processes)
    match victim:
        case "part":
            os.kill(one.pid, signal.SIGKILL)
        case "keeper":
            os.kill(one.keeper, signal.SIGKILL)
        case "keeper and part":
            os.kill(one.keeper, signal.SIGKILL)
            os.kill(one.pid, signal.SIGKILL)
        case "supervisor":
            site.process.kill()
        case "asked":
            site.process.terminate()
    until(lambda: gone(began))
    if victim not in ("supervisor", "asked"):
        until(lambda: site.part("one").restarts == 1)
        site.wait("one", State.READY)


def test_a_killed_supervisor_is_recognised_and_leaves_nothing(run):
    site = run(part("one"), part("two", "stubborn", grace_s=0.5))
    site.wait("one", State.READY)
    site.wait("two", State.READY)
    processes = site.everything()
    site.process.kill()
    site.process.wait()
    state = site.directory.read_state()
    assert {p.state for p in state.parts} == {State.STOPPED}
    assert {p.error for p in state.parts} == {"its supervisor was killed"}
    until(lambda: gone(processes), 10)


def test_what_outlived_supervisor_and_keepers_is_swept_by_the_next_one(run, tmp_path):
    pid_file = tmp_path / "daemon.pid"
    spec = part("one", "daemons", pid_file)
    site = run(spec)
    one = site.wait("one", State.READY)
    until(pid_file.exists)
    daemon = psutil.Process(int(pid_file.read_text()))
    site.process.kill()
    os.kill(one.keeper, signal.SIGKILL)
    assert daemon.is_running()
    run(spec)
    until(lambda: gone([daemon]))


def test_two_supervisors_of_one_site_are_refused(run):
    site = run(part("one"))
    site.wait("one", State.READY)
    second = run(part("one"))
    assert second.process.wait(20) == 1
    assert "has a supervisor already" in site.directory.log("supervisor").read_text()


def test_a_hung_part_is_restarted_and_an_unready_one_is_not(run, tmp_path):
    hung, unready = tmp_path / "hung", tmp_path / "unready"
    calm = part("calm", "unready", unready)
    calm = calm.model_copy(update={"alive": f"{calm.ready}/alive"})
    site = run(part("one", "hung", hung, unready_limit_s=1), calm.model_copy(update={"unready_limit_s": 1}))
    site.wait("one", State.READY)
    site.wait("calm", State.READY)
    hung.touch()
    unready.touch()
    until(lambda: site.part("one").restarts == 1)
    hung.unlink()
    site.wait("one", State.READY)
    assert "not ready within 1 s" in site.part("one").error
    calm = site.part("calm")
    assert calm.state is State.UNREADY
    assert calm.restarts == 0
    unready.unlink()
    site.wait("calm", State.READY)


def test_a_part_that_stands_still_is_killed_and_one_that_is_late_is_not(run, tmp_path):
    late = tmp_path / "late"
    site = run(part("still", grace_s=60), part("busy", "late", late))
    still, busy = site.wait("still", State.READY), site.wait("busy", State.READY)
    late.touch()
    os.kill(still.pid, signal.SIGSTOP)
    until(lambda: site.part("still").restarts == 1)
    assert site.part("still").error == "it answers nothing and does nothing"
    until(lambda: site.part("busy").state is State.UNREADY)
    time.sleep(5)
    late.unlink()
    assert site.wait("busy", State.READY).pid == busy.pid
    assert site.wait("still", State.READY).pid != still.pid


def test_a_new_spec_restarts_what_changed_only(run):
    one, two, three = part("one"), part("two"), part("three")
    site = run(one, two)
    before = {name: site.wait(name, State.READY) for name in ("one", "two")}
    site.write(one, two.model_copy(update={"fingerprint": "new"}), three)
    site.process.send_signal(signal.SIGHUP)
    site.wait("three", State.READY)
    until(lambda: site.part("two").state is State.READY)
    assert site.part("one") == before["one"]
    assert site.part("two").pid != before["two"].pid


def test_shared_memory_of_a_killed_part_is_removed(run, tmp_path):
    prefix = f"headend-test-{os.getpid()}-"
    site = run(part("one", shm_prefix=prefix))
    one = site.wait("one", State.READY)
    left = Path(f"/dev/shm/{prefix}region")
    left.touch()
    os.kill(one.pid, signal.SIGKILL)
    until(lambda: not left.exists())
