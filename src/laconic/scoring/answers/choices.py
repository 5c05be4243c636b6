r"""Letters and words: golds that name a choice (``B``) or are a word, and answers that mean them.

A choice is one capital letter, bare or in brackets. An answer means it by the letter, alone or
before its text (``C. 12``, ``(C) 12``, ``C, since ...``); a bare small letter is a variable or
Euler's number and no choice. Words are compared in any case.
"""

from __future__ import annotations

import re
from typing import Final

from laconic.scoring.answers.extract import marked, tail
from laconic.scoring.answers.spelling import as_latex

#: Words shorter than any that would be taken for one beside variables.
_SHORT: Final = frozenset({"true", "false", "yes", "no", "none", "even", "odd", "both", "never"})
_BOOLEAN: Final = frozenset({"true", "false", "yes", "no"})
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_DECORATION = re.compile(r"\\[ ,;:!()\[\]]|\\(?:quad|qquad)|[$*_`\"']")
_GOLD = re.compile(r"\(?([A-Z])(?:\)|\]|\.)?")
_BRACKETED = re.compile(r"[(\[]\s*([A-Za-z])\s*[)\]]")
_LETTER = re.compile(
    r"(?:[(\[]\s*(?P<in>[A-Za-z])\s*[)\]]|(?P<closed>[A-Za-z])\)|(?P<bare>[A-Z])(?![A-Za-z0-9_^]))"
    r"(?P<rest>.*)",
    re.DOTALL,
)
_NAMED = re.compile(r"(?:the )?(?:correct |right )?(?:option|choice|answer)\s*:?\s*", re.IGNORECASE)
#: What may stand between a letter and the text of its choice.
_BEFORE_TEXT = re.compile(r"\s*(?:$|[.:;](?!\d)|,\s+(?:as|because|since|so|which)\b|[-\u2013]\s)")
_REASON = re.compile(r"\s+(?:as|because|since|is|which)\b", re.IGNORECASE)
_SEVERAL = re.compile(r"[A-Z](?:\s*(?:,|;|&|and)\s*[A-Z])+")
_WORDS = re.compile(r"[A-Za-z][A-Za-z,.' -]*")
_CALLED = re.compile(
    r"\b(?:option|choice|choose|select|pick)s?\s+\**[(\[]?([A-Z])(?![A-Za-z0-9'])"
    r"|(?:^|\s|\*)[(\[]?([A-Z])[)\]]?\**\s+is\s+(?:the\s+)?(?:correct|right|best|answer)"
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_LINE_CHARACTERS: Final = 200
_STATEMENT = re.compile(r"\b(?:is|are)\s+\**(true|false)\b", re.IGNORECASE)
_OPENING = re.compile(r"\W*(yes|no|true|false)\b", re.IGNORECASE)
#: A text of so many words may be an answer and nothing else.
_FEW: Final = 3
_LONG: Final = 6  # no product of variables has so many letters


def choice(gold: str) -> str:
    """The letter of the choice that a gold names, empty where it names none."""
    found = _GOLD.fullmatch(_bare(gold))
    return found[1] if found else ""


def chosen(answer: str) -> str:
    """The letter of the choice that an answer names; empty where it names none or several."""
    text = _bare(answer)
    if named := _NAMED.match(text):
        text = text[named.end() :]
    found = None if _SEVERAL.fullmatch(text) else _LETTER.match(text)
    if not found:
        return ""
    letter = (found["in"] or found["closed"] or found["bare"]).upper()
    if found["bare"]:
        ends = _BEFORE_TEXT.match(found["rest"]) or _REASON.match(found["rest"])
        return letter if ends else ""
    follows = found["rest"].lstrip()
    return "" if follows[:1] in {",", "&"} and _BRACKETED.search(follows[:8]) else letter


def word(answer: str) -> str:
    r"""The word or words that an answer is, in small letters; empty where it may be algebra.

    Long words, words within ``\text{}``, and a few short ones that no formula has.
    """
    marked = _TEXT.fullmatch(answer.strip().strip("$").strip().rstrip("."))
    text = " ".join(_bare(answer).rstrip(".!").split())
    if not _WORDS.fullmatch(text):
        return ""
    small = text.casefold()
    letters = re.sub(r"[^a-z]", "", small)
    certain = small in _SHORT or (marked is not None and len(letters) > 1)
    return small if certain or len(letters) >= _LONG else ""


def is_boolean(gold: str) -> bool:
    """Whether a gold is yes, no, true or false."""
    return word(gold) in _BOOLEAN


def begins_with(answer: str, gold_word: str) -> bool:
    """Whether a text begins with a word, which a reason may follow: ``Yes, because ...``."""
    text = " ".join(_bare(answer).casefold().split())
    after = text[len(gold_word) :]
    return text.startswith(gold_word) and not re.match(r"[\w-]|\s+(?:and|or|\w+\s+and)\b", after)


def read_choice(text: str) -> str:
    """The letter that a finished text without a box chooses; empty where it chooses none.

    Looked at in order: what the last words such as "the answer is" announce, "option C" and "C is
    correct", what is set in bold, the last line, the first line.
    """
    end = tail(text)
    called = [found[1] or found[2] for found in _CALLED.finditer(end)]
    lines = [line for line in text.strip().splitlines()[:1] + end.splitlines()[-1:] if line]
    said = [chosen(value) for value in reversed(marked(text))] + called[-1:]
    said += [chosen(bold) for bold in reversed(_BOLD.findall(end))]
    said += [chosen(line) for line in reversed(lines) if len(line) <= _LINE_CHARACTERS]
    return next(filter(None, said), "")


def read_word(text: str, gold: str) -> str:
    """The word that a finished text without a box concludes with; empty where it is not seen.

    What the last words such as "the answer is" announce, or a text that is one word. For yes, no,
    true and false also how the first or last sentence begins, and "the statement is true".
    """
    wanted = word(gold)
    for value in reversed(marked(text)):
        if begins_with(value, wanted):
            return wanted
        if said := word(value) or _few_words(value) or _opening(value):
            return said
    end = tail(text)
    if len(end.split()) <= _FEW and (said := word(end)):
        return said
    if is_boolean(gold):
        stated = _STATEMENT.findall(end)
        last = end.strip().splitlines()[-1:]
        return _opening("".join(last)) or (stated[-1].casefold() if stated else _opening(text))
    return ""


def _few_words(text: str) -> str:
    """A text of a few words, in small letters; empty where it is longer or holds a formula."""
    bare = " ".join(_bare(text).rstrip(".!").split())
    few = _WORDS.fullmatch(bare) and len(bare) > 1 and len(bare.split()) <= _FEW
    return bare.casefold() if few else ""


def _opening(text: str) -> str:
    found = _OPENING.match(text[:_LINE_CHARACTERS])
    return found[1].casefold() if found else ""


def _bare(text: str) -> str:
    """A text without dollar signs, emphasis and the commands that hold words."""
    text = text[:_LINE_CHARACTERS]
    return _DECORATION.sub(" ", _TEXT.sub(r"\1", as_latex(text))).strip()
