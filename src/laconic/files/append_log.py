"""Files of lines that are appended to, plain or gzipped, and that a crash cannot spoil.

A gzipped one is a row of whole gzip members, one for each piece appended: any tool unpacks it.
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
#: The most bytes that a file may unpack to.
MOST_BYTES: Final = 2**34
GZIP: Final = b"\x1f\x8b"
#: What to do where results are damaged.
REPAIR: Final = (
    "Run the command that made them again, with the same options and output folder: the whole "
    "results are kept, and only the damaged ones are asked again."
)
#: How the members begin that are written here: deflate, without a name or a time.
_BEGIN: Final = GZIP + b"\x08\x00\x00\x00\x00\x00"
#: The window bits that make zlib read a gzip member.
_GZIP_BITS: Final = 31


def is_gzipped(path: Path) -> bool:
    """Whether a file is, or by its name shall be, gzipped."""
    return path.suffix == ".gz"


def encode_lines(lines: str, path: Path) -> bytes:
    """Lines as they are appended to a file: a gzip member of their own where it is gzipped."""
    content = lines.encode("utf-8")
    return gzip.compress(content, compresslevel=6, mtime=0) if is_gzipped(path) else content


@dataclass(frozen=True)
class SalvagedLines:
    """What is left of a file after a crash.

    Attributes:
        lines: The whole lines; a gzip member that is damaged has none.
        end: Where the last whole line or member ends, in bytes; a crash cut what follows.
        fault: What is damaged before that, in one sentence; else empty.
    """

    lines: list[bytes]
    end: int
    fault: str


def read_lines(path: Path) -> list[bytes]:
    """The whole lines of a file; what a crash left half-written at its end is left out.

    Raises:
        RunError: For a gzipped file that is damaged elsewhere, or unpacks to too much.
        OSError: Where it cannot be read.
    """
    found = salvage(path)
    if found.fault:
        raise RunError(f"{found.fault} {REPAIR}")
    return found.lines


def salvage(path: Path) -> SalvagedLines:
    """What can be read of a file, damaged or not.

    Raises:
        RunError: For a gzipped file that unpacks to too much.
        OSError: Where it cannot be read.
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
