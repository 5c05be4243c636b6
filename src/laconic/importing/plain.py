"""Plain JSONL logs: one completion a line, in columns that the user names or that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError, did_you_mean
from laconic.importing.files import rows
from laconic.importing.record import CUT, Log, Record, text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME: Final = "plain JSONL"
#: Columns that mean a field where the user maps none. A length is never guessed: columns of
#: that name hold words, characters or the prompt as often as tokens.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "problem_id"),
    "sample": ("sample", "repeat"),
    "response": ("response", "text", "completion", "output"),
    "length": (),
    "cap": ("cap", "max_tokens"),
    "finish": ("finish", "finish_reason", "stop_reason"),
}


def read_plain(path: Path, mapped: Mapping[str, str]) -> Log:
    """The completions of a JSONL file, gzipped or not, and which column each field came from.

    Args:
        path: The file.
        mapped: Columns by field; the others are known by their names.

    Raises:
        RunError: For a file that cannot be read, a missing column, or a value of another type,
            named by line.
    """
    for field in mapped:
        if field not in ALIASES:
            raise RunError(f"--map {field}=...: there is no such field. Fields: {_fields()}.")
    columns: dict[str, str] = {}
    records = []
    for number, row in rows(path):
        columns = columns or _columns(row, mapped, path)
        records.append(_record(number, row, columns, path))
    length = f"column {columns['length']}" if "length" in columns else ""
    return Log(NAME, records, length, columns=columns)


def _columns(row: Mapping[str, Any], mapped: Mapping[str, str], path: Path) -> dict[str, str]:
    """The column of each field that the log has."""
    for field, column in mapped.items():
        if column not in row:
            raise RunError(
                f"--map {field}={column}: {path} has no such column. {did_you_mean(column, row)}"
            )
    known = {f: next((a for a in names if a in row), "") for f, names in ALIASES.items()}
    columns = {field: column for field, column in {**known, **mapped}.items() if column}
    for field in ("id", "response"):
        if field not in columns:
            raise RunError(
                f"{path}: no column is known to be the {field}. Name it: --map {field}=COLUMN; "
                f"there are {', '.join(f'{name!r:.40}' for name in list(row)[:40])}."
            )
    return columns


def _record(number: int, row: Mapping[str, Any], columns: Mapping[str, str], path: Path) -> Record:
    def value(field: str, *kinds: type) -> Any:
        found = row.get(columns[field]) if field in columns else None
        wrong = isinstance(found, bool) or not isinstance(found, kinds)
        below = isinstance(found, int) and found < 0 and field != "id"
        if found is not None and (wrong or below):
            raise RunError(
                f"{path}, line {number}: {columns[field]} cannot be the {field}, got {found!r:.40}."
            )
        return found

    name, response = value("id", str, int), value("response", str)
    if name is None or response is None:
        raise RunError(f"{path}, line {number} has no {'id' if name is None else 'response'}.")
    finish = value("finish", str)
    model = row.get("model")
    return Record(
        id=text(str(name)),
        response=text(response) or "",
        sample=value("sample", int),
        length=value("length", int),
        cap=value("cap", int),
        cut=None if finish is None else finish in CUT,
        model=text(model),
        where=f"line {number}",
    )


def _fields() -> str:
    return ", ".join(ALIASES)
