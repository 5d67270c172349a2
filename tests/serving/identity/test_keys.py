"""API keys: their form, what is kept of them, and the command."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from models.errors import IntegrityError, UsageError
from serving.cli import app
from serving.fleet import ROLES, Access
from serving.identity import KeyStore
from serving.identity.keys import digest
from serving.router import access


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyStore:
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    return KeyStore("f")


def test_a_key_has_the_documented_form_and_only_its_digest_is_kept(store: KeyStore) -> None:
    key, shown = store.create("news", ROLES, "live")
    found = re.fullmatch(r"hk_([a-z2-7]{10})_([A-Za-z0-9_-]{43})", shown)
    assert found
    assert found[1] == key.id
    assert digest(found[2]) == key.digest
    assert found[2] not in store.path.read_text()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert store.read() == (key,)


@given(st.text(max_size=80), st.text(max_size=80))
def test_other_secrets_have_other_digests(one: str, other: str) -> None:
    assert (digest(one) == digest(other)) == (one == other)


def test_the_digest_is_htpasswds() -> None:
    """`htpasswd -nbs x secret` prints it."""
    assert digest("secret") == "5en6G6MezRroT3XKqkdPOmY/BfQ="


def test_a_revoked_key_is_in_no_file_of_the_front_door(store: KeyStore, tmp_path: Path) -> None:
    kept, _ = store.create("news", ["infer"], "live")
    gone, _ = store.create("news", ["infer"], "live")
    assert store.revoke(gone.id).revoked
    written = json.dumps(access.files(Access(), store.read(), tmp_path))
    assert kept.id in written
    assert kept.digest in written
    assert gone.id not in written
    assert gone.digest not in written
    with pytest.raises(UsageError, match="no valid key"):
        store.revoke(gone.id)


def test_a_damaged_store_is_reported(store: KeyStore) -> None:
    store.create("news", ["infer"], "live")
    store.path.write_text(store.path.read_text()[:50])
    with pytest.raises(IntegrityError, match=r"keys\.json"):
        store.read()


def test_the_command(store: KeyStore, tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text("{fleet: f, models: {}, access: {}, sites: {a: {front_door: '127.0.0.1:8080'}}}")

    def headend(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["keys", *arguments, "-f", str(fleet)])
        assert done.exit_code == 0, done.output
        return done.stdout

    made = json.loads(headend("create", "news", "--role", "infer", "--class", "live", "--json"))
    assert made["key"].startswith(f"hk_{made['id']}_")
    (listed,) = json.loads(headend("list", "--json"))
    assert listed["highest_class"] == "live"
    assert made["key"].split("_", 2)[2] not in headend("list")
    assert "revoked" in headend("revoke", made["id"])
    refused = CliRunner().invoke(app, ["keys", "create", "No Name", "-f", str(fleet)])
    assert isinstance(refused.exception, UsageError)
