"""Reading logs that anybody may have written: lines, JSON and archives, each within bounds."""

from __future__ import annotations

import gzip
import importlib
import json
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, cast

from laconic.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: A log is read up to so many bytes of text and so many lines, a line up to so many bytes.
MOST_BYTES: Final = 2**32
MOST_LINES: Final = 2_000_000
MOST_LINE: Final = 2**26
#: So many bytes of a file that is one JSON value, which must be held whole.
MOST_JSON: Final = 2**29
GZIP: Final = b"\x1f\x8b"


def magic(path: Path) -> bytes:
    """The first four bytes of a file.

    Raises:
        RunError: Where it cannot be read.
    """
    with explained(path), path.open("rb") as stream:
        return stream.read(4)


def lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file, gzipped or not, with their lines' numbers.

    Raises:
        RunError: For a file that cannot be read, a line that is no JSON object, or too much text.
    """
    total = 0
    with explained(path), _opened(path) as stream:
        number = 0
        while line := stream.readline(MOST_LINE + 1):
            number, total = number + 1, total + len(line)
            if len(line) > MOST_LINE or total > MOST_BYTES or number > MOST_LINES:
                raise too_much(path, f"line {number}")
            if line.strip():
                yield number, _object(line, f"{path}, line {number}")


def first_line(path: Path) -> bytes:
    """The first line that is not blank, as far as a line may go; empty where there is none."""
    with explained(path), _opened(path) as stream:
        for _ in range(1000):
            line = stream.readline(MOST_LINE + 1)
            if line.strip() or not line:
                return line[:MOST_LINE]
    return b""


def whole(path: Path) -> dict[str, Any]:
    """The one JSON object that a file holds, gzipped or not.

    Raises:
        RunError: For a file that cannot be read, holds something else, or too much of it.
    """
    return _object(_content(path), str(path))


def is_array(path: Path) -> bool:
    """Whether a file begins as a JSON array does."""
    return first_line(path).lstrip().startswith(b"[")


def array(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file that is one JSON array, gzipped or not, numbered from 1.

    Raises:
        RunError: For a file that cannot be read, holds something else, or too much of it.
    """
    items = _value(_content(path), str(path))
    if not isinstance(items, list):
        raise RunError(f"{path} is not a JSON array.")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise RunError(f"{path}, item {number} is not a JSON object.")
        yield number, item


def parse(content: bytes, where: str) -> dict[str, Any]:
    """The JSON object in some bytes, as `where` they stood.

    Raises:
        RunError: Where they hold something else.
    """
    return _object(content, where)


def too_much(path: Path, where: str) -> RunError:
    """What is said of a log that is too large, or unpacks to too much."""
    return RunError(
        f"{path}: {where} unpacks to more text than a log may hold ({MOST_BYTES / 2**30:.0f} GiB, "
        f"{MOST_LINES:,} lines of {MOST_LINE / 2**20:.0f} MiB, one JSON value of "
        f"{MOST_JSON / 2**20:.0f} MiB). "
        "Split the log."
    )


def optional(package: str, path: Path) -> Any:
    """A library that only some logs need.

    Raises:
        RunError: Where it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise RunError(
            f"{path}: reading it needs {package}. Install it: pip install 'laconic[logs]'."
        ) from None


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what reading a file raises into one sentence."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(f"{path} cannot be read: {reason}.") from error


def _opened(path: Path) -> IO[bytes]:
    stream = path.open("rb")
    start = stream.read(2)
    stream.seek(0)
    if start != GZIP:
        return stream
    stream.close()
    return cast("IO[bytes]", gzip.open(path, "rb"))


def _content(path: Path) -> bytes:
    with explained(path), _opened(path) as stream:
        content = stream.read(MOST_JSON + 1)
    if len(content) > MOST_JSON:
        raise too_much(path, "it")
    return content


def _value(content: bytes, where: str) -> Any:
    try:
        return json.loads(content)
    except UnicodeDecodeError:
        raise RunError(f"{where} cannot be read: it is not UTF-8 text.") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where} is not JSON ({error}).") from None


def _object(content: bytes, where: str) -> dict[str, Any]:
    value = _value(content, where)
    if not isinstance(value, dict):
        raise RunError(f"{where} is not a JSON object.")
    return value
