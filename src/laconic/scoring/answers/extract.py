"""Where a completion says its final answer: its last box, else its concluding sentence."""

from __future__ import annotations

import re
from collections import deque
from typing import Final

from laconic.scoring.answers.limits import MAX_CHARACTERS

#: What is searched of a completion without a box or a conclusion: about the last paragraph.
TAIL_CHARACTERS: Final = 500
#: What is read of one conclusion.
CONCLUSION_CHARACTERS: Final = 300
#: Announcements of an answer that are looked at, the last ones.
MARKS: Final = 20
#: What may stand between two boxes of one answer.
CONNECTOR_CHARACTERS: Final = 100

_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_ESCAPED = re.compile(r"(?<!\\)\\\\(?:boxed|fbox)\s*\{")
_CONNECTOR = re.compile(
    r"[\s$*()\[\]\\]*(?:[,;&]|and|or|\\text\s*\{\s*(?:,\s*)?(?:and|or)\s*\}|\\(?:qquad|quad))"
    r"(?:[\s$*()\[\]\\,;]|and|or)*"
)

#: ``#### 42`` of GSM8K, which a heading such as ``#### 3. Check`` is not.
_HASHES = re.compile(r"^####[ \t]*(\S[^\n]{0,60})$", re.MULTILINE)
_HASH_VALUE = re.compile(r"[$\u20ac\u00a3]?\s*-?[\d$\\.][^\s]*(?:\s+[^\W\d]+){0,3}\.?")
_HEADING = re.compile(r"\d+\.?\)?\s+[A-Z]|\d+\.$")
#: Words that announce an answer, in the languages that models answer in.
_MARK = re.compile(
    r"(?:\b(?:answer|result|option|choice|solution)\b[^.\n:\uff1a?!]{0,60}?"
    r"(?:\b(?:is|are|was|be|equals)\b\s*:?|[:\uff1a])"
    r"|\banswer\b[*_# \t]*\n"
    r"|(?:\u7b54\u6848|\u7ed3\u679c|\u7b54)\s*(?:\u5e94\u8be5)?(?:\u662f|\u4e3a|\u70ba|[:\uff1a])"
    r"|(?:\u6545|\u5e94|\u5e94\u8be5|\u6b63\u786e)?(?:\u9009|\u9078)(?:\u62e9|\u64c7|\u9879)?"
    r"(?:\u662f|[:\uff1a])?(?=\s*[(\uff08]?[A-Z])"
    r"|(?:\uc815\ub2f5|\ub2f5)(?:\uc740|\uc774)?\s*[:\uff1a]?|(?:\u7b54\u3048|\u6b63\u89e3)(?:\u306f|[:\uff1a])"
    r"|\b(?:respuesta|r\u00e9ponse|reponse|antwort|risposta|resposta|\u043e\u0442\u0432\u0435\u0442)\b"
    r"[^.\n:\uff1a]{0,40}?(?:\b(?:es|est|ist|\u00e8|\u00e9)\b|[:\uff1a]))"
    r"[*_\s]*",
    re.IGNORECASE,
)
_ENDS = re.compile(r"(?<=[.!?\u3002])\s+(?=[^\W\d_a-z]|[$\\(*])|(?<![:\uff1a\n])\n+")
#: Verbs that state a result; a number may follow within a few words.
_STATES = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals?|has|have|had|makes?|made|making|earns?|earned|gets?|got|"
    r"costs?|pays?|paid|needs?|needed|takes?|took|receives?|received|spends?|spent|saves?|saved|"
    r"gives?|giving|leaves?|leaving|totals?|total(?:ing|ling)|can|could|will|must|contains?|as|"
    r"yields?|become[sd]?|left|remain(?:s|ing)?|bought|sold|sells?|walks?|ran|runs?|reads?)\b|'s)"
    r"[:\s]*(?:[A-Za-z'-]+[ \t]+){0,6}"
    r"(?=\**[-+\u2212]?[$\u20ac\u00a3\u00a5]?[\d.]|\**\\[(\[]|\**\$)"
)
#: Words that begin what only explains a result.
_EXPLAINS = re.compile(
    r"\b(?:of|for|by|when|which|that|because|since|if|after|before|while|where|at|with|from|per|"
    r"than|so that|given|using|every|each)\b|,\s+[a-z]+ing\b",
    re.IGNORECASE,
)
#: Such a word between a verb and a number makes it another clause's number.
_ASIDE = re.compile(
    r"\b(?:when|which|because|since|if|after|before|while|where|than|by|per|not|every|each)\b",
    re.IGNORECASE,
)
_SUMS_UP = re.compile(r"(?:making|giving|leaving|totaling|totalling)\b", re.IGNORECASE)
_SUBORDINATE = re.compile(
    r"^\W*(?:(?:so|thus|therefore|now|and),?\s+)?(?:since|if|because|when|as|after|given|with|in)\b"
    r"[^,]*(?:,(?=\d)[^,]*)*,\s+",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"(?:[*_\s:]|\\approx|\\text\{\s*\}|\u2248|an?(?=\s+(?:\d|[A-Za-z]{2}))|(?:approximately|about|"
    r"around|exactly|only|equal to|simply|just|thus|therefore|now|still|then|a total of|the)\b)+",
    re.IGNORECASE,
)
_WORDS_BEFORE = re.compile(
    r"(?:[A-Za-z'-]+[ \t]+){1,6}(?=\**[-+\u2212]?[$\u20ac\u00a3\u00a5]?[\d.]|\\[(\[]|\$)"
)
#: One piece of a formula; words of two letters and more are none.
_PIECE = re.compile(
    r"\s+|\\\(|\\\)|\\\[|\\\]|\$\$?|\*\*?|\\[A-Za-z]+|\\.|\d[\d,]*\d(?:\.\d+)?|\d(?:\.\d+)?|\.\d+"
    r"|(?<![A-Za-z])[A-Za-z](?![A-Za-z])|(?:and|or|pi|sqrt)(?![A-Za-z])|[-+/^_=<>|!%(){}\[\]&;:,']"
    "|[\u221a\u221b\u221e\u03c0\u00b0\u00b2\u00b3\u00b9\u2070\u2074-\u207f\u2080-\u2089\u00b1\u00d7\u00f7\u00b7\u2264\u2265\u2260\u222a\u2229\u2205\u2208\u211d\u2212\u2013\u2026\u00bd\u2153\u2154\u00bc\u00be"
    "\u20ac\u00a3\u00a5\u03b1-\u03c9]"
)
_BRACED_WORDS = re.compile(r"\\(?:text|mathrm|textbf|mbox|operatorname|mathbf)\s*\{[^{}]*\}")
_LOOSE_END = re.compile(r"(?:[\s,.;:+=<>&!(\[{-]|\b(?:and|or)\b)+$")
_DELIMITERS = re.compile(r"\\[()\[\]]|\$|\*")


