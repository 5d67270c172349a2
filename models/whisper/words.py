"""Word timestamps from the decoder's cross-attention.

The method is openai/whisper's (`whisper/timing.py`): weights of the heads that follow the sound are
normalised over the tokens, smoothed by a median over time and averaged; dynamic time warping (Sakoe & Chiba,
1978) finds the monotonic path of tokens through frames; punctuation joins its neighbour; words stretched over
a pause shrink.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

FRAME_S = 0.02
"""Seconds per encoder frame."""
_MEDIAN_WIDTH = 7
_OPENING = "\"'“¿([{-"
_CLOSING = "\"'.。,，!！?？:：”)]}、"
_SENTENCE_END = ".。!！?？"
_LONGEST_MEDIAN_S = 0.7

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Word:
    """A word as heard."""

    text: str
    """With the space before it, if any: the words of a text joined are the text."""
    start: float
    """Seconds from the segment's start."""
    end: float
    probability: float


def align(
    attention: Floats, before: int, words: Sequence[tuple[str, int]], probabilities: Sequence[float]
) -> list[Word]:
    """Times of `words`, (text, number of tokens) each.

    Args:
        attention: `[heads, before + tokens, frames]`, a row for every token fed to the decoder.
        before: rows of `attention` before the one that chose the first of the words' tokens.
        words: from `Tokenizer.words`, without the end of text.
        probabilities: of every token of the words.
    """
    if not words:
        return []
    edges = np.cumsum([0, *(count for _, count in words)])
    found = token_starts(attention[:, : before + edges[-1] + 1], before)
    starts = np.append(found, attention.shape[-1]) * FRAME_S  # a text cut short has no token that ends it
    timed = [
        Word(text, float(starts[first]), float(starts[last]), float(np.mean(probabilities[first:last])))
        for (text, _), first, last in zip(words, edges[:-1], edges[1:], strict=True)
    ]
    return _joined(_shortened(timed))


def token_starts(attention: Floats, before: int) -> npt.NDArray[np.int64]:
    """The frame at which each token chosen from row `before` on starts: `[rows - before]`."""
    frames = attention.shape[-1]
    weights = attention / np.maximum(attention.sum(-1, keepdims=True), 1e-12)  # of the frames that are sound
    mean, deviation = weights.mean(1, keepdims=True), weights.std(1, keepdims=True)
    smooth = median_filter((weights - mean) / np.maximum(deviation, 1e-12))
    tokens, times = dtw(-smooth.mean(0)[before:].astype(np.float64))
    first = np.flatnonzero(np.diff(tokens, prepend=-1))
    return np.minimum(times[first], frames - 1)


def median_filter(x: Floats) -> Floats:
    """Median of seven neighbours along the last axis, mirrored at the ends; fewer than four stay."""
    half = _MEDIAN_WIDTH // 2
    if x.shape[-1] <= half:
        return x
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, half)], mode="reflect")
    window = [padded[..., i : i + x.shape[-1]] for i in range(_MEDIAN_WIDTH)]
    # Odd-even transposition sort of whole arrays: several times faster than sorting each window.
    for turn in range(_MEDIAN_WIDTH):
        for i in range(turn % 2, _MEDIAN_WIDTH - 1, 2):
            window[i], window[i + 1] = (
                np.minimum(window[i], window[i + 1]),
                np.maximum(window[i], window[i + 1]),
            )
    return window[half]


def dtw(cost: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The cheapest monotonic path through `cost` `[N, M]`, corner to corner: row and column of each step."""
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    for i in range(rows):
        # In a row t[j] = c[j] + min(a[j], t[j-1]): with the running sum taken off, that is a running minimum.
        above = np.minimum(total[i, 1:], total[i, :-1])
        run = np.cumsum(cost[i])
        total[i + 1, 1:] = run + np.minimum.accumulate(above - (run - cost[i]))
    i, j = rows, columns
    path = []
    while i and j:
        path.append((i - 1, j - 1))
        diagonal, up, left = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        if diagonal <= up and diagonal <= left:
            i, j = i - 1, j - 1
        elif up < left:
            i -= 1
        else:
            j -= 1
    steps = np.array(path[::-1], np.int64)
    return steps[:, 0], steps[:, 1]


def _shortened(words: list[Word]) -> list[Word]:
    """Words beside the end of a sentence, or at the ends of the segment, last at most twice the median."""
    durations = [word.end - word.start for word in words if word.end > word.start]
    longest = 2 * min(_LONGEST_MEDIAN_S, float(np.median(durations))) if durations else 0.0
    out = list(words)
    for i, word in enumerate(words):
        if word.end - word.start <= longest:
            continue
        if word.text.strip() in _SENTENCE_END or i == len(words) - 1:
            out[i] = replace(word, end=word.start + longest)
        elif i == 0 or words[i - 1].text.strip() in _SENTENCE_END:
            out[i] = replace(word, start=word.end - longest)
    return out


def _joined(words: list[Word]) -> list[Word]:
    """Opening punctuation joins the word after it, closing the word before; times stay the word's."""
    out: list[Word] = []
    opening = ""
    for word in words:
        bare = word.text.strip()
        if word.text.startswith(" ") and bare and bare in _OPENING:
            opening += word.text
        elif out and not opening and bare and word.text in _CLOSING:
            out[-1] = replace(out[-1], text=out[-1].text + word.text)
        else:
            out.append(replace(word, text=opening + word.text))
            opening = ""
    if opening and out:
        out[-1] = replace(out[-1], text=out[-1].text + opening)
    return out
