"""How long logged completions and their thoughts are, and what a log keeps of the thoughts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from laconic.errors import RunError
from laconic.importing.contract import CLOSE, OPEN
from laconic.importing.counting import count_tokens, open_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.importing.contract import Log, Record

#: A column that equals the number of words in this share of the completions counts words.
WORDS: Final = 0.9
#: Where this share of the texts is empty, and no text holds a thought, thoughts were left out.
EMPTY: Final = 0.01
#: Tokens that a completion may have beside its text, such as the one that ends the turn.
UNSEEN: Final = 8
ESTIMATED: Final = "thought tokens are estimated from the thought's share of the characters"


@dataclass(frozen=True)
class Lengths:
    """The tokens of every completion.

    Attributes:
        whole: Completion tokens, ``[completion]``.
        thinking: Those of them that are thought, ``[completion]``.
        exact: Whether they are the engine's own counts, as they are: one that was cut has the
            whole budget.
        answers_only: Whether `whole` leaves the thoughts out.
        inferred: What was inferred about them, in words.
        missing: What nobody can tell of them, in words.
    """

    whole: list[int]
    thinking: list[int]
    exact: bool
    answers_only: bool
    inferred: list[str]
    missing: list[str]


def measure(
    records: Sequence[Record], log: Log, tokenizer: str | Path | None, source: str
) -> Lengths:
    """The tokens of each completion and of its thought.

    Args:
        records: The completions.
        log: The log that they are of.
        tokenizer: Counts the tokens instead of the log.
        source: The log, for errors.

    Raises:
        RunError: Where nothing tells the tokens, they are words, or they contradict themselves.
    """
    unclosed, opened = _unclosed(records)
    thoughts = [
        record.response if still else record.response[: _end(record.response)]
        for record, still in zip(records, unclosed, strict=True)
    ]
    inferred = [opened] if opened else []
    answers_only, missing = _kept(records, thoughts, log, counted=tokenizer is not None)
    if tokenizer is not None:
        counter = open_tokenizer(Path(tokenizer))
        whole = count_tokens(counter, [record.response for record in records])
        parts = count_tokens(counter, thoughts)
        return Lengths(whole, parts, False, answers_only, inferred, missing)
    _check_stated(records, log, source)
    stated, added = _with_thoughts(records, source)
    whole = [record.length or 0 for record in stated]
    thinking: list[int] = []
    for record, thought, still in zip(stated, thoughts, unclosed, strict=True):
        length, share = record.length or 0, len(thought) / max(len(record.response), 1)
        said = length if still and not record.thinking else record.thinking
        thinking.append(round(length * share) if said is None else said)
        if said is None and thought and ESTIMATED not in inferred:
            inferred.append(ESTIMATED)
    exact = log.exact and not added
    return Lengths(whole, thinking, exact, answers_only, [*inferred, *added], missing)


def _end(text: str) -> int:
    """Where the last closed thought of a text ends; 0 where it has none."""
    place = text.rfind(CLOSE)
    return place + len(CLOSE) if place >= 0 else 0


def _unclosed(records: Sequence[Record]) -> tuple[list[bool], str]:
    """Whether each completion is a thought to its end, and how that was inferred.

    Where completions close a thought that they did not open, the prompt opened it, for all of them.
    """
    plain = [record.response for record in records if record.open is None]
    closing = [text for text in plain if CLOSE in text]
    by_prompt = [text for text in closing if OPEN not in text[: text.index(CLOSE)]]
    prompted = len(by_prompt) > len(closing) / 2
    unclosed = [
        record.open
        if record.open is not None
        else record.response.rfind(OPEN) > record.response.rfind(CLOSE)
        or (prompted and CLOSE not in record.response)
        for record in records
    ]
    never = sum(prompted and CLOSE not in text and OPEN not in text for text in plain)
    told = f"the prompt opens the thought: {never:,} completions that never close it are thought"
    return unclosed, told if never else ""


def _kept(
    records: Sequence[Record], thoughts: Sequence[str], log: Log, *, counted: bool
) -> tuple[bool, list[str]]:
    """Whether the lengths leave out the thoughts, and what of them the log does not keep."""
    parted = sum(
        not thought and (record.thinking or 0) > 0
        for record, thought in zip(records, thoughts, strict=True)
    )
    short = sum(map(_too_short, records))
    if parted or short:
        texts = (
            f"the thoughts of {parted:,} completions are not in the log's texts"
            if parted
            else f"{short:,} texts are shorter than the tokens counted for them: parts are left out"
        )
        if counted:
            return True, [f"{texts}: THE LENGTHS ARE THOSE OF THE ANSWERS ALONE"]
        return False, [f"{texts}; the log's own counts hold their tokens"]
    if any(thoughts):
        return False, []
    empty = sum(not record.response.strip() for record in records)
    whole = log.content_only is False
    if counted and not whole and empty >= max(EMPTY * len(records), 1):
        return True, [
            f"THE THOUGHTS SEEM TO BE MISSING: {empty:,} texts are empty and none has a thought, "
            "as where a server parts off the reasoning; the true lengths and what was cut are not "
            "known, and the lengths shown are too small"
        ]
    if log.content_only:
        return False, [
            f"{log.format} keeps only the content of a server's answer: if the server parts off "
            "the reasoning, the thoughts are missing and the lengths are too small"
        ]
    return False, [f"{empty:,} texts are empty"] if empty else []


def _too_short(record: Record) -> bool:
    """Whether a text cannot have the tokens that were counted: each is at least a byte of it."""
    return (record.length or 0) > len(record.response.encode()) + UNSEEN


def _check_stated(records: Sequence[Record], log: Log, source: str) -> None:
    """Refuse lengths that are not there or that are words."""
    lengths = [record.length for record in records if record.length is not None]
    if not lengths:
        named = "Name the column, --map length=COLUMN, or count" if log.columns else "Count"
        raise RunError(
            f"{source}: nothing says how many tokens a completion has. {named} them: "
            "--tokenizer FOLDER_OR_FILE."
        )
    for record in records:
        if record.length is None:
            raise RunError(
                f"{source}, {record.where} has no length ({log.length}). Count the tokens: "
                "--tokenizer FOLDER_OR_FILE."
            )
    words = sum(len(r.response.split()) == n for r, n in zip(records, lengths, strict=True))
    if words >= WORDS * len(records):
        raise RunError(
            f"{source}: {log.length} counts words, not tokens: it is the number of words in "
            f"{words:,} of {len(records):,} completions. Map another column, or count the tokens: "
            "--tokenizer FOLDER_OR_FILE."
        )


def _with_thoughts(records: Sequence[Record], source: str) -> tuple[list[Record], list[str]]:
    """The records with lengths that hold the thought, and a word where it had to be added.

    A part is never more than the whole: where it is, or where the total says so, the server counted
    the thought beside the completion.

    Raises:
        RunError: Where the total says that it counted the thought within, but it is more.
    """
    contradiction = next((r for r in records if (r.thinking or 0) > (r.length or 0)), None)
    if contradiction is None and not any(record.beside for record in records):
        return list(records), []
    within = next((r for r in records if r.beside is False), None)
    if contradiction is not None and within is not None:
        raise RunError(
            f"{source}, {contradiction.where}: {contradiction.thinking:,} tokens of thought are "
            f"more than the completion's {contradiction.length:,}, and the usage's totals do not "
            "add up. Count the tokens: --tokenizer FOLDER_OR_FILE."
        )
    added = [
        replace(record, length=(record.length or 0) + record.thinking)
        if record.thinking and record.beside is not False
        else record
        for record in records
    ]
    return added, ["the server counts the thought beside the completion: both were added"]
