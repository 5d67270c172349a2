"""The recognisers' metric: character error rate (edits over reference length), as used for Mandarin since
AISHELL-1.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from models.errors import MissingExtraError

try:
    from rapidfuzz.distance import Levenshtein
except ImportError as error:
    raise MissingExtraError("Measuring character error rates", "build") from error


def plain(text: str) -> str:
    """Text as it is compared: NFKC, case folded, letters, marks and digits only."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in folded if unicodedata.category(char)[0] in "LMN")


def error_rate(texts: Sequence[str], transcripts: Sequence[str]) -> float:
    """Edits over all texts divided by all characters of the transcripts; raises ValueError if these have
    none.
    """
    pairs = [(plain(text), plain(right)) for text, right in zip(texts, transcripts, strict=True)]
    total = sum(len(right) for _, right in pairs)
    if not total:
        raise ValueError("the transcripts have no characters")
    return float(sum(Levenshtein.distance(text, right) for text, right in pairs) / total)
