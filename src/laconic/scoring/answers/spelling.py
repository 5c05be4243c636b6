r"""Spelling: one LaTeX for the many ways in which people and models write the same answer.

`as_latex` keeps the meaning and is what algebra is handed; `normalise` also takes out what never
matters to a comparison, such as spaces and units of per cent, and `rational` reads plain numbers.
All of them expect a text that `laconic.scoring.answers.limits` has passed.
"""

# ruff: noqa: RUF001  # signs that look like others are what this table is about

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from laconic.scoring.answers.limits import MAX_CHARACTERS, MAX_DIGITS

#: Signs outside ASCII, as LaTeX. Signs of currencies fall away, as the dollar sign does.
_SIGNS: Final = str.maketrans(
    {
        **dict.fromkeys("−–—﹣", "-"),
        **dict.fromkeys("€£¥₹₩₽￡￥", ""),
        **dict.fromkeys("\u00a0\u2002\u2003\u2009\u200a\u202f\u3000", " "),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
        "∞": r"\infty ",
        "π": r"\pi ",
        "°": r"^\circ ",
        "±": r"\pm ",
        "…": r"\ldots ",
        "×": r"\times ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "÷": "/",
        "⁄": "/",
        "≤": r"\le ",
        "≥": r"\ge ",
        "⩽": r"\le ",
        "⩾": r"\ge ",
        "≠": r"\ne ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "∅": r"\emptyset ",
        "∈": r"\in ",
        "ℝ": r"\mathbb{R}",
        "ℤ": r"\mathbb{Z}",
        "ℕ": r"\mathbb{N}",
        "ℚ": r"\mathbb{Q}",
        "α": r"\alpha ",
        "β": r"\beta ",
        "γ": r"\gamma ",
        "δ": r"\delta ",
        "θ": r"\theta ",
        "λ": r"\lambda ",
        "μ": r"\mu ",
        "σ": r"\sigma ",
        "φ": r"\phi ",
        "ω": r"\omega ",
        "。": ".",
        "、": ",",
        "【": "[",
        "】": "]",
        **{chr(0xFF01 + i): chr(0x21 + i) for i in range(94)},  # full-width ASCII
        "½": r"\frac{1}{2}",
        "⅓": r"\frac{1}{3}",
        "⅔": r"\frac{2}{3}",
        "¼": r"\frac{1}{4}",
        "¾": r"\frac{3}{4}",
        "⅛": r"\frac{1}{8}",
        "⅕": r"\frac{1}{5}",
    }
)
_RAISED: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ", "0123456789+-nx")
_LOWERED: Final = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_UNICODE_SCRIPT = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ]+)|([₀₁₂₃₄₅₆₇₈₉]+)")
_UNICODE_ROOT = re.compile(r"([√∛])\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[A-Za-z]|\\pi))")

