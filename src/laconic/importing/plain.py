"""Plain JSONL logs: one completion a line, in columns that the user names or that are known."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

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
CUT: Final = frozenset({"length", "max_tokens", "max_length", "model_length"})


@dataclass(frozen=True)
class Record:
    """One logged completion; None for what the log does not say.

    Attributes:
        id: The problem's name.
        response: The completion's text.
        sample: Which of the problem's completions it is.
        length: Completion tokens.
        cap: The most tokens it could have.
        cut: Whether that budget cut it.
        model: The model's name.
        line: The line of the log.
    """

    id: str
    response: str
    sample: int | None = None
    length: int | None = None
    cap: int | None = None
    cut: bool | None = None
    model: str | None = None
    line: int = 0


def read_plain(path: Path, mapped: Mapping[str, str]) -> tuple[list[Record], dict[str, str]]:
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
    rows = list(_rows(path))
    if not rows:
        raise RunError(f"{path} holds no completions.")
    columns = _columns(rows[0][1], mapped, path)
    return [_record(number, row, columns, path) for number, row in rows], columns


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise RunError(f"{path}, line {number} is not a JSON object.")
                yield number, row
    except (json.JSONDecodeError, RecursionError) as error:
        raise RunError(f"{path}, line {number} is not JSON ({error}).") from None
    except UnicodeDecodeError:
        raise RunError(f"{path} cannot be read: it is not UTF-8 text.") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(f"{path} cannot be read: {reason}.") from error


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
                f"there are {', '.join(row)}."
            )
    return columns


def _record(number: int, row: Mapping[str, Any], columns: Mapping[str, str], path: Path) -> Record:
    def value(field: str, *kinds: type) -> Any:
        found = row.get(columns[field]) if field in columns else None
        if found is not None and (isinstance(found, bool) or not isinstance(found, kinds)):
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
        id=str(name),
        response=response,
        sample=value("sample", int),
        length=value("length", int),
        cap=value("cap", int),
        cut=None if finish is None else finish in CUT,
        model=model if isinstance(model, str) else None,
        line=number,
    )


def _fields() -> str:
    return ", ".join(ALIASES)
