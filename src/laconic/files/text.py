"""The one door for files that a user names: regular ones only, bounded, UTF-8, whole characters.

A pipe would wait for ever for a writer and a device has no end, so neither is opened to read.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import stat
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path

    from laconic.errors import LaconicError

#: A file of lines is read up to so many bytes and lines, a line up to so many bytes.
MOST_BYTES: Final = 2**32
MOST_LINES: Final = 2_000_000
MOST_LINE: Final = 2**26
#: So many bytes of a text that must be held whole, such as one JSON value.
MOST_TEXT: Final = 2**29
GZIP: Final = b"\x1f\x8b"
#: What a path may lead to that is no regular file, in words.
KINDS: Final = (
    (stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"),
)  # fmt: skip
_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")
_ESCAPE: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?:u([0-9a-fA-F]{4})|.)", re.S
)


def regular(path: Path) -> Path:
    """The path itself, where it leads to a regular file.

    Raises:
        OSError: Where it leads to nothing or to something else, such as a pipe.
    """
    mode = path.stat().st_mode
    for test, words in KINDS:
        if test(mode):
            raise OSError(errno.EINVAL, f"it is {words}, not a file", str(path))
    return path


def open_binary(path: Path, error: type[LaconicError]) -> BufferedReader:
    """A regular file, opened to be read.

    Args:
        path: The file.
        error: What to raise where it cannot be opened.
    """
    try:
        return regular(path).open("rb")
    except (OSError, ValueError) as reason:  # a name may hold what no file's can
        raise error(f"{path} cannot be read: {_words(reason)}.") from reason


def read_bytes(path: Path, error: type[LaconicError], *, most: int = MOST_TEXT) -> bytes:
    """The bytes of a regular file, `most` of them at most.

    Args:
        path: The file.
        error: What to raise where it cannot be read or is larger.
        most: In bytes.
    """
    with open_binary(path, error) as stream:
        try:
            large = os.fstat(stream.fileno()).st_size > most
            content = b"" if large else stream.read()
        except OSError as reason:
            raise error(f"{path} cannot be read: {_words(reason)}.") from reason
    if large:
        raise error(f"{path} cannot be read: it is larger than {size(most)}.")
    return content


def read_text(path: Path, error: type[LaconicError], *, most: int = MOST_TEXT) -> str:
    """The text of a UTF-8 file.

    Args:
        path: The file.
        error: What to raise where it cannot be read, is larger, or is no UTF-8 in some line.
        most: In bytes.
    """
    return decode(read_bytes(path, error, most=most), str(path), error)


def decode(content: bytes, where: str, error: type[LaconicError], *, line: int = 1) -> str:
    """UTF-8 as text.

    Args:
        content: The text's bytes.
        where: The file, for the error.
        error: What to raise where they are something else, naming the line.
        line: The number of the first line.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as reason:
        number = line + content.count(b"\n", 0, reason.start)
        raise error(f"{where}, line {number} cannot be read: it is not UTF-8 text.") from None


def lines(path: Path, error: type[LaconicError]) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, gzipped or not, with their numbers.

    Args:
        path: The file.
        error: What to raise where it cannot be read, is damaged, or unpacks to too much.
    """
    total = number = 0
    with explained(path, error), opened(path, error) as stream:
        while content := stream.readline(MOST_LINE + 1):
            number, total = number + 1, total + len(content)
            if len(content) > MOST_LINE or total > MOST_BYTES or number > MOST_LINES:
                raise error(too_much(path, f"line {number}"))
            if content.strip():
                yield number, content


def opened(path: Path, error: type[LaconicError]) -> IO[bytes]:
    """A regular file opened to be read, unpacked where it is gzipped."""
    stream = open_binary(path, error)
    try:
        packed = stream.read(2) == GZIP
        stream.seek(0)
    except OSError:
        stream.close()
        raise
    if not packed:
        return stream
    stream.close()
    return cast("IO[bytes]", gzip.open(path, "rb"))


@contextmanager
def explained(path: Path, error: type[LaconicError]) -> Iterator[None]:
    """Turn what reading a file raises into one sentence."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as reason:
        raise error(f"{path} cannot be read: {_words(reason)}.") from reason


def parse_json(text: str, where: str, error: type[LaconicError]) -> Any:
    """The JSON value in a text; `refuse_halves` tells whether its strings can be written.

    Args:
        text: The text.
        where: The file, or the file and line, for the error.
        error: What to raise for anything else.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as reason:
        raise error(f"{where} is not JSON ({reason}).") from None


def refuse_halves(text: str, where: str, error: type[LaconicError]) -> None:
    """Refuse JSON that escapes one half of a surrogate pair: no file can hold such a string.

    Args:
        text: The text.
        where: The file; the line is named where there are several.
        error: What to raise.
    """
    place = half_character(text)
    if place is None:
        return
    several = "\n" in text.strip()
    line = f", line {1 + text.count(chr(10), 0, place)}" if several else ""
    raise error(
        f"{where}{line} holds half a character ({text[place : place + 6]}), which no text can be "
        "written with. Write the whole character, or leave it out."
    )


def half_character(text: str) -> int | None:
    """Where a JSON text escapes one half of a surrogate pair without the other; None if nowhere."""
    if not _HALF.search(text):
        return None
    for found in _ESCAPE.finditer(text):
        if found[1] and 0xD800 <= int(found[1], 16) <= 0xDFFF:
            return found.start()
    return None


def too_much(path: Path, where: str) -> str:
    """What is said of a file that is too large, or unpacks to too much."""
    return (
        f"{path}: {where} unpacks to more text than a file may hold ({size(MOST_BYTES)}, "
        f"{MOST_LINES:,} lines of {size(MOST_LINE)}, one JSON value of {size(MOST_TEXT)}). "
        "Split the file."
    )


def size(count: int) -> str:
    """A number of bytes in words."""
    return f"{count / 2**30:.0f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _words(reason: BaseException) -> str:
    return getattr(reason, "strerror", None) or str(reason)
