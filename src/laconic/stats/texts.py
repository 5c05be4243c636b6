"""What the texts show: reflection, loops, and how soon the right answer first stands there."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from laconic.scoring.reflection import KEYWORDS, LISTS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from laconic.stats.responses import Responses

#: A text loops where its end, this many characters, packs to less than this part of its bytes.
LOOP_CHARACTERS: Final = 3000
LOOP_RATIO: Final = 0.12
#: Texts are searched for keywords this many at a time.
_BATCH: Final = 1024


@dataclass(frozen=True)
class Keyword:
    """How often a reflection keyword occurs.

    Attributes:
        share: Share of the responses that hold it.
        total: How often it occurs in all of them together.
    """

    share: float
    total: int


@dataclass(frozen=True)
class Reflection:
    """How much a run reflects, by one list of keywords.

    Attributes:
        share: Share of the responses that hold a keyword (the paper's A over n).
        per_response: Keywords, mean over all responses.
        per_reflective: Keywords, mean over the responses that hold one (the paper's B); 0 where
            none does.
        per_thousand: Keywords per 1,000 tokens of all responses together.
        keywords: By keyword.
    """

    share: float
    per_response: float
    per_reflective: float
    per_thousand: float
    keywords: Mapping[str, Keyword]


@dataclass(frozen=True)
class Texts:
    """What the texts of a run on one task show; every response counts the same.

    Attributes:
        reflection: By list of keywords: ``paper``, ``script``, ``words``.
        loops: Share of the responses that end in a loop.
        after_right: Share of a right response that follows the first place where its answer
            stands: mean over the right responses that hold it literally; None where none does.
        placed: How many those are.
    """

    reflection: Mapping[str, Reflection]
    loops: float
    after_right: float | None
    placed: int


def read_texts(responses: Responses) -> Texts:
    """Read the texts of a run on one task."""
    texts = [row.text for row in responses.results]
    loose, strict = keyword_counts(texts)
    tokens = float(responses.length.sum())
    counts = {"paper": loose, "script": loose, "words": strict}
    known = {gold: spellings(gold) for gold in set(responses.golds)}
    places = [
        after_first(row.text, {*known[row.gold], row.answer or ""})
        for row in responses.results
        if row.correct
    ]
    placed = [place for place in places if place is not None]
    return Texts(
        reflection={
            name: reflection(counts[name][:, [KEYWORDS.index(k) for k in listed]], listed, tokens)
            for name, listed in LISTS.items()
        },
        loops=sum(map(loops, texts)) / len(texts),
        after_right=math.fsum(placed) / len(placed) if placed else None,
        placed=len(placed),
    )


def keyword_counts(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How often each text holds each of `KEYWORDS`: anywhere, and as a whole word.

    What `count_substrings` and `count_words` find in one text, ``[text, keyword]`` each.
    """
    loose, strict = np.zeros((2, len(texts), len(KEYWORDS)), dtype=np.int64)
    for start in range(0, len(texts), _BATCH):
        lower = [text.lower() for text in texts[start : start + _BATCH]]
        ends = np.cumsum([len(text) + 1 for text in lower])
        joined = "\n".join(["", *lower, ""])
        letters = np.frombuffer(joined.encode("latin-1", "replace"), dtype=np.uint8)
        letter = (letters >= ord("a")) & (letters <= ord("z"))
        for j, keyword in enumerate(KEYWORDS):
            places = _search(joined, keyword)
            if not len(places):
                continue
            owners = np.searchsorted(ends, places)
            alone = ~letter[places - 1] & ~letter[places + len(keyword)]
            n = slice(start, start + len(lower))
            loose[n, j] = np.bincount(owners, minlength=len(lower))
            strict[n, j] = np.bincount(owners[alone], minlength=len(lower))
    return loose, strict


def _search(text: str, keyword: str) -> NDArray[np.int64]:
    """Where a keyword stands in a text."""
    places = []
    place = text.find(keyword)
    while place >= 0:
        places.append(place)
        place = text.find(keyword, place + len(keyword))
    return np.array(places, dtype=np.int64)


def reflection(counts: NDArray[np.int64], keywords: Sequence[str], tokens: float) -> Reflection:
    """Sum up keyword counts.

    Args:
        counts: How often each response holds each keyword, ``[response, keyword]``.
        keywords: Their names.
        tokens: Completion tokens of all responses together.
    """
    by_response = counts.sum(axis=1)
    total, reflective = int(by_response.sum()), int(np.count_nonzero(by_response))
    return Reflection(
        share=reflective / len(counts),
        per_response=total / len(counts),
        per_reflective=total / reflective if reflective else 0.0,
        per_thousand=1000 * total / tokens if tokens else 0.0,
        keywords={
            keyword: Keyword(float(np.mean(column > 0)), int(column.sum()))
            for keyword, column in zip(keywords, counts.T, strict=True)
        },
    )


def loops(text: str) -> bool:
    """Whether a text ends in a loop: its last 3,000 characters pack (zlib) to under 12 %.

    A shorter text is no loop.
    """
    if len(text) < LOOP_CHARACTERS:
        return False
    end = text[-LOOP_CHARACTERS:].encode("utf-8", "surrogatepass")
    return len(zlib.compress(end)) < LOOP_RATIO * len(end)


def after_first(text: str, answers: Collection[str]) -> float | None:
    """The share of a text that follows the first place where one of some answers stands.

    Literally, and not as part of a longer number. Small whole numbers also stand there by
    accident, so it is an upper bound of what was said after the answer was found.

    Args:
        text: The text.
        answers: Spellings of the answer; empty ones are passed over.

    Returns:
        From 0 (at the very end) to just under 1, None where none of them stands there.
    """
    ends = [end for answer in answers if answer and (end := _first_end(text, answer))]
    return 1 - min(ends) / len(text) if ends else None


def spellings(gold: str) -> tuple[str, ...]:
    """A gold as it stands and, of a whole number, without ``.0`` behind or zeros in front."""
    whole = re.fullmatch(r"0*(\d+)(?:\.0+)?", gold)
    return (gold, whole.group(1)) if whole else (gold,)


def _first_end(text: str, answer: str) -> int:
    """Where the first occurrence of an answer ends, 0 where there is none."""
    start = text.find(answer)
    while start >= 0:
        end = start + len(answer)
        before, after = text[start - 1 : start], text[end : end + 1]
        if not (before.isdigit() or before == "." or after.isdigit()):
            return end
        start = text.find(answer, start + 1)
    return 0
