"""Which tool wrote a log: told by the content, never by the file's name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.importing import (
    archive,
    evalscope,
    inspect_ai,
    lm_eval,
    parquet,
    qwen_math,
    skythought,
)
from laconic.importing.files import first_line, magic, whole
from laconic.importing.lighteval import read_details
from laconic.importing.plain import read_plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from laconic.importing.record import Format, Log

#: Logs of a JSON object a line, and logs that are one JSON object.
BY_LINE: Final[Sequence[Format]] = (lm_eval.FORMAT, evalscope.FORMAT, qwen_math.FORMAT)
WHOLE: Final[Sequence[Format]] = (inspect_ai.FORMAT, skythought.FORMAT)
NAMES: Final = ("plain JSONL", "lighteval", *(format_.name for format_ in (*BY_LINE, *WHOLE)))
ZSTANDARD: Final = b"\x28\xb5\x2f\xfd"


def read_log(path: Path, mapped: Mapping[str, str]) -> Log:
    """The completions of a log of any known format.

    Args:
        path: The file.
        mapped: Columns by field, which make it a plain log.

    Raises:
        RunError: For a file of no known format, or one that cannot be read.
    """
    start = magic(path)
    if start == archive.MAGIC:
        log = inspect_ai.read_archive(path)
    elif start == parquet.MAGIC:
        log = read_details(path)
    elif start == ZSTANDARD:
        raise RunError(f"{path} is packed by zstd. Unpack it first: zstd -d.")
    elif mapped:
        log = read_plain(path, mapped)
    else:
        log = _read_text(path)
    if not log.records:
        raise RunError(f"{path} holds no completions.")
    return log


def _read_text(path: Path) -> Log:
    """A log that is text: its first line tells, or else the whole."""
    line = first_line(path)
    row = _object(line)
    for format_ in BY_LINE:
        if row is not None and format_.matches(row):
            return format_.read(path)
    if row is not None and not any(format_.matches(row) for format_ in WHOLE):
        return read_plain(path, {})
    if row is None and line.strip() not in {b"{", b"["}:
        return read_plain(path, {})  # which says what is wrong with the line
    value = whole(path) if row is None else row
    for format_ in WHOLE:
        if format_.matches(value):
            return format_.read(path)
    raise RunError(
        f"{path} is one JSON object, and no log of a known format ({', '.join(NAMES)}). Its keys: "
        f"{', '.join(map(repr, list(value)[:6]))}. A plain log has an object a line."
    )


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
