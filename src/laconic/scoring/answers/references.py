r"""Reading a gold as its data set means it, and finding golds that no grader can compare.

Golds are written for people: ``4.5e33`` and ``np.arcsin(10/13)`` (Minerva), ``080 or 081`` (AIME,
where either was accepted), ``27.0`` (AMC), ``69$,$84`` (OlympiadBench, several answers), ``$4$
cans`` or a whole sentence (College Math). Nothing here looks at the data set's name, so a file of
one's own is read in the same way.
"""

from __future__ import annotations

import re
from typing import Final

from laconic.scoring.answers.limits import too_large
from laconic.scoring.answers.spelling import normalise, rational

UNIT_WORDS: Final = 3

_EITHER = re.compile(r"(\d+)\s+or\s+(\d+)(?:\s*\([^()]*\))?")
_E_NOTATION = re.compile(r"(?<![\w.\\])(\d+(?:\.\d*)?|\.\d+)[eE]([+-]?\d{1,4})(?![\w.])")
_NUMPY = re.compile(r"\bnp\.([a-z]+)\b")
_DOLLAR = re.compile(r"(?<!\\)\$")
_COMMAND = re.compile(r"\\(?:text|textrm|mathrm|mbox)\s*\{[^{}]*\}|\\[A-Za-z]+|\\.")
_JOINED = re.compile(r"(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])")
_WORD = re.compile(r"[A-Za-z]{3,}")
_DENIAL = re.compile(r"\b(?:no|not|never|none|cannot|where|when|if|for)\b", re.IGNORECASE)


def readings(gold: str) -> tuple[str, ...]:
    r"""What a gold means, as LaTeX without dollar signs; an answer equal to any of it is right.

    Read as data sets mean them:

    - AIME: ``080 or 081 (both were accepted)`` is either number;
    - Minerva: ``4.5e33`` is a power of ten, ``np.arcsin`` is ``\arcsin``;
    - OlympiadBench: dollar signs between or behind several answers fall away;
    - College Math: ``$4$ cans`` is 4, ``15 and $22.5$`` are two answers, and what is left of a
      sentence is compared by its words.
    """
    if either := _EITHER.fullmatch(gold.strip()):
        return either.groups()
    plain = _without_dollars(gold)
    plain = _NUMPY.sub(r"\\\1", plain)
    return (_E_NOTATION.sub(r"\1 \\times 10^{\2}", plain),)


def is_number(gold: str) -> bool:
    """Whether every reading of a gold is a plain number, which needs no algebra."""
    return not too_large(gold) and all(
        rational(normalise(reading)) is not None for reading in readings(gold)
    )


def is_prose(gold: str) -> bool:
    """Whether words stand in what is left of a gold once it is read: only they can match it."""
    return any(_WORD.search(_COMMAND.sub(" ", reading)) for reading in readings(gold))


def is_sentence(reading: str) -> bool:
    """Whether a reading is words with formulas between dollar signs, which no algebra can parse."""
    return _DOLLAR.search(reading.strip().strip("$")) is not None


def _without_dollars(gold: str) -> str:
    """The formula in a gold; the gold as it stands where it is a sentence."""
    text = gold.strip()
    spans = _DOLLAR.split(text)
    if len(spans) == 1:
        return text
    if len(spans) == 3 and (unit := _unit(spans)):
        return unit
    joined = _JOINED.sub(",", _DOLLAR.sub("", text)).strip().rstrip(".").strip()
    if _WORD.search(_COMMAND.sub(" ", joined)):
        return text
    return re.sub(r",\s*,", ",", joined)


def _unit(spans: list[str]) -> str:
    """The formula of ``$4$ cans``; empty where the words around it are more than a unit."""
    before, formula, after = spans
    words = after.strip().rstrip(".")
    if before.strip() or not words or _DENIAL.search(words) or re.search(r"[\d=<>:,]", words):
        return ""
    return formula.strip() if len(words.split()) <= UNIT_WORDS else ""
