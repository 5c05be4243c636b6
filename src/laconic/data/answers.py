"""Answers and pairs of answers for training, and the JSONL file that stores them."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from laconic.errors import DataError
from laconic.files.atomic import make_folder, write_file
from laconic.files.json import read_json, write_json
from laconic.files.text import MOST_BYTES, read_bytes
from laconic.runs.run import is_run
from laconic.tasks.contract.dataset import read_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from laconic.data.pools import Kind
    from laconic.runs.run import Kind as GoldKind
    from laconic.tasks.contract.dataset import Row as FileRow

#: Whether a thought was closed, opened and never closed, or not there; ``unknown`` in other files.
Thought = Literal["closed", "open", "none", "unknown"]
#: What other tools call the columns.
QUESTION: Final = ("question", "problem", "query")
GOLD: Final = ("gold", "answer", "ref_answer")


@dataclass(frozen=True)
class TrainingAnswer:
    """One answer to a problem.

    Attributes:
        id: Its name, unique within a file.
        question: The text of the user's turn.
        gold: The right answer.
        response: The text that a model wrote.
        level: The difficulty that the task gives; None if it gives none.
        length: Its tokens, counted by the tokenizer of the model that wrote it; None if unknown.
        thought: Whether the response has a closed thought, an open one, or none.
        truncated: Whether the token budget cut it.
        kind: Whether `gold` is an answer, or the tests of a program.
    """

    id: str
    question: str
    gold: str
    response: str
    level: int | None = None
    length: int | None = None
    thought: Thought = "unknown"
    truncated: bool = False
    kind: GoldKind = "answer"

    @property
    def answers(self) -> tuple[TrainingAnswer, ...]:
        """The answer itself: what a row is made of."""
        return (self,)


@dataclass(frozen=True)
class AnswerPair:
    """Two answers to one problem, of which the first is preferred."""

    chosen: TrainingAnswer
    rejected: TrainingAnswer

    @property
    def id(self) -> str:
        """The name of the preferred answer."""
        return self.chosen.id

    @property
    def question(self) -> str:
        """The text of the user's turn, the same for both."""
        return self.chosen.question

    @property
    def level(self) -> int | None:
        """The task's own difficulty; None where it has none."""
        return self.chosen.level

    @property
    def answers(self) -> tuple[TrainingAnswer, ...]:
        """Both answers, the preferred one first."""
        return (self.chosen, self.rejected)


Row = TrainingAnswer | AnswerPair


@dataclass(frozen=True)
class Selection:
    """The rows of a pool, and a record of the rows that were left out.

    Attributes:
        rows: Answers or pairs, all of the same kind.
        kind: ``rows`` for fine-tuning, ``pairs`` for preference training.
        sources: The runs with the answers, each with its folder and digest.
        dropped: The number of answers, or of pairs, that were left out, by reason.
        failed: The problems without any right answer.
        steps: The steps so far, each with its settings.
    """

    rows: tuple[Row, ...]
    kind: Kind = "rows"
    sources: tuple[Mapping[str, Any], ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    steps: tuple[Mapping[str, Any], ...] = ()

    def keep(self, wrong: Callable[[Row], str], step: Mapping[str, Any]) -> Self:
        """Keep the rows for which `wrong` returns no reason.

        Args:
            wrong: Returns the reason for leaving a row out; empty if the row is kept.
            step: The settings of this step, for the record.
        """
        reasons = [wrong(row) for row in self.rows]
        gone = Counter(filter(None, reasons))
        rows = tuple(r for r, reason in zip(self.rows, reasons, strict=True) if not reason)
        steps = (*self.steps, {**step, "kept": len(rows), "dropped": dict(gone)})
        dropped = dict(Counter(self.dropped) + gone)
        return replace(self, rows=rows, dropped=dropped, steps=steps)


def write_selection(selection: Selection, path: Path) -> None:
    """Write rows as JSONL, and their origin next to them (``short.meta.json``).

    Raises:
        DataError: If the files cannot be written.
    """
    flat = (_flat(row) for row in selection.rows)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in flat)
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # halves are marked
    content = whole.encode("utf-8")
    meta = {
        "kind": selection.kind,
        "rows": len(selection.rows),
        "sha256": hashlib.sha256(content).hexdigest(),
        "sources": list(selection.sources),
        "dropped": dict(selection.dropped),
        "failed": list(selection.failed),
        "steps": list(selection.steps),
    }
    try:
        make_folder(path.parent)
        write_file(path, content)
        write_json(meta_file(path), meta)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}.") from error


