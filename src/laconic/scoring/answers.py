"""Reading the final answer out of a completion, and comparing plain answers without algebra."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Final

#: A box longer than this many characters, with more digits, or nested deeper, is not parsed.
MAX_CHARACTERS: Final = 1024
MAX_DIGITS: Final = 1000
MAX_NESTING: Final = 50
#: Nor is a power written out in more digits than this, such as 9^{9^{9}}.
MAX_POWER_DIGITS: Final = 100_000
#: What is read of a completion that has no box: about the last paragraph.
TAIL_CHARACTERS: Final = 500
#: Numbers this close, of which one is a decimal, may be one number rounded: not ours to decide.
ROUNDED: Final = Fraction(1, 1000)

_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_ESCAPED = re.compile(r"(?<!\\)\\\\(?:boxed|fbox)\s*\{")
_CONNECTOR = re.compile(
    r"[\s$*()\[\]\\]*(?:[,;&]|and|or|\\text\s*\{\s*(?:,\s*)?(?:and|or)\s*\}|\\(?:qquad|quad))"
    r"(?:[\s$*()\[\]\\,;]|and|or)*"
)
_ORDINAL = re.compile(
    r"(?<=\d)\s*(?:\^\s*\{?\s*)?\\(?:text|textrm|mathrm)\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}?"
    r"|(?<=\d)(?:st|nd|rd|th)\b"
)
_BASE = re.compile(r"([0-9][0-9A-Za-z]*)_\{?(\d{1,2})\}?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
_TOWER = re.compile(r"(?<![\d.])(\d{1,9})\s*\^\s*\{?\s*(\d{1,9})(?:\s*\^\s*\{?\s*(\d{1,9}))?")
_WORDS = re.compile(r"[A-Za-z][A-Za-z,.'-]{5,}")  # no product of variables is that long
_POWER = r"(?:[eE](?P<e>[+-]?\d{1,4})|(?:\\times|\\cdot)10\^\{?(?P<p>[+-]?\d{1,4})\}?)?"
_DECIMAL = re.compile(rf"(?P<digits>[+-]?(?:\d+\.?\d*|\.\d+)){_POWER}")
_FRACTION = re.compile(
    r"(?P<sign>[+-]?)(?:\\frac(?:\{(?P<a>-?\d+)\}|(?P<c>\d))(?:\{(?P<b>\d+)\}|(?P<d>\d))"
    r"|(?P<n>\d+)/(?P<m>\d+))"
)
_DROPPED = re.compile(r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;:\s]|\\?[$%]|~|(?<!\d)\s+|\s+(?!\d)")


def boxed_answer(text: str) -> str | None:
    r"""The final boxed answer of a completion, None where it has no balanced, non-empty box.

    What follows the last ``</think>`` is read, or the whole text where no box follows it. Of
    several boxes the last counts, together with those directly before it that only a comma,
    "and" or "or" separates. Text that was escaped for JSON (``\\boxed``) is un-escaped first.
    """
    after = text.rpartition("</think>")[2]
    found = _last_boxes(after)
    if found is None and after is not text:
        found = _last_boxes(text)
    return found


def tail(text: str) -> str:
    """The end of a completion without a box: after the thought, about its last paragraph."""
    after = text.rpartition("</think>")[2].strip() or text.strip()
    return after[-TAIL_CHARACTERS:]


def too_large(text: str) -> str | None:
    """Why a text is refused before it is parsed, None where it is not.

    Texts this large make a parser slow or exhaust it, and no real answer has their size.
    """
    if len(text) > MAX_CHARACTERS:
        return f"it has {len(text)} characters, more than {MAX_CHARACTERS}"
    if sum(c.isdigit() for c in text) > MAX_DIGITS:
        return f"it has more than {MAX_DIGITS} digits"
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_NESTING:
        return f"it nests deeper than {MAX_NESTING}"
    if any(map(_power_digits_exceeded, _TOWER.finditer(text))):
        return f"it holds a power of more than {MAX_POWER_DIGITS} digits"
    return None


def is_escaped(text: str) -> bool:
    r"""Whether a completion was escaped for JSON: its boxes are written ``\\boxed``."""
    return _ESCAPED.search(text) is not None


def tidy(answer: str) -> str:
    r"""An answer without its ordinal ending: ``12^{\text{th}}`` is ``12``."""
    return _ORDINAL.sub("", answer.strip())


def normalise(answer: str) -> str:
    r"""An answer with the spelling taken out that never changes its meaning.

    Spaces, ``$``, ``\left`` and ``\right``, the percent sign (a unit that golds write or leave
    out), display fractions, thousands separators, a final full stop, ``\text{}`` around it all.
    """
    short = _DROPPED.sub("", tidy(answer).replace(r",\!", "").replace("{,}", ""))
    short = short.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac").rstrip(".")
    whole = re.fullmatch(r"\\(?:text|textbf|mathrm|mathbf|textrm)\{([^{}]*)\}", short)
    short = whole.group(1) if whole else short
    return short.replace(",", "") if _THOUSANDS.fullmatch(short) else short


def rational(plain: str) -> tuple[Fraction, bool] | None:
    r"""The exact value of a normalised plain number, and whether it was written as a decimal.

    Integers, decimals, powers of ten (``4.5e33``, ``4.5\times10^{33}``) and simple fractions;
    None for anything else.
    """
    if len(plain) > MAX_CHARACTERS or sum(c.isdigit() for c in plain) > MAX_DIGITS:
        return None
    if match := _DECIMAL.fullmatch(plain):
        power = int(match["e"] or match["p"] or 0)
        if abs(power) > MAX_DIGITS:
            return None
        return Fraction(match["digits"]) * Fraction(10) ** power, "." in plain
    if match := _FRACTION.fullmatch(plain):
        over = int(match["a"] or match["c"] or match["n"])
        under = int(match["b"] or match["d"] or match["m"])
        return (Fraction(-over if match["sign"] == "-" else over, under), False) if under else None
    return None


def compare_plain(gold: str, answer: str) -> bool | None:
    """Whether two answers are equal, as far as that can be seen without algebra.

    Equal spelling, of words in any case, or equal rational value is equal. Unequal are: other
    words; rationals that differ by more than rounding; numerals of different written bases; a
    finite set and a tuple or interval.

    Returns:
        None where algebra must decide.
    """
    left, right = normalise(gold), normalise(answer)
    if left == right:
        return True
    if _WORDS.fullmatch(left) and _WORDS.fullmatch(right):
        return left.casefold() == right.casefold()
    bases = _BASE.fullmatch(left), _BASE.fullmatch(right)
    if bases[0] and bases[1]:
        return bases[0].groups() == bases[1].groups()
    a, b = rational(left), rational(right)
    if a and b:
        apart = abs(a[0] - b[0])
        if apart == 0:
            return True
        close = apart <= ROUNDED * max(abs(a[0]), abs(b[0]))
        return None if close and (a[1] or b[1]) else False
    if (_is_set(left) and _is_tuple(right)) or (_is_tuple(left) and _is_set(right)):
        return False
    return None


def _power_digits_exceeded(match: re.Match[str]) -> bool:
    """Whether base^exponent or base^exponent^exponent is too long a number to write out."""
    base, exponent, top = (int(group or 1) for group in match.groups())
    if base < 2 or exponent < 1:
        return False
    # log10 of the number of digits: beyond floats the number itself would not fit
    return top * math.log10(exponent) + math.log10(math.log10(base)) > math.log10(MAX_POWER_DIGITS)


def _last_boxes(text: str) -> str | None:
    if _ESCAPED.search(text):
        text = text.replace("\\\\", "\\")
    boxes = [(a, b, inside) for a, b, inside in _boxes(text) if inside]
    if not boxes:
        return None
    start, _, last = boxes[-1]
    parts = [last]
    for left, right, inside in reversed(boxes[:-1]):
        if not _CONNECTOR.fullmatch(text, right, start):
            break
        if inside not in parts:
            parts.insert(0, inside)
        start = left
    return ",".join(parts)


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """The balanced innermost boxes in order: start, end and what is inside."""
    opened: list[tuple[int, int] | None] = []  # (start, inside) of a box; None for other braces
    found: list[tuple[int, int, str]] = []
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token == "{":
            opened.append(None)
        elif token == "}":
            box = opened.pop() if opened else None
            if box and not (found and found[-1][0] > box[0]):
                inside = text[box[1] : match.start()].strip()
                found.append((box[0], match.end(), inside))
        elif token.endswith("{") and len(token) > 2:
            opened.append((match.start(), match.end()))
    return found


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
