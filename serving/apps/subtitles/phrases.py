"""Where a line or a cue may be broken, and how well: pure functions over text.

A break is allowed at spaces, and beside a Chinese or Japanese character where a word ends (Chinese words
from jieba's dictionary through `rjieba`); never inside a word or a number, between a number and its unit, or
before closing punctuation.
"""

from __future__ import annotations

import re
import unicodedata
from enum import IntEnum

from serving.apps.subtitles.transcript import is_spaceless

_SENTENCE_END = "。！？!?.…"
_CLAUSE_END = "，、；：,;:—"
_CLOSING = "。，、；：！？…—”’」』）】》〉·％!?,.;:%)]}\"'"
_OPENING = "“‘「『（【《〈([{$¥￥"
_CHINESE_NUMERALS = "零〇一二三四五六七八九十百千万亿两点几"
# Words that lean on the next one: a line that ends with them reads badly.
_LEAN_ON_NEXT = frozenset(
    """
    a an the of to in on at by for from with and or but nor so as if is are was were be been am my your his
    her its our their this that these those no not i you he she it we they who which very mr mrs ms dr
    在 把 被 和 与 及 或 对 从 向 往 给 让 使 为 为了 因为 所以 如果 但 但是 而 而且 并 并且 是 有 很 更 最
    不 没 没有 这 那 每 各 第 前 一个 这个 那个 我 你 他 她 它 我们 你们 他们
    """.split()  # noqa: SIM905  # a list of words reads best as words
)
# Particles that lean on the word before.
_LEAN_ON_LAST = frozenset("的地得了着过们吗呢吧啊呀嘛之等里上下中内外后时")


class Break(IntEnum):
    """How good a place for a break is, best first."""

    SENTENCE = 0
    CLAUSE = 1
    PHRASE = 2
    """Between words that stand well apart."""
    WORD = 3
    """Allowed, but the words belong together."""


def breaks(text: str) -> dict[int, Break]:
    """Offsets in `text` before which it may be broken, and how good each place is; neither 0 nor the end."""
    ends = sorted(_word_ends(text))
    return {
        at: _quality(text, last, at, following)
        for last, at, following in zip([0, *ends], ends, [*ends[1:], len(text)], strict=False)
    }


def _word_ends(text: str) -> set[int]:
    ends = {match.end() for match in re.finditer(r"\s+", text)}
    if any(map(is_spaceless, text)):
        ends |= _segmented(text)
    return {at for at in ends if 0 < at < len(text) and not _glued(text, at)}


def _segmented(text: str) -> set[int]:
    """Ends of the words of scripts without spaces."""
    import rjieba

    ends, at = set(), 0
    for word in rjieba.cut(text):
        at += len(word)
        ends.add(at)
    return {at for at in ends if at < len(text) and (is_spaceless(text[at - 1]) or is_spaceless(text[at]))}


def _glued(text: str, at: int) -> bool:
    """Whether what stands before and after belongs together whatever the words are."""
    last, following = text[at - 1], text[at]
    if following in _CLOSING or last in _OPENING or following.isspace() or unicodedata.combining(following):
        return True
    if last.isspace():  # 10 000
        return bool(re.search(r"\d\s$", text[max(0, at - 2) : at])) and following.isdigit()
    if last.isdigit():
        return following.isdigit() or is_spaceless(following)
    return last in _CHINESE_NUMERALS and following in _CHINESE_NUMERALS


def _quality(text: str, last: int, at: int, following: int) -> Break:
    before = text[last:at].strip()
    if not before:
        return Break.WORD
    ending = before.rstrip("”’」』）】》〉\")]}'")[-1:]
    if ending in _SENTENCE_END:
        return Break.SENTENCE
    if ending in _CLAUSE_END:
        return Break.CLAUSE
    after = text[at:following].strip(_CLOSING + " ").lower()
    if before.lower() in _LEAN_ON_NEXT or after in _LEAN_ON_LAST:
        return Break.WORD
    return Break.PHRASE
