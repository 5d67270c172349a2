"""Logs: bounded, and read from their end."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from serving.site import logs

lines = st.lists(
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40), max_size=30
)


@given(lines, st.integers(0, 40))
def test_the_tail_is_the_last_lines(tmp_path_factory, written, count):
    log = tmp_path_factory.mktemp("log") / "part.log"
    log.write_text("".join(f"{line}\n" for line in written), "utf-8")
    assert logs.tail(log, count) == (written[-count:] if count else [])


def test_there_may_be_no_log(tmp_path):
    assert logs.tail(tmp_path / "none.log", 5) == []


def test_a_log_is_cut_at_its_bound_while_it_is_written(tmp_path):
    log = tmp_path / "part.log"
    with log.open("a", buffering=1) as writer:
        writer.write("x" * 100 + "\n")
        logs.bound(tmp_path, max_bytes=200)
        assert log.stat().st_size == 101
        writer.write("y" * 100 + "\n")
        logs.bound(tmp_path, max_bytes=200)
        writer.write("z\n")
    assert log.read_text() == "z\n"
    assert (tmp_path / "part.log.1").read_text() == "x" * 100 + "\n" + "y" * 100 + "\n"


def test_following_yields_whole_lines_and_survives_a_cut(tmp_path):
    log = tmp_path / "part.log"
    log.write_text("old\n")
    followed = logs.follow({"part": log}, poll_s=0.01)

    def after_writing(text):
        threading.Timer(0.1, lambda: log.open("a").write(text)).start()
        return next(followed)

    assert after_writing("one\ntw") == ("part", "one")
    assert after_writing("o\n") == ("part", "two")
    logs.bound(tmp_path, max_bytes=1)
    assert after_writing("three\n") == ("part", "three")