def boxed_answer(text: str) -> str | None:
    r"""The final boxed answer of a text, None where it has none.

    The last box that is balanced and not empty counts, together with those directly before it
    that only a comma, "and" or "or" separates. A later box that never closes takes its place and
    is no answer, unless it breaks off within the same words. Of a text with ``</think>``, what
    follows the last one is read, or the whole where no box follows it. Text that was escaped for
    JSON (``\\boxed``) is un-escaped first.
    """
    after = final_part(text)
    if after is not text and _BOX.search(after) is None:
        after = text
    return _last_boxes(after)


def final_part(text: str) -> str:
    """What follows the last ``</think>``; the text itself where it has none."""
    return text.rpartition("</think>")[2] if "</think>" in text else text


def open_box(text: str) -> str | None:
    """What follows a box that was opened last and never closed; None where there is none."""
    boxes, unclosed = _boxes(text)
    if unclosed < (boxes[-1][0] if boxes else 0):
        return None
    opening = _BOX.match(text, unclosed)
    return text[opening.end() :] if opening else None


def is_escaped(text: str) -> bool:
    r"""Whether a completion was escaped for JSON: its boxes are written ``\\boxed``."""
    return _ESCAPED.search(text) is not None


def tail(text: str) -> str:
    """The end of a completion without a box: after the thought, about its last paragraph."""
    after = final_part(text).strip() or text.strip()
    return after[-TAIL_CHARACTERS:]


def marked(text: str) -> list[str]:
    """What stands behind the last words that announce an answer, in order; a sentence of each."""
    last = deque(_MARK.finditer(text), maxlen=MARKS)
    return [_sentence(text, found.end()) for found in last]


