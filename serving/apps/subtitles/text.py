"""The script that Chinese is written in: Whisper mixes Simplified and Traditional, readers want one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal

from serving.apps.subtitles.transcript import Word

Script = Literal["simplified", "traditional", "as-is"]
_CONVERSIONS = {"simplified": "t2s", "traditional": "s2t"}
CHINESE = ("zh", "yue")
"""ISO 639 codes of the languages that have the choice."""


@cache
def _converter(script: Script) -> Any:
    from opencc import OpenCC

    return OpenCC(_CONVERSIONS[script])


def in_script(words: Sequence[Word], script: Script) -> tuple[Word, ...]:
    """`words` in `script`.

    They are converted as one text, because the right character may depend on its neighbours
    (乾 is 干 in 乾燥, and stays in 乾隆); should that change the length, word by word.
    """
    if script == "as-is" or not words:
        return tuple(words)
    convert = _converter(script).convert
    texts = [word.text for word in words]
    whole = convert("".join(texts))
    if len(whole) != sum(map(len, texts)):
        return tuple(replace(word, text=convert(word.text)) for word in words)
    converted, at = [], 0
    for word in words:
        converted.append(replace(word, text=whole[at : at + len(word.text)]))
        at += len(word.text)
    return tuple(converted)
