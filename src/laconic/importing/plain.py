"""Plain logs: a completion a row, or a problem's list, in columns that are mapped or known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError, did_you_mean
from laconic.importing.chats import last_asked, usage
from laconic.importing.columns import ALIASES, cell, column_of, responses
from laconic.importing.contract import CLOSE, CUT, Log, Record, answer, count, joined, text
from laconic.importing.rows import rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NAME: Final = "plain"
#: Fields of a completion, of which a problem's list of completions has a list.
OF_EACH: Final = frozenset({"sample", "thought", "length", "thinking", "cap", "finish"})
NUMBERS: Final = frozenset({"sample", "length", "thinking", "cap"})
#: Names that a data set's gold has as often as a model's own answer does.
DOUBTFUL: Final = frozenset({"answer", "solution"})


def read_plain(path: Path, mapped: Mapping[str, str]) -> Log:
    """The completions of JSONL, a JSON array or a parquet file, and each field's column.

    Args:
        path: The file.
        mapped: Columns by field; the others are known by their names.

    Raises:
        RunError: For a file that cannot be read, a missing column, or a value of another type,
            named by line.
    """
    for field in mapped:
        if field not in ALIASES:
            fields = ", ".join(ALIASES)
            raise RunError(f"--map {field}=...: there is no such field. Fields: {fields}.")
    columns: dict[str, str] = {}
    records: list[Record] = []
    twice = 0
    for where, row in rows(path):
        if not columns:
            _check_mapped(row, mapped, path)
        here = _PlainRow(row, where, path, {**{f: column_of(row, f) for f in ALIASES}, **mapped})
        columns |= {f: c for f, c in here.columns.items() if c and f not in columns}
        records += here.records()
        twice += here.repeats_its_thought
    length = f"column {columns['length']}" if "length" in columns else ""
    return Log(
        NAME,
        records,
        length,
        named="id" in columns,
        content_only=None,
        columns=columns,
        notes=[
            *_doubted(columns, mapped),
            *(
                [f"{twice:,} texts hold their thought already: its column is left out"]
                * bool(twice)
            ),
        ],
    )


def _check_mapped(row: Mapping[str, Any], mapped: Mapping[str, str], path: Path) -> None:
    for field, column in mapped.items():
        if column not in row and cell(row, column) is None:
            raise RunError(
                f"--map {field}={column}: {path} has no such column. {did_you_mean(column, row)}"
            )


def _doubted(columns: Mapping[str, str], mapped: Mapping[str, str]) -> Iterator[str]:
    """A word about the column that was taken for the gold, where its name does not prove it."""
    column = columns.get("gold", "")
    if column in DOUBTFUL and "gold" not in mapped:
        yield (
            f"the column {column} is taken for the right answer; if it is the model's own, give "
            "--data or --map gold=COLUMN"
        )


@dataclass
class _PlainRow:
    """A row and the column of each of its fields; empty for a field that it has not."""

    row: Mapping[str, Any]
    where: str
    path: Path
    columns: dict[str, str]
    repeats_its_thought: bool = False

    def records(self) -> list[Record]:
        """Its completions."""
        problem, name = self._problem(), self._name()
        made = responses(self._cell("response"))
        if made is None:
            raise self._lacks("response")
        if name is None and problem is None:
            raise self._lacks("id")
        values = {field: self._of_each(field, len(made)) for field in OF_EACH}
        model = text(self.row.get("model"))
        beside = usage(self.row.get("usage")).beside if len(made) == 1 else None
        return [
            Record(
                response=whole,
                where=self.where,
                id=name,
                problem=problem,
                gold=answer(self._cell("gold")),
                sample=values["sample"][place],
                length=values["length"][place],
                thinking=values["thinking"][place],
                beside=beside if self.columns["length"].startswith("usage.") else None,
                cap=values["cap"][place],
                cut=_cut(values["finish"][place]),
                open=unclosed,
                model=model,
            )
            for place, said in enumerate(made)
            for whole, unclosed in [self._with_thought(said, values["thought"][place])]
        ]

    def _with_thought(
        self, said: tuple[str, bool | None], thought: str | None
    ) -> tuple[str, bool | None]:
        """A completion with the thought of a column of its own, unless it holds one already."""
        if thought is None or not thought.strip():
            return said
        if said[1] is not None or CLOSE in said[0] or thought in said[0]:
            self.repeats_its_thought = True
            return said
        return joined(text(thought), said[0])

    def _problem(self) -> str | None:
        value = self._cell("problem")
        return text(value) or last_asked(value) or last_asked(self.row.get("messages"))

    def _name(self) -> str | None:
        value = self._cell("id")
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
            raise self._wrong("id", value)
        return None if value is None else text(str(value))

    def _of_each(self, field: str, completions: int) -> list[Any]:
        """A field of each completion; what a row says once of several is no length of one."""
        value = self._cell(field)
        if isinstance(value, list) and len(value) == completions:
            return [self._checked(field, part) for part in value]
        once = completions > 1 and field in {"sample", "length", "thinking", "thought"}
        return [None if once else self._checked(field, value)] * completions

    def _checked(self, field: str, value: Any) -> Any:
        if value is None or value != value:  # not a number, as tables write what is missing
            return None
        if field in NUMBERS:
            if count(value) is None:
                raise self._wrong(field, value)
            return count(value)
        if not isinstance(value, str):
            if field == "thought" and self.columns[field] in ALIASES[field]:
                return None  # such a column may hold the settings of the reasoning
            raise self._wrong(field, value)
        return value

    def _cell(self, field: str) -> Any:
        return cell(self.row, self.columns[field]) if self.columns[field] else None

    def _wrong(self, field: str, value: Any) -> RunError:
        column = self.columns[field]
        return RunError(
            f"{self.path}, {self.where}: {column} cannot be the {field}, got {value!r:.40}."
        )

    def _lacks(self, field: str) -> RunError:
        """What is said of a row without a field: the columns there are, or the empty one."""
        if self._cell(field) is not None:
            return self._wrong(field, self._cell(field))
        if self.columns[field] in self.row:
            return RunError(f"{self.path}, {self.where} has no {field}.")
        there = ", ".join(f"{name!r:.40}" for name in list(self.row)[:40])
        return RunError(
            f"{self.path}, {self.where}: no column is known to be the {field}. Name it: --map "
            f"{field}=COLUMN; there are {there}."
        )


def _cut(finish: str | None) -> bool | None:
    return None if finish is None else finish in CUT