def conclusion(text: str) -> str:
    """The formula that a finished text without a box concludes with; empty where it shows none.

    The last ``#### 42``; else what follows the last words such as "the answer is"; else what the
    last sentence that holds a number says of its subject: "she makes 18 dollars, selling 9 eggs at
    2" is 18, because what explains a result is passed over.
    """
    for found in reversed(_HASHES.findall(text)):
        value = found.strip()
        if _HASH_VALUE.fullmatch(value) and not _HEADING.match(value):
            return formula(value)
    for value in reversed(marked(text)):
        words = _WORDS_BEFORE.match(value)
        if words and _ASIDE.search(words.group()):
            continue
        if said := formula(value[words.end() :] if words else value):
            return said
    for sentence in reversed(_ENDS.split(tail(text))):
        if any(character.isdigit() or character == "\\" for character in sentence):
            return _stated(sentence)
    return ""


def formula(text: str) -> str:
    """The formula that a text begins with, delimiters and units left out; empty where it is none.

    A word ends it: ``18 dollars`` is 18, and ``15x - 80.`` is ``15x - 80``.
    """
    text = text[:CONCLUSION_CHARACTERS]
    start = found.end() if (found := _FILLER.match(text)) else 0
    place, pieces = start, []
    while place < len(text):
        piece = _BRACED_WORDS.match(text, place) or _PIECE.match(text, place)
        if piece is None:
            break
        pieces.append(piece.group())
        place = piece.end()
    whole = " ".join(_DELIMITERS.sub(" ", "".join(pieces)).split())
    if whole.count("{") > whole.count("}"):
        whole = _BOX.sub("", whole)
    whole = _LOOSE_END.sub("", whole)
    while whole[-1:] in {")", "]"} and sum(map(whole.count, ")]")) > sum(map(whole.count, "([")):
        whole = whole[:-1].rstrip()
    return whole if re.search(r"[\dA-Za-z\u221e\u2205]", whole) else ""


def _stated(sentence: str) -> str:
    """What a sentence says of its subject, passing over what explains it."""
    main = _SUBORDINATE.sub("", sentence, count=1)
    if any(character.isdigit() for character in main):
        sentence = main
    said, end = "", 0
    for found in _STATES.finditer(sentence):
        value = formula(sentence[found.end() :])
        if not value or _ASIDE.search(found.group()):
            continue
        if (
            said
            and not _SUMS_UP.match(found.group())
            and (_EXPLAINS.search(sentence, end, found.start()))
        ):
            break
        said, end = value, found.end() + len(value)
    return said


def _sentence(text: str, start: int) -> str:
    """The rest of a sentence, or the next one where nothing is left of it."""
    part = text[start : start + CONCLUSION_CHARACTERS].lstrip()
    return _ENDS.split(part, maxsplit=1)[0]


def _last_boxes(text: str) -> str | None:
    if _ESCAPED.search(text):
        text = text.replace("\\\\", "\\")
    boxes, unclosed = _boxes(text)
    if not boxes:
        return None
    start, end, begin = boxes[-1]
    inside = text[begin : end - 1].strip()
    if unclosed > start and not inside.startswith(_BOX.sub("", text[unclosed:], count=1).strip()):
        return None
    parts, size = {inside: None}, len(inside)
    for left, right, begin in reversed(boxes[:-1]):
        between = start - right
        if between > CONNECTOR_CHARACTERS or size > MAX_CHARACTERS:
            break
        if not _CONNECTOR.fullmatch(text, right, start):
            break
        inside = text[begin : right - 1].strip()
        parts.setdefault(inside)
        size, start = size + len(inside), left
    return ",".join(reversed(parts))


def _boxes(text: str) -> tuple[list[tuple[int, int, int]], int]:
    """The balanced innermost boxes that hold something, and the last box that never closes.

    Returns:
        Start, end and start of what is inside of each, in order; where the open one starts, -1
        where there is none.
    """
    opened: list[tuple[int, int] | None] = []  # (start, inside) of a box; None for other braces
    found: list[tuple[int, int, int]] = []
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token == "{":
            opened.append(None)
        elif token == "}":
            box = opened.pop() if opened else None
            if box and not (found and found[-1][0] > box[0]):
                found.append((box[0], match.end(), box[1]))
        elif token.endswith("{") and len(token) > 2:
            opened.append((match.start(), match.end()))
    unclosed = max((box[0] for box in opened if box), default=-1)
    held = [box for box in found if not text[box[2] : box[1] - 1].isspace() and box[1] - 1 > box[2]]
    return held, unclosed
