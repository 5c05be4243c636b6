"""The rows of a log, whatever holds them: lines of JSON, a JSON array, or a parquet file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from laconic.importing.files import array, first_line, is_array, lines, magic, whole
from laconic.importing.parquet import MAGIC, parquet_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a log, each with its place, such as ``line 3``.

    Args:
        path: JSONL or a JSON array, gzipped or not, or a parquet file.

    Raises:
        RunError: For a file that cannot be read, an entry that is no object, or too much text.
    """
    if magic(path) == MAGIC:
        yield from ((f"row {number}", row) for number, row in parquet_rows(path))
    elif is_array(path):
        yield from ((f"item {number}", item) for number, item in array(path))
    else:
        yield from ((f"line {number}", line) for number, line in lines(path))


def first_row(path: Path) -> dict[str, Any] | None:
    """The first row, by which a format is told; None where the file has no rows of JSON.

    A file that is one JSON object over several lines is its own first row.
    """
    if magic(path) == MAGIC or is_array(path):
        return next((row for _, row in rows(path)), None)
    line = first_line(path)
    if line.strip() == b"{":
        return whole(path)
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
