"""Files to which lines are appended, plain or gzipped; a crash loses at most the last lines.

A gzipped file is a sequence of complete gzip members, one for each append: any tool can read it.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from laconic.errors import RunError
from laconic.files.text import regular

if TYPE_CHECKING:
    from pathlib import Path

CHUNK: Final = 2**16
#: A gzipped file may unpack to at most this many bytes.
MOST_BYTES: Final = 2**34
GZIP: Final = b"\x1f\x8b"
#: The advice for damaged results.
REPAIR: Final = (
    "Run the command that made them again, with the same options and output folder: intact "
    "results are kept, and only the damaged ones are generated again."
)
#: How the members begin that are written here: deflate, without a name or a time.
_BEGIN: Final = GZIP + b"\x08\x00\x00\x00\x00\x00"
#: The window bits that make zlib read a gzip member.
_GZIP_BITS: Final = 31


def is_gzipped(path: Path) -> bool:
    """Whether a file is gzipped, by its name."""
    return path.suffix == ".gz"


def encode_lines(lines: str, path: Path) -> bytes:
    """The bytes to append to a file: a gzip member if the file is gzipped, else UTF-8 text."""
    content = lines.encode("utf-8")
    return gzip.compress(content, compresslevel=6, mtime=0) if is_gzipped(path) else content


@dataclass(frozen=True)
class SalvagedLines:
    """The readable part of a file after a crash.

    Attributes:
        lines: The complete lines; a damaged gzip member has none.
        end: The end of the last complete line or member, in bytes; a crash cut what follows.
        fault: A sentence on damage before `end`; empty if there is none.
    """

    lines: list[bytes]
    end: int
    fault: str


def read_lines(path: Path) -> list[bytes]:
    """The complete lines of a file; a line that a crash cut at its end is left out.

    Raises:
        RunError: If a gzipped file is damaged elsewhere, or unpacks to too many bytes.
        OSError: If it cannot be read.
    """
    found = salvage(path)
    if found.fault:
        raise RunError(f"{found.fault} {REPAIR}")
    return found.lines


def salvage(path: Path) -> SalvagedLines:
    """Read all lines of a file that can be read, even if the file is damaged.

    Raises:
        RunError: If a gzipped file unpacks to too many bytes.
        OSError: If it cannot be read.
    """
    content = regular(path).read_bytes()
    if not is_gzipped(path):
        return SalvagedLines(content.split(b"\n")[:-1], content.rfind(b"\n") + 1, "")
    pieces: list[bytes] = []
    fault, size, at, whole = "", 0, 0, 0
    while 0 <= at < len(content):
        try:
            piece, end = _member(content, at, MOST_BYTES - size)
        except zlib.error as error:
            fault = fault or f"{path} is damaged ({error})."
            at = content.find(_BEGIN, at + 1)
            continue
        except _TooMuchError:
            raise RunError(f"{path} unpacks to more than {MOST_BYTES / 2**30:.0f} GiB.") from None
        if not end:
            break
        pieces.append(piece)
        size += len(piece)
        at = whole = end
    return SalvagedLines(b"".join(pieces).split(b"\n")[:-1], whole, fault)


class _TooMuchError(Exception):
    """A member that unpacks to more than is allowed."""


def _member(held: bytes, begin: int, most: int) -> tuple[bytes, int]:
    """What the gzip member that begins there holds, and where it ends; 0 where it is cut."""
    unpack = zlib.decompressobj(_GZIP_BITS)
    pieces: list[bytes] = []
    size = 0
    for at in range(begin, len(held), CHUNK):
        data = chunk = held[at : at + CHUNK]
        while data:
            pieces.append(unpack.decompress(data, CHUNK * 64))
            size += len(pieces[-1])
            if size > most:
                raise _TooMuchError
            if unpack.eof:
                return b"".join(pieces), at + len(chunk) - len(unpack.unused_data)
            data = unpack.unconsumed_tail
    return b"", 0
