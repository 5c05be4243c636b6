"""What is refused before it is parsed: texts that are slow to parse and that no real answer has."""

from __future__ import annotations

import math
import re
from typing import Final

#: An answer longer than this many characters, with more digits, or nested deeper, is not parsed.
MAX_CHARACTERS: Final = 1024
MAX_DIGITS: Final = 1000
MAX_NESTING: Final = 50
#: Nor is a power written out in more digits than this, such as 9^{9^{9}}.
MAX_POWER_DIGITS: Final = 100_000

_TOWER = re.compile(r"(?<![\d.])(\d{1,9})\s*\^\s*\{?\s*(\d{1,9})(?:\s*\^\s*\{?\s*(\d{1,9}))?")


def too_large(text: str) -> str | None:
    """Why a text is refused before it is parsed, None where it is not; linear in its length."""
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


def _power_digits_exceeded(match: re.Match[str]) -> bool:
    """Whether base^exponent or base^exponent^exponent is too long a number to write out."""
    base, exponent, top = (int(group or 1) for group in match.groups())
    if base < 2 or exponent < 1:
        return False
    # log10 of the number of digits: beyond floats the number itself would not fit
    return top * math.log10(exponent) + math.log10(math.log10(base)) > math.log10(MAX_POWER_DIGITS)
