"""The members of a zip archive that a stranger may have made: read within bounds, zstandard too."""

from __future__ import annotations

import struct
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from laconic.errors import RunError
from laconic.files.text import regular
from laconic.importing.files import MOST_BYTES, explained, optional, too_much

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC: Final = b"PK\x03\x04"
#: The number of zstandard among a zip archive's methods, which zipfile does not know.
ZSTANDARD: Final = 93
#: A member may unpack to so many bytes.
MOST_MEMBER: Final = 2**27
#: Bytes that its packer may look back over.
WINDOW: Final = 2**27
#: The fixed part of a member's own header, and where in it the lengths of name and extra stand.
_HEADER: Final = 30
_LENGTHS: Final = struct.Struct("<HH")
_LENGTHS_AT: Final = 26


class Archive:
    """An open zip archive.

    Args:
        path: The file.

    Raises:
        RunError: Where it is no whole archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._left = MOST_BYTES
        with _readable(path):
            self._file = regular(path).open("rb")
            self._size = path.stat().st_size
            try:
                self._zip = zipfile.ZipFile(self._file)
            except BaseException:
                self._file.close()
                raise
        self._members = {info.filename: info for info in self._zip.infolist()}

    def names(self) -> list[str]:
        """The members, in the order of the archive."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """What a member unpacks to.

        Raises:
            RunError: Where it is damaged, encrypted, too large, or packed by an unknown method.
        """
        info, most = self._members[name], min(MOST_MEMBER, self._left)
        with _readable(self.path):
            if info.compress_type == ZSTANDARD:
                content = self._read_zstandard(info, most)
            else:
                with self._zip.open(info) as stream:
                    content = stream.read(most + 1)
        if len(content) > most:
            raise too_much(self.path, name)
        self._left -= len(content)
        return content

    def close(self) -> None:
        """Close the file."""
        self._zip.close()
        self._file.close()

    def _read_zstandard(self, info: zipfile.ZipInfo, most: int) -> bytes:
        """A zstandard member, one byte more than `most` at most, checked against its checksum."""
        zstandard = optional("zstandard", self.path)
        self._file.seek(info.header_offset)
        header = self._file.read(_HEADER)
        if len(header) < _HEADER or not header.startswith(MAGIC):
            raise zipfile.BadZipFile(f"{info.filename} has no header")
        self._file.seek(sum(_LENGTHS.unpack_from(header, _LENGTHS_AT)), 1)
        packed = self._file.read(min(info.compress_size, self._size))
        unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        try:
            content: bytes = unpacker.stream_reader(packed, read_across_frames=True).read(most + 1)
        except zstandard.ZstdError as error:
            raise zipfile.BadZipFile(f"{info.filename}: {error}") from error
        if len(content) <= most and zlib.crc32(content) != info.CRC:
            raise zipfile.BadZipFile(f"{info.filename} has another checksum")
        return content


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into one sentence."""
    try:
        with explained(path):
            yield
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
        raise RunError(f"{path} is a damaged or unusual archive ({error}).") from error
