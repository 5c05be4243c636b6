"""Which tool wrote a log: told by the content, never by the file's name."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from laconic.errors import RunError
from laconic.importing import readers
from laconic.importing.files import first_line, magic
from laconic.importing.plain import read_plain
from laconic.importing.rows import first_row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from laconic.importing.contract import Log, LogFormat

ZSTANDARD: Final = b"\x28\xb5\x2f\xfd"
#: The entry points of other packages' formats.
GROUP: Final = "laconic.log_formats"
#: Endings of files of rows, which any tool may write.
ROW_SUFFIXES: Final = frozenset({".jsonl", ".json", ".gz", ".parquet"})


@cache
def formats() -> Sequence[LogFormat]:
    """Every tool's format: those of the package by their modules' names, then other packages'."""
    names = sorted(module.name for module in pkgutil.iter_modules(readers.__path__))
    own = [importlib.import_module(f"{readers.__name__}.{name}").FORMAT for name in names]
    others = sorted(entry_points(group=GROUP), key=lambda entry: entry.name)
    return [*own, *(entry.load() for entry in others)]


def log_suffixes() -> frozenset[str]:
    """What the files of a folder that may be logs end with."""
    return ROW_SUFFIXES.union(*(format_.suffixes for format_ in formats()))


def read_log(path: Path, mapped: Mapping[str, str]) -> Log:
    """The completions of a log of any known format.

    Args:
        path: The file.
        mapped: Columns by field, which make it a plain log.

    Raises:
        RunError: For a file of no known format, or one that cannot be read.
    """
    start = magic(path)
    contained = next((format_ for format_ in formats() if format_.magic == start), None)
    if start == ZSTANDARD:
        raise RunError(f"{path} is packed by zstd. Unpack it first: zstd -d.")
    if contained is not None:
        log = contained.read(path)
    elif mapped:
        log = read_plain(path, mapped)
    else:
        log = _read_rows(path)
    if not log.records:
        left_out = "".join(
            f" {number:,} {what} were left out." for what, number in log.skipped.items()
        )
        raise RunError(f"{path} holds no completions.{left_out}")
    return log


def find_logs(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files of a log, and a word about those of a folder that are none.

    The files of a folder are parts of one log: those that a known tool wrote, else all of them.
    Folders in it are not looked into.

    Raises:
        RunError: For a folder without files.
    """
    found: list[Path] = []
    notes: list[str] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        suffixes = log_suffixes()
        inside = sorted(p for p in path.iterdir() if p.is_file() and p.suffix in suffixes)
        if not inside:
            endings = ", ".join(sorted(suffixes))
            raise RunError(f"{path} is a folder that holds no log itself ({endings}). Give a log.")
        known = [file for file in inside if _format_of(file) is not None]
        passed_over = [file.name for file in inside if known and file not in known]
        if passed_over:
            notes.append(
                f"{len(passed_over):,} other files of {path} are left out: "
                f"{', '.join(passed_over[:5])}"
            )
        found += known or inside
    return found, notes


def _format_of(path: Path) -> LogFormat | None:
    """The tool that wrote a file; None for a plain log, and for what is none."""
    start = magic(path)
    contained = next((format_ for format_ in formats() if format_.magic == start), None)
    row = None if contained else first_row(path)
    return contained or next((f for f in formats() if row is not None and f.matches(row)), None)


def _read_rows(path: Path) -> Log:
    """A log whose first row tells its format; one of no known format is a plain log."""
    row = first_row(path)
    known = next((f for f in formats() if row is not None and f.matches(row)), None)
    if known is not None:
        return known.read(path)
    if row is not None and first_line(path).strip() == b"{":
        tools = ", ".join(format_.name for format_ in formats())
        raise RunError(
            f"{path} is one JSON object, and no log of a known format ({tools}). Its keys: "
            f"{', '.join(map(repr, list(row)[:6]))}. A plain log has an object a line."
        )
    return read_plain(path, {})  # which also says what is wrong with a line