#: Commands that only change how their argument looks, and the number of arguments before it.
_LOOKS: Final = {
    **dict.fromkeys(("boxed", "fbox", "underline", "mathbf", "boldsymbol", "bm", "mathit"), 0),
    **dict.fromkeys(("displaystyle", "textstyle", "large", "Large", "huge", "bf"), 0),
    **dict.fromkeys(("color", "textcolor", "colorbox"), 1),
}
_LOOK = re.compile(rf"\\({'|'.join(_LOOKS)})(?![A-Za-z])\s*")
_TEXT = r"\\(?:text|textbf|textit|textrm|mathrm|mbox|textnormal|textsf|texttt|emph)"
_WHOLE_TEXT = re.compile(rf"{_TEXT}\s*\{{([^{{}}]*)\}}\.?")
_LABEL = re.compile(
    rf"{_TEXT}\s*\{{[^{{}}]*(?::|=|\bis|\bare)\s*\}}\s*(?=\S)"
    r"|[A-Z][a-z]+(?: [a-z]+){0,4}\s*(?::|\bis\b|\bare\b)\s*(?=[-\d$\\(\[{])"
    r"|(?:答案|结果|结论)?[是为:]\s*"
)
_COUNTER = re.compile(r"(?<=[\d}$])\s*[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{1,4}\.?$")
_ORDINAL = re.compile(
    r"(?<=\d)\s*(?:\^\s*\{?\s*)?\\(?:text|textrm|mathrm)\s*\{\s*(?:st|nd|rd|th)\s*\}\s*\}?"
    r"|(?<=\d)(?:st|nd|rd|th)\b"
)
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac\s*(?=[\d{])(?:(\d)|\{(\d+)\})\s*(?:(\d)|\{(\d+)\})")
_MIXED = re.compile(
    r"(?<![\d.^_}A-Za-z])(\d+)(?:\s*\\frac\{(\d+)\}\{(\d+)\}|(?:\s+|\s*\\[ ,]\s*)(\d+)/(\d+))(?!\d)"
)
_REPEATING = re.compile(
    r"(?<![\d.])(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*(?:\{(\d+)\}|(\d))|\((\d+)\))(?!\d)"
)
_SPACED = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:\s|~|\\[,;:! ])\s*\d{3})+(?![\d,])")
_GAP = re.compile(r"\s|~|\\[,;:! ]")
_NAMED_BASES: Final = {
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "sixteen": 16,
}
_BASE = re.compile(
    rf"\(?\s*([0-9][0-9A-Za-z]*)\s*\)?\s*_\s*\{{?\s*(?:{_TEXT}\s*\{{)?\s*(\d{{1,2}}|[a-z]+)\s*\}}*"
)
_RELATION = re.compile(
    r"(\\(?:leq?|geq?|lt|gt)(?![A-Za-z])(?:slant)?|\\(?:leq|geq)slant|<=|>=|<|>)"
)
_TURNED: Final = {">": "<", ">=": r"\le", r"\gt": "<", r"\ge": r"\le", r"\geq": r"\le"}
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
_POWER = r"(?:[eE](?P<e>[+-]?\d{1,4})|(?:\\times|\\cdot)10\^\{?(?P<p>[+-]?\d{1,4})\}?)?"
_DECIMAL = re.compile(rf"(?P<digits>[+-]?(?:\d+\.?\d*|\.\d+)){_POWER}")
_FRACTION = re.compile(
    r"(?P<sign>[+-]?)(?:\\frac\{(?P<a>-?\d+)\}\{(?P<b>\d+)\}|(?P<n>\d+)/(?P<m>\d+))"
)
_DROPPED = re.compile(
    r"\\left(?![a-z])|\\right(?![a-z])|\\[!,;:\s]|\\?[$%]|~|(?<!\d)\s+|\s+(?!\d)"
    r"|\^\{?\\circ\}?|\\degree"
)


def as_latex(answer: str) -> str:
    r"""An answer in one spelling, of the same meaning.

    Signs outside ASCII become commands (``√2``, ``x²``, ``60°``, full-width digits), and what only
    changes its looks falls away: colours, underlines, boxes, labels (``\text{Maximum: }``), ordinal
    endings, currencies, counters (``42个``). Mixed numbers and repeating decimals become fractions,
    spaced thousands are joined, bases are written ``4210_{5}``, the empty set ``\emptyset``, and
    inequalities point to the right (``c > b > a`` is ``a < b < c``).
    """
    text = _UNICODE_SCRIPT.sub(_script, answer.strip()).translate(_SIGNS)
    text = _UNICODE_ROOT.sub(_root, text)
    text = _without_looks(text)
    if whole := _WHOLE_TEXT.fullmatch(text.strip()):
        text = whole[1]
    if label := _LABEL.match(text.strip()):
        text = text.strip()[label.end() :]
    text = _ORDINAL.sub("", _COUNTER.sub("", text.strip()))
    text = _SHORT_FRACTION.sub(_fraction, text).replace(r"\dfrac", r"\frac")
    text = text.replace(r"\tfrac", r"\frac").replace(r",\!", "").replace("{,}", "")
    text = _SPACED.sub(lambda found: _GAP.sub("", found[0]), text)
    text = _REPEATING.sub(_repeating, _MIXED.sub(_mixed, text))
    text = text.replace(r"\varnothing", r"\emptyset")
    text = re.sub(r"^\\\{(?:\s|\\,)*\\\}$", lambda _: r"\emptyset", text)
    if base := _BASE.fullmatch(text.strip().strip("$")):
        digit = _NAMED_BASES.get(base[2], base[2])
        text = f"{base[1]}_{{{digit}}}"
    return _rising(text).strip()


