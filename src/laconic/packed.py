"""Files of lines that are appended to, plain or gzipped, and that a crash cannot spoil.

A gzipped one is a row of whole gzip members, one for each piece appended: any tool unpacks it.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Final

from laconic.errors import RunError
from laconic.textfile import regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK: Final = 2**20
#: The most bytes that a file may unpack to.
MOST_BYTES: Final = 2**34
GZIP: Final = b"\x1f\x8b"
#: The window bits that make zlib read a gzip member.
_GZIP_BITS: Final = 31


def is_packed(path: Path) -> bool:
    """Whether a file is, or by its name shall be, gzipped."""
    return path.suffix == ".gz"


def pack(lines: str, path: Path) -> bytes:
    """Lines as they are appended to a file: a gzip member of their own where it is gzipped."""
    content = lines.encode("utf-8")
    return gzip.compress(content, compresslevel=6, mtime=0) if is_packed(path) else content


def read_lines(path: Path) -> list[bytes]:
    """The whole lines of a file; what a crash left half-written at its end is left out.

    Raises:
        RunError: For a gzipped file that is damaged elsewhere, or unpacks to too much.
        OSError: Where it cannot be read.
    """
    if not is_packed(path):
        return regular(path).read_bytes().split(b"\n")[:-1]
    pieces: list[bytes] = []
    total = 0
    for content, _ in _members(path):
        total += len(content)
        if total > MOST_BYTES:
            raise RunError(f"{path} unpacks to more than {MOST_BYTES / 2**30:.0f} GiB.")
        pieces.append(content)
    return b"".join(pieces).split(b"\n")[:-1]


def sound_bytes(path: Path) -> int:
    """How many bytes from the beginning are whole: all, unless a crash broke the end off.

    Raises:
        RunError: For a gzipped file that is damaged elsewhere.
        OSError: Where it cannot be read.
    """
    if not is_packed(path):
        return regular(path).read_bytes().rfind(b"\n") + 1
    return max((end for _, end in _members(path)), default=0)


def _members(path: Path) -> Iterator[tuple[bytes, int]]:
    """What each whole gzip member holds, and where it ends."""
    end = 0
    held: list[bytes] = []
    size = 0
    unpack = zlib.decompressobj(_GZIP_BITS)
    with regular(path).open("rb") as stream:
        while data := stream.read(CHUNK):
            while data:
                try:
                    piece = unpack.decompress(data, CHUNK * 64)
                except zlib.error as error:
                    raise RunError(f"{path} is damaged ({error}).") from None
                held.append(piece)
                size += len(piece)
                if size > MOST_BYTES:
                    raise RunError(f"{path} unpacks to more than {MOST_BYTES / 2**30:.0f} GiB.")
                if unpack.eof:
                    end = stream.tell() - len(unpack.unused_data)
                    yield b"".join(held), end
                    data, held, size = unpack.unused_data, [], 0
                    unpack = zlib.decompressobj(_GZIP_BITS)
                else:
                    data = unpack.unconsumed_tail
