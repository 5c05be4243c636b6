"""Reading logs that anybody may have written: lines, JSON and archives, each within bounds."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from laconic.errors import RunError
from laconic.files import text as textfile
from laconic.files.text import GZIP as GZIP
from laconic.files.text import MOST_BYTES as MOST_BYTES
from laconic.files.text import MOST_LINE as MOST_LINE
from laconic.files.text import MOST_TEXT, decode, open_binary, opened, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


def magic(path: Path) -> bytes:
    """The first four bytes of a file.

    Raises:
        RunError: Where it cannot be read.
    """
    with explained(path), open_binary(path, RunError) as stream:
        return stream.read(4)


def lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file, gzipped or not, with their lines' numbers.

    Raises:
        RunError: For a file that cannot be read, a line that is no JSON object, or too much text.
    """
    for number, line in textfile.lines(path, RunError):
        yield number, parse(line, f"{path}, line {number}")


def first_line(path: Path) -> bytes:
    """The first line that is not blank, as far as a line may go; empty where there is none."""
    with explained(path), opened(path, RunError) as stream:
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
    return parse(_content(path), str(path))


def is_array(path: Path) -> bool:
    """Whether a file begins as a JSON array does."""
    return first_line(path).lstrip().startswith(b"[")


def array(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file that is one JSON array, gzipped or not, numbered from 1.

    Raises:
        RunError: For a file that cannot be read, holds something else, or too much of it.
    """
    items = parse_json(decode(_content(path), str(path), RunError), str(path), RunError)
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
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise RunError(f"{where} cannot be read: it is not UTF-8 text.") from None
    value = parse_json(text, where, RunError)
    if not isinstance(value, dict):
        raise RunError(f"{where} is not a JSON object.")
    return value


def too_much(path: Path, where: str) -> RunError:
    """What is said of a log that is too large, or unpacks to too much."""
    return RunError(textfile.too_much(path, where))


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


def explained(path: Path) -> AbstractContextManager[None]:
    """Turn what reading a file raises into one sentence."""
    return textfile.explained(path, RunError)


def _content(path: Path) -> bytes:
    with explained(path), opened(path, RunError) as stream:
        content = stream.read(MOST_TEXT + 1)
    if len(content) > MOST_TEXT:
        raise too_much(path, "it")
    return content
