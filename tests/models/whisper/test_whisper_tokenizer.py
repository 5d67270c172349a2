"""The vocabulary: languages, text that must stay text, and tokens gathered into words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import IntegrityError, UsageError
from models.whisper.config import read_config
from models.whisper.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Tokenizer:
    return Tokenizer(tiny / "tokenizer.json", read_config(tiny).languages)


def test_languages_are_those_of_the_configuration(tokenizer: Tokenizer) -> None:
    assert set(tokenizer.languages) == {"en", "zh"}
    assert tokenizer.begin("ZH")[1] == tokenizer.languages["zh"]
    with pytest.raises(UsageError, match="unknown language `xx`"):
        tokenizer.language("xx")


def test_text_that_spells_a_special_token_gives_no_special_token(tokenizer: Tokenizer) -> None:
    assert all(token < tokenizer.end for token in tokenizer.encode("a<|endoftext|>b<|zh|>"))


@given(text=st.text(max_size=30))
def test_words_leave_nothing_out(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    for language in ("en", "zh"):
        words = tokenizer.words(tokens, language)
        assert sum(count for _, count in words) == len(tokens)
        assert all(count for _, count in words)
        assert "".join(word for word, _ in words) == tokenizer.decode(tokens)


def test_spaces_part_words_where_a_language_has_them(tokenizer: Tokenizer) -> None:
    def heard(text: str, language: str) -> list[str]:
        return [word for word, _ in tokenizer.words(tokenizer.encode(text), language)]

    assert heard(" no, it is", "en") == [" no", ",", " it", " is"]
    assert heard("广州GDP", "zh") == ["广", "州", "G", "D", "P"]


def test_a_character_cut_in_two_stays_one_word(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("广州")[:-1]
    assert next(word for word, _ in tokenizer.words(tokens, "zh")) == "广"
    assert sum(count for _, count in tokenizer.words(tokens, "zh")) == len(tokens)


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "config.json").write_text('{"lang_ids": "no"}')
    with pytest.raises(IntegrityError, match="not a tokenizer"):
        Tokenizer(tmp_path / "tokenizer.json", [])
    with pytest.raises(IntegrityError, match="not Whisper's configuration"):
        read_config(tmp_path)
