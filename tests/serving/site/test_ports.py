"""Inner ports: free, kept, and never given twice."""

import os
import socket
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.site import ports


@given(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.sets(st.integers(20_000, 32_000), max_size=50))
@settings(max_examples=30, deadline=None)
def test_chosen_ports_are_distinct_and_not_taken(purposes, taken):
    chosen = ports.choose(purposes, {}, taken)
    assert set(chosen) == purposes
    assert len(set(chosen.values())) == len(purposes)
    assert not taken & set(chosen.values())


def test_a_kept_port_stays_while_it_is_free():
    first = ports.choose(["a", "b"], {}, set())
    assert ports.choose(["a", "b"], first, set()) == first
    assert ports.choose(["a"], first, {first["a"]})["a"] != first["a"]
    with socket.create_server(("127.0.0.1", first["a"])):
        second = ports.choose(["a", "b"], first, set())
        assert second["a"] != first["a"]
        assert second["b"] == first["b"]


def test_what_one_process_has_chosen_no_other_chooses(monkeypatch):
    """Nothing listens yet: where two ports are left, one process gets both, and another none of them."""
    monkeypatch.setattr(ports, "_FIRST", 32_600)
    monkeypatch.setattr(ports, "_LAST", 32_601)
    assert set(ports.choose(["a", "b"], {}, set()).values()) == {32_600, 32_601}
    other = "from serving.site import ports; ports._FIRST, ports._LAST = 32_600, 32_602; "
    other += "print(*ports.choose('a', {}, set()).values())"
    told = subprocess.run(
        [sys.executable, "-c", other], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout == "32602\n"


def test_a_holder_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f"127.0.0.1:{port} is held by pid {os.getpid()} (" in ports.obstacle(f"127.0.0.1:{port}")
    assert ports.obstacle(f"127.0.0.1:{port}") == ""


def test_an_address_of_another_machine_is_no_place_to_listen():
    assert "cannot be listened on" in ports.obstacle("192.0.2.1:8080")  # TEST-NET-1, RFC 5737
    assert "cannot be listened on" in ports.obstacle("no-such-host.invalid:8080")