def read_selection(path: Path) -> Selection:
    """Read rows that `select` wrote, or that another tool did.

    Args:
        path: JSONL, JSON, CSV or Parquet. A row needs ``question`` (or ``problem``, ``query``),
            ``gold`` (or ``answer``) and ``response``, or ``chosen`` and ``rejected``; it may have
            ``id``, ``level`` and ``truncated``.

    Raises:
        DataError: For a folder, a file without rows, ids that come twice, or rows of both kinds.
        TaskError: For a file or a row that cannot be read, named by its line.
    """
    if path.is_dir():
        what = "a run" if is_run(path) else "a folder"
        raise DataError(f"{path} is {what}, not a file of answers. First: laconic data select.")
    rows = tuple(map(_row, read_rows(path)))
    if not rows:
        raise DataError(f"{path} has no rows.")
    ids = Counter(row.id for row in rows)
    if twice := [name for name, count in ids.items() if count > 1]:
        raise DataError(f"{path}: the id '{twice[0]}' comes {ids[twice[0]]} times.")
    kinds = {isinstance(row, AnswerPair) for row in rows}
    if len(kinds) > 1:
        raise DataError(f"{path} holds answers and pairs. Put them in files of their own.")
    kind: Kind = "pairs" if True in kinds else "rows"
    if not meta_file(path).exists():
        step = {"step": "read", "file": str(path), "rows": len(rows)}
        return Selection(rows, kind, steps=(step,))
    return _with_meta(Selection(rows, kind), path)


def meta_file(path: Path) -> Path:
    """The file with the origin of a file of rows."""
    return path.with_name(path.name.removesuffix(".jsonl") + ".meta.json")


def _with_meta(selection: Selection, path: Path) -> Selection:
    held = read_json(meta_file(path), DataError)
    try:
        steps = tuple(dict(step) for step in held["steps"])
        found = replace(
            selection,
            sources=tuple(dict(source) for source in held["sources"]),
            dropped={str(reason): int(n) for reason, n in held["dropped"].items()},
            failed=tuple(map(str, held["failed"])),
            steps=steps,
        )
        digest = held["sha256"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{meta_file(path)} is damaged ({error!r}). Delete it.") from None
    if hashlib.sha256(read_bytes(path, DataError, most=MOST_BYTES)).hexdigest() != digest:
        note = {"step": "edited", "file": str(path), "rows": len(found.rows)}
        return replace(found, steps=(*steps, note))
    return found


def _flat(row: Row) -> dict[str, Any]:
    """A row as the mapping that is written to its line."""
    if isinstance(row, TrainingAnswer):
        return asdict(row)
    same = asdict(row.chosen)
    for name in ("response", "length", "thought", "truncated"):
        del same[name]
    for name, answer in (("chosen", row.chosen), ("rejected", row.rejected)):
        same |= {name: answer.response, f"{name}_length": answer.length}
        same |= {f"{name}_thought": answer.thought}
    return same | {"rejected_id": row.rejected.id}


def _row(row: FileRow) -> Row:
    if "chosen" not in row.values:
        return _answer(row, "response", "")
    return AnswerPair(_answer(row, "chosen", "chosen_"), _answer(row, "rejected", "rejected_"))


def _answer(row: FileRow, column: str, prefix: str) -> TrainingAnswer:
    """An answer of a file's row; `prefix` begins the names of what is said of this answer alone."""
    values = row.values
    length, thought = values.get(f"{prefix}length"), values.get(f"{prefix}thought")
    return TrainingAnswer(
        id=row.optional(f"{prefix}id", "id") or str(row.index + 1),
        question=row.text(*QUESTION),
        gold=row.text(*GOLD),
        response=row.text(column),
        level=row.level(),
        length=length if isinstance(length, int) else None,
        thought=thought if thought in ("closed", "open", "none") else "unknown",
        truncated=values.get("truncated") is True,
        kind="program" if values.get("kind") == "program" else "answer",
    )


def describe(dropped: Mapping[str, int]) -> str:
    """Reasons with their counts, the commonest first: ``12 wrong, 3 truncated``."""
    ordered: Sequence[tuple[str, int]] = Counter(dropped).most_common()
    return ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in ordered)
