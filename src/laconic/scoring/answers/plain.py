"""Comparing two answers without algebra, as far as their spelling shows what they are.

The rules, in order: the same spelling; a choice's letter; words; single letters; times of day;
numerals of written bases; rational numbers; brackets of different kinds. What none of them decides
is algebra's.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from laconic.scoring.answers import choices
from laconic.scoring.answers.spelling import as_latex, normalise, rational

#: Numbers this close, of which one is a decimal, may be one number rounded: not ours to decide.
ROUNDED: Final = Fraction(1, 1000)

_BASE = re.compile(r"([0-9][0-9A-Za-z]*)_\{?(\d{1,2})\}?")
_TIME = re.compile(r"(\d{1,2})(?::(\d\d))?([ap])\.?m\.?", re.IGNORECASE)
_ELLIPSIS = re.compile(r"\\(?:ldots|dots|cdots|dotsc)(?![A-Za-z])|\.{3}")
_HELD = re.compile(r"\\(?:text|textbf|textrm|mathrm|mbox)\s*\{([^{}]*)\}")
_PROSE = re.compile(r"[A-Za-z][A-Za-z,.'-]{5,}")  # no product of variables is that long


def compare_plain(gold: str, answer: str) -> bool | None:
    """Whether two answers are equal, as far as that can be seen without algebra.

    Equal are: the same spelling; a choice's letter, alone or before its text; the same words in
    any case; the same rational value. Unequal are: another letter, other words, `e` for the choice
    E; another time of day; numerals of different written bases; rationals that differ by more than
    rounding; a finite set and a tuple or interval.

    Returns:
        None where algebra must decide.
    """
    if gold.strip() == answer.strip():
        return True
    letter = choices.choice(gold)
    if letter and (said := choices.chosen(answer)):
        return said == letter
    left, right = normalise(gold), normalise(answer)
    if left == right:
        return True
    mine, theirs = choices.word(gold), choices.word(answer)
    if (mine and theirs) or (_PROSE.fullmatch(left) and _PROSE.fullmatch(right)):
        return (mine or left).casefold() == (theirs or right).casefold()
    if len(left) == len(right) == 1 and left.isalpha() and right.isalpha():
        return False
    times = _minutes(left), _minutes(right)
    if times[0] is not None and times[1] is not None:
        return times[0] == times[1]
    bases = _BASE.fullmatch(left), _BASE.fullmatch(right)
    if bases[0] and bases[1]:
        return bases[0].groups() == bases[1].groups()
    if (by_value := _same_number(left, right)) is not None:
        return by_value
    if (_is_set(left) and _is_tuple(right)) or (_is_tuple(left) and _is_set(right)):
        return False
    return None


def same_words(gold: str, answer: str) -> bool:
    r"""Whether two sentences are the same but for case, spaces, dollar signs and ``\text{}``."""
    left, right = (
        "".join(_HELD.sub(r"\1", normalise(text)).split()).rstrip(".").casefold()
        for text in (gold, answer)
    )
    return left == right


def elided_parts(gold: str, answer: str) -> list[tuple[str, str]] | None:
    r"""The parts to compare of two lists, one of which leaves members out (``1, 2, \ldots, n``).

    Returns:
        Pairs in order; empty where the lists do not match, None where nothing is left out.
    """
    lists = [_ELLIPSIS.sub("\N{HORIZONTAL ELLIPSIS}", as_latex(text)) for text in (gold, answer)]
    parts = [[part.strip(" ,.$") for part in re.split("[,+]", text)] for text in lists]
    if not any("\N{HORIZONTAL ELLIPSIS}" in found and len(found) > 2 for found in parts):
        return None
    if len(parts[0]) != len(parts[1]):
        return []
    pairs = list(zip(*parts, strict=True))
    dots = [("\N{HORIZONTAL ELLIPSIS}" in a, "\N{HORIZONTAL ELLIPSIS}" in b) for a, b in pairs]
    if any(a != b for a, b in dots):
        return []
    return [pair for pair, (left_out, _) in zip(pairs, dots, strict=True) if not left_out]


def _same_number(left: str, right: str) -> bool | None:
    a, b = rational(left), rational(right)
    if a is None or b is None:
        return None
    apart = abs(a[0] - b[0])
    if apart == 0:
        return True
    close = apart <= ROUNDED * max(abs(a[0]), abs(b[0]))
    return None if close and (a[1] or b[1]) else False


def _minutes(plain: str) -> int | None:
    """The minutes after midnight of a time such as ``9:30 am``."""
    found = _TIME.fullmatch(re.sub(r"\\text\{([^{}]*)\}|\s", r"\1", plain))
    if not found or not 0 < int(found[1]) < 13:
        return None
    hour = int(found[1]) % 12 + (12 if found[3].lower() == "p" else 0)
    return hour * 60 + int(found[2] or 0)


def _is_set(plain: str) -> bool:
    """Whether a normalised answer lists the members of a finite set in braces."""
    inside = plain.startswith(r"\{") and plain.endswith(r"\}") and "," in plain
    return inside and not re.search(r"[<>:|]|\\(?:mid|le|ge|in)", plain)


def _is_tuple(plain: str) -> bool:
    """Whether a normalised answer is one pair of round or square brackets around a list."""
    if not (plain[:1] in {"(", "["} and plain[-1:] in {")", "]"} and "," in plain):
        return False
    depth = 0
    for place, character in enumerate(plain):
        depth += (character in "([") - (character in ")]")
        if depth == 0:
            return place == len(plain) - 1
    return False