def normalise(answer: str) -> str:
    r"""An answer with the spelling taken out that never changes its meaning.

    Beside what `as_latex` does: spaces, ``$``, ``\left`` and ``\right``, percent and degree signs
    (units that golds write or leave out), thousands separators, a final full stop, ``\text{}``
    around it all.
    """
    short = _DROPPED.sub("", as_latex(answer)).rstrip(".")
    whole = _WHOLE_TEXT.fullmatch(short)
    short = whole.group(1) if whole else short
    return short.replace(",", "") if _THOUSANDS.fullmatch(short) else short


def rational(plain: str) -> tuple[Fraction, bool] | None:
    r"""The exact value of a normalised plain number, and whether it was written as a decimal.

    Integers, decimals, powers of ten (``4.5e33``, ``4.5\times10^{33}``) and simple fractions;
    None for anything else.
    """
    if len(plain) > MAX_CHARACTERS or sum(c.isdigit() for c in plain) > MAX_DIGITS:
        return None
    if not plain.isascii():
        return None
    if match := _DECIMAL.fullmatch(plain):
        power = int(match["e"] or match["p"] or 0)
        if abs(power) > MAX_DIGITS:
            return None
        return Fraction(match["digits"]) * Fraction(10) ** power, "." in plain
    if match := _FRACTION.fullmatch(plain):
        over, under = int(match["a"] or match["n"]), int(match["b"] or match["m"])
        return (Fraction(-over if match["sign"] == "-" else over, under), False) if under else None
    return None


def closing(text: str, start: int) -> int:
    """Where the brace that opens at `start` closes; -1 where it does not."""
    depth = 0
    for place in range(start, len(text)):
        if text[place] in "{}" and (place == 0 or text[place - 1] != "\\"):
            depth += 1 if text[place] == "{" else -1
            if depth == 0:
                return place
    return -1


def _script(found: re.Match[str]) -> str:
    if found[1]:
        return f"^{{{found[1].translate(_RAISED)}}}"
    return f"_{{{found[2].translate(_LOWERED)}}}"


def _root(found: re.Match[str]) -> str:
    return ("\\sqrt{" if found[1] == "√" else "\\sqrt[3]{") + (found[2] or found[3]) + "}"


def _without_looks(text: str) -> str:
    """A text without the commands that only change its looks; their arguments stay."""
    while found := _LOOK.search(text):
        start, rest = found.start(), found.end()
        for _ in range(_LOOKS[found[1]]):
            end = closing(text, rest) if text[rest : rest + 1] == "{" else -1
            rest = end + 1 if end >= 0 else rest
        end = closing(text, rest) if text[rest : rest + 1] == "{" else -1
        inside = text[rest + 1 : end] + text[end + 1 :] if end >= 0 else text[rest:]
        text = text[:start] + inside
    stripped = text.strip()
    if stripped.startswith("{") and closing(stripped, 0) == len(stripped) - 1:
        return stripped[1:-1]
    return text


def _fraction(found: re.Match[str]) -> str:
    return rf"\frac{{{found[1] or found[2]}}}{{{found[3] or found[4]}}}"


def _mixed(found: re.Match[str]) -> str:
    """A whole number and a proper fraction as one fraction: ``2 2/3`` is eight thirds."""
    whole, over, under = int(found[1]), int(found[2] or found[4]), int(found[3] or found[5])
    if not 0 < over < under:
        return found[0]
    return rf"\frac{{{whole * under + over}}}{{{under}}}"


def _repeating(found: re.Match[str]) -> str:
    r"""A repeating decimal as a fraction: ``0.1\\overline{6}`` is 15/90."""
    whole, fixed, again = found[1] or "0", found[2], found[3] or found[4] or found[5]
    over = int(whole + fixed + again) - int(whole + fixed)
    return rf"\frac{{{over}}}{{{(10 ** len(again) - 1) * 10 ** len(fixed)}}}"


def _rising(text: str) -> str:
    """Inequalities that all point to the left, turned around."""
    parts = _RELATION.split(text)
    signs = [_plain_relation(sign) for sign in parts[1::2]]
    if not signs or any(sign not in _TURNED for sign in signs):
        return text
    if re.search(r"[,;]|\\(?:cup|cap|text|mid|in|quad|left\\\{)|\\\{|\||:", text):
        return text
    terms = [term.strip().strip("$").strip() for term in parts[::2]]
    turned: Iterator[str] = (_TURNED[sign] for sign in reversed(signs))
    return "".join(f"{term} {next(turned, '')} " for term in reversed(terms)).strip()


def _plain_relation(sign: str) -> str:
    return sign.removesuffix("slant")
