"""A policy file is checked when read, taken up when it changes, and never replaced by a broken one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from models.errors import DeclarationError
from serving.apps.review.policy import Policy
from serving.apps.review.policy_file import PACKAGED, PolicyFile

POLICY = """
policy: house
version: "1"
thresholds: {sexual: {review: 0.4, block: 0.8}}
terms:
  games: {category: gambling-advertising, action: block, terms: [百家乐]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version:", "versoin:", "did you mean `version`"),
        ("action: block", "action: delete", "'review' or 'block'"),
        ("review: 0.4", "review: 0.9", r"`review` \(0.9\) may not be above `block` \(0.8\)"),
        ("{review: 0.4, block: 0.8}", "{}", "give `review`, `block` or both"),
        ("block: 0.8", "block: 8", "less than or equal to 1"),
        ("sexual:", "violence:", "no classifier scores violence"),
        ("[百家乐]", "['。。']", "no letter or digit"),
        ("[百家乐]", "[]", "at least 1 item"),
        ("policy: house", "policy: House Rules", "pattern"),
    ],
)
def test_a_wrong_policy_says_what_is_wrong(old: str, new: str, message: str) -> None:
    assert old in POLICY
    with pytest.raises(DeclarationError, match=message):
        Policy.parse(POLICY.replace(old, new), where="policy.yaml")


def test_thresholds_call_for_actions() -> None:
    threshold = Policy.parse(POLICY, where="policy.yaml").thresholds["sexual"]
    assert [threshold.action(score) for score in (0.0, 0.39, 0.4, 0.8, 1.0)] == [
        None,
        None,
        "review",
        "block",
        "block",
    ]


def test_the_packaged_policy_is_valid_and_public() -> None:
    rules = PolicyFile(PACKAGED).current()
    assert not rules.error
    assert {"gambling-advertising", "contact-solicitation"} <= {
        entry.category for entry in rules.policy.terms.values()
    }


def test_a_change_is_taken_up(path: Path) -> None:
    file = PolicyFile(path)
    before = file.current()
    path.write_text(POLICY.replace("百家乐", "六合彩"))  # as long as before, at once: only the bytes tell
    after = file.current()
    assert before.policy.version == after.policy.version
    assert before.version != after.version
    assert after.version == f"1+sha256.{after.digest[:12]}"
    assert after.matcher.find("六合彩")
    assert not after.matcher.find("百家乐")
    assert file.current() is after or file.current() == after


def test_a_broken_change_leaves_the_old_in_force(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = PolicyFile(path)
    before = file.current()
    path.write_text(POLICY.replace("action: block", "action: blokc"))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            stale = file.current()
    assert stale.version == before.version
    assert "action" in stale.error
    assert str(path.parent) not in stale.error  # clients see it
    assert len(caplog.records) == 1
    assert stale.matcher.find("百家乐")
    path.write_text(POLICY.replace('"1"', '"2"'))
    assert file.current().policy.version == "2"
    assert not file.current().error


def test_a_file_that_vanishes_and_returns(path: Path) -> None:
    file = PolicyFile(path)
    version = file.current().version
    path.unlink()
    assert file.current().error == "policy.yaml: No such file or directory"
    assert file.current().version == version
    path.write_text(POLICY)
    assert not file.current().error


def test_a_file_that_is_not_text(path: Path) -> None:
    file = PolicyFile(path)
    path.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in file.current().error


def test_it_does_not_start_without_a_valid_policy(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="No such file"):
        PolicyFile(tmp_path / "none.yaml")
