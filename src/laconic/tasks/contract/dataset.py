"""Problem sets as files: rows of a local file, of a folder that holds it, or of the Hub's."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.hub import fetch_dataset_file
from laconic.errors import TaskError, did_you_mean
from laconic.files.text import (
    decode,
    explained,
    lines,
    open_binary,
    parse_json,
    read_text,
    refuse_halves,
)

if TYPE_CHECKING:
    from pathlib import Path

#: What a file of problems may end in.
SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")
#: Longer fields than the csv module's 131,072 characters are no error.
FIELD_SIZE: Final = 1 << 30


@dataclass(frozen=True)
class Row:
    """One row of a problem set.

    Attributes:
        values: Its columns.
        index: Its place among the rows, from 0.
        where: The file and line, for errors.
    """

    values: Mapping[str, Any]
    index: int
    where: str

    def text(self, *names: str) -> str:
        """The first of some columns that the row has, as text; a number is written out.

        Raises:
            TaskError: Where it has none of them, or something else than text or a number.
        """
        name = next((name for name in names if name in self.values), names[0])
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            held = f"it holds {', '.join(self.values) or 'nothing'}"
            if name in self.values:
                held = f"it is {str(value)!r:.60}"
            wanted = " or ".join(f"'{n}'" for n in names)
            raise TaskError(f"{self.where} needs {wanted} (text or a number); {held}.")
        return str(value)

    def words(self, *names: str) -> tuple[str, ...]:
        """The first of some columns that the row has, as texts; a text alone is a list of one.

        Raises:
            TaskError: As `text`.
        """
        name = next((name for name in names if name in self.values), names[0])
        value = self.values.get(name)
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            return tuple(value)
        return (self.text(*names),)

    def optional(self, *names: str) -> str:
        """As `text`, and empty where no such column holds anything."""
        held = any(self.values.get(name) not in (None, "") for name in names)
        return (
            self.text(*(n for n in names if self.values.get(n) not in (None, ""))) if held else ""
        )

    def name(self, task: str, *columns: str) -> str:
        """The problem's name, ``TASK/ID``: from an id column, else from the row's place.

        Args:
            task: The task.
            columns: What the id's column may be called, beside ``id``.
        """
        held = self.optional("id", *columns) or str(self.index)
        return held if held.startswith(f"{task}/") else f"{task}/{held}"

    def level(self) -> int | None:
        """The difficulty, from 3 or ``Level 3``; None where the row has none."""
        found = re.fullmatch(r"(?:Level )?(\d+)", str(self.values.get("level")))
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Dataset:
    """Where a task's problems come from.

    Attributes:
        repo: The Hub's data set; empty where only a local file will do.
        file: The file in it.
        revision: A commit, or ``main`` where no commit is known to stay.
        example: A row as the set has them, for tests and for those who write their own.
    """

    repo: str = ""
    file: str = ""
    revision: str = "main"
    example: Mapping[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Where the problems come from, in words."""
        if not self.repo:
            return "a local file (--data)"
        return f"{self.repo} on the Hub, {self.file} at {self.revision}; or --data"

    def find(self, task: str, data: Path | None) -> Path:
        """The file of a task's problems.

        Args:
            task: The task's name.
            data: A file, or a folder that holds ``TASK.jsonl`` (another suffix will do) or the
                set's own file; None fetches it from the Hub.

        Raises:
            TaskError: Where there is none.
        """
        if data is None:
            if not self.repo:
                raise TaskError(
                    f"{task} reads a local file only. Give it: --data FILE_OR_FOLDER, or "
                    f"--task {task}:data=FILE."
                )
            return fetch_dataset_file(self.repo, self.file, self.revision)
        if not data.is_dir():
            return data
        names = [*(task + suffix for suffix in SUFFIXES), *filter(None, [self.file])]
        found = next((data / name for name in names if (data / name).is_file()), None)
        if found is None:
            stems = {p.name.split(".")[0] for p in data.iterdir() if p.name.endswith(SUFFIXES)}
            raise TaskError(f"{data} holds no {task}.jsonl. {did_you_mean(task, stems)}")
        return found


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, one by one; blank lines are passed over.

    Args:
        path: JSONL (also gzipped), a JSON array of objects, CSV with a header, or Parquet, which
            takes pyarrow.

    Raises:
        TaskError: For a file that cannot be read, or a broken line, named by its number.
    """
    reader = {".csv": _read_csv, ".json": _read_json, ".parquet": _read_parquet}
    try:
        numbered = reader.get(path.suffix, _read_lines)(path)
        for index, (where, values) in enumerate(numbered):
            if not isinstance(values, dict):
                raise TaskError(f"{where} is not a JSON object.")
            yield Row(values, index, where)
    except csv.Error as error:
        raise TaskError(f"{path} cannot be read: {error}.") from error


def _read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in lines(path, TaskError):
        where = f"{path}, line {number}"
        yield where, _parse(decode(line, str(path), TaskError, line=number), where)


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    text = read_text(path, TaskError)
    if not text.lstrip().startswith("["):
        yield from _read_lines(path)
        return
    for number, values in enumerate(_parse(text, str(path)), start=1):
        yield f"{path}, row {number}", values


def _read_csv(path: Path) -> Iterator[tuple[str, Any]]:
    before = csv.field_size_limit(FIELD_SIZE)
    try:
        text = read_text(path, TaskError).removeprefix("\ufeff")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    finally:
        csv.field_size_limit(before)
    for number, values in enumerate(rows, start=1):
        yield f"{path}, row {number}", {str(name): value for name, value in values.items()}


def _read_parquet(path: Path) -> Iterable[tuple[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise TaskError(
            f"{path.name} is a Parquet file, which takes pyarrow to read: "
            "pip install 'laconic[tasks]', or give the problems as JSONL with --data."
        ) from None
    try:
        with explained(path, TaskError), open_binary(path, TaskError) as stream:
            rows: list[dict[str, Any]] = parquet.read_table(stream).to_pylist()
    except (ArrowException, ValueError) as error:
        raise TaskError(f"{path} cannot be read: {str(error).splitlines()[0]}.") from error
    return ((f"{path}, row {number}", values) for number, values in enumerate(rows, start=1))


def _parse(text: str, where: str) -> Any:
    value = parse_json(text, where, TaskError)
    refuse_halves(text, where, TaskError)
    return value
