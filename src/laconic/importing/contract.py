"""The contract of log formats: what one declares, and what its reader makes of a log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.scoring.answers.extract import boxed_answer

if TYPE_CHECKING:
    from pathlib import Path

OPEN: Final = "<think>"
CLOSE: Final = "</think>"
#: What tools call the end of a completion that its budget cut.
CUT: Final = frozenset({"length", "max_tokens", "max_length", "model_length"})
#: What they call any other end.
ENDED: Final = frozenset({"stop", "eos", "end_turn", "stop_sequence", "eos_token"})


@dataclass(frozen=True)
class Record:
    """One logged completion; None for what the log does not say.

    Attributes:
        response: The completion's text, its thought before ``</think>``.
        where: Where in the log it stands, such as ``line 3``.
        id: The problem's name; a number that only counts the log's problems is none where
            `problem` is there.
        problem: The problem, or the user's turn that holds it.
        gold: The right answer.
        sample: Which of the problem's completions it is.
        length: Completion tokens.
        thinking: Those of them that are thought.
        beside: Whether the usage's total shows that `thinking` was counted beside `length`, not
            within it.
        cap: The most tokens it could have.
        cut: Whether that budget cut it.
        open: Whether the text is a thought that was never closed; None where the log does not keep
            thoughts apart, so that the text's own marks must tell.
        model: The model's name.
    """

    response: str
    where: str
    id: str | None = None
    problem: str | None = None
    gold: str | None = None
    sample: int | None = None
    length: int | None = None
    thinking: int | None = None
    beside: bool | None = None
    cap: int | None = None
    cut: bool | None = None
    open: bool | None = None
    model: str | None = None


@dataclass(frozen=True)
class Log:
    """A log as its reader understood it.

    Attributes:
        format: The tool that wrote it.
        records: Its completions.
        length: Where their lengths came from, such as ``column tokens``; empty where the log has
            none.
        exact: Whether they are the engine's own counts: one that was cut has the whole budget.
        named: Whether ids are the user's own names of the problems, not a tool's count of rows.
        content_only: Whether the texts are a served answer's content without what the server parted
            off as reasoning; None where nobody knows how they were made.
        sampling: ``temperature``, ``top_p`` and ``seed``, as far as the log says.
        columns: The column of each field, of a plain log.
        skipped: How many rows were left out, by what they were, such as ``requests that failed``.
        notes: What a reader of the report must know.
    """

    format: str
    records: Sequence[Record]
    length: str = ""
    exact: bool = False
    named: bool = False
    content_only: bool | None = False
    sampling: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class KeptFacts:
    """What a tool's log keeps, in words for the table of docs/import.md.

    Attributes:
        file: The file, and the option that writes it.
        lengths: Where lengths come from.
        thoughts: Where a thought stands.
        cut: How a completion that its budget cut is known.
        settings: Where the budget and the sampling stand.
    """

    file: str
    lengths: str
    thoughts: str
    cut: str
    settings: str


@dataclass(frozen=True)
class LogFormat:
    """The log of one tool, recognised by its content.

    To add one, write a module of `laconic.importing.readers` that assigns a `LogFormat` to
    ``FORMAT``; nothing else is to be edited. Other packages name such an object in the entry-point
    group ``laconic.log_formats``. `laconic.testing.test_log_formats` is the contract as tests.

    Attributes:
        name: The tool.
        matches: Whether this is the first row, or the whole object, of such a log. It must be
            false for the examples of all other formats.
        read: Reads a file of it.
        example: A small log of one completion: its first row, or the whole object.
        kept: What the log keeps, for the documentation.
        magic: The first four bytes of a container that only this tool writes; or empty.
        suffixes: Endings of its files, besides those of JSON, that mark logs in a folder.
    """

    name: str
    matches: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Path], Log]
    example: Mapping[str, Any]
    kept: KeptFacts
    magic: bytes = b""
    suffixes: tuple[str, ...] = ()


def dig(value: Any, *keys: str | int) -> Any:
    """What stands at a path of keys and indices; None where anything on the way is missing."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and -len(value) <= key < len(value):
            value = value[key]
        else:
            return None
    return value


def text(value: Any) -> str | None:
    """A text; None for anything else. Half a surrogate pair, which no file can hold, is marked."""
    if not isinstance(value, str):
        return None
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def count(value: Any) -> int | None:
    """A whole number from 0, also one written ``33.0``; None for anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < float("inf") else None


def answer(value: Any) -> str | None:
    """The gold in what a data set calls its answer: a number, a text, a solution, a list's first.

    A solution's gold follows ``####`` (GSM8K) or stands in its last box.
    """
    if isinstance(value, list):
        return answer(value[0]) if value else None
    if number(value) is not None:
        return str(value)
    solution = text(value)
    if solution is None:
        return None
    if "####" in solution:
        return solution.rpartition("####")[2].strip() or None
    return boxed_answer(solution) or solution.strip() or None


def is_cut(finish: Any) -> bool | None:
    """Whether a completion was cut, by what its log calls its end; None where that is unknown."""
    if not isinstance(finish, str):
        return None
    return True if finish in CUT else False if finish in ENDED else None


def sampling(settings: Any) -> dict[str, float]:
    """The temperature, top-p and seed in a tool's settings, as far as they are there."""
    found = {key: number(dig(settings, key)) for key in ("temperature", "top_p", "seed")}
    return {key: value for key, value in found.items() if value is not None}


def joined(thought: str | None, said: str) -> tuple[str, bool | None]:
    """A completion whose thought the log keeps apart, and whether that thought is still open.

    Only an answer after the thought proves that it was closed.
    """
    if not thought:
        return said, None
    if not said.strip():
        return thought, True
    return f"{thought}{CLOSE}{said}", False


def needed(value: str | None, what: str, where: str, path: Path) -> str:
    """A text that must be there.

    Raises:
        RunError: Where it is not, naming the place.
    """
    if value is None:
        raise RunError(f"{path}, {where} has no {what}, or it is no text.")
    return value
