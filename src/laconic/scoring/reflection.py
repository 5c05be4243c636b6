"""Reflection keywords: the lists that are counted, and how often a text holds each keyword.

The paper (arXiv 2503.20641) names eight keywords; its released script leaves out "let me verify".
Both count substrings in any case, so that "await" holds "wait". The third list is the paper's,
counted as whole words. No keyword overlaps another, so the counts of a text simply add up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

KEYWORDS: Final = (
    *("wait", "re-examine", "double-check", "let me check", "recap"),
    *("let me just verify", "let me just check", "let me verify"),
)
#: The keywords of each list, by the list's name.
LISTS: Final[Mapping[str, tuple[str, ...]]] = {
    "paper": KEYWORDS,
    "script": KEYWORDS[:-1],
    "words": KEYWORDS,
}
# Each keyword looks behind itself: a pattern that begins with its letters is searched for faster.
_WORD = re.compile(
    rf"(?:{'|'.join(rf'{k}(?<![a-z]{k})' for k in map(re.escape, KEYWORDS))})(?![a-z])"
)


def count_substrings(text: str) -> tuple[int, ...]:
    """How often a text holds each of `KEYWORDS`, in any case, inside longer words too."""
    lower = text.lower()
    return tuple(lower.count(keyword) for keyword in KEYWORDS)


def count_words(text: str) -> tuple[int, ...]:
    """How often a text holds each of `KEYWORDS` with no letter before or after it, in any case."""
    found = Counter(_WORD.findall(text.lower()))
    return tuple(found[keyword] for keyword in KEYWORDS)


def count_reflections(text: str) -> int:
    """How many reflection keywords a text holds: whole words, any case, each match once."""
    return sum(count_words(text))
