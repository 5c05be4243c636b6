"""Weight files: what their headers say of the tensors in them, before a tensor is read."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: As much of a weight file is read at once to find its header; nearly all headers are shorter.
HEAD_BYTES: Final = 100_000
#: The bytes of one element, by the name that safetensors headers use.
WIDTH: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "U16": 2, "I16": 2, "F16": 2,
    "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
#: The numpy type of each; numpy has no bfloat16 and no 8-bit floats, their bits come instead.
NUMPY: Final = {
    "BOOL": "bool", "U8": "u1", "I8": "i1", "F8_E5M2": "u1", "F8_E4M3": "u1", "U16": "u2",
    "I16": "i2", "F16": "f2", "BF16": "u2", "U32": "u4", "I32": "i4", "F32": "f4", "U64": "u8",
    "I64": "i8", "F64": "f8",
}  # fmt: skip
#: The types that can be merged, as recipes and configs write them.
FLOATS: Final = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's header: what is known of it before a byte of it is read.

    Attributes:
        name: Its name in the file.
        dtype: Its type, as safetensors headers write it, such as ``BF16``.
        shape: Its shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size on disk in bytes."""
        return WIDTH[self.dtype] * math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a weight file says of itself.

    Attributes:
        specs: Its tensors.
        starts: The byte of the file at which each tensor begins.
        size: Its size in bytes.
        digest: Of its header.
    """

    specs: dict[str, TensorSpec]
    starts: dict[str, int]
    size: int
    digest: str


def head_of(path: Path, count: int) -> tuple[bytes, int]:
    """The first bytes of a file, and its size."""
    with path.open("rb") as stream:
        return stream.read(count), path.stat().st_size


def read_header(head: Callable[[int], tuple[bytes, int]], where: str) -> Header:
    """The header of a safetensors file, checked against its size.

    Args:
        head: Gives as many first bytes as asked for, and the file's size in bytes.
        where: The file, for an error.

    Raises:
        CheckpointError: For a file that is damaged.
    """
    start, size = head(HEAD_BYTES)
    length = int.from_bytes(start[:8], "little")
    if not 2 <= length <= min(size - 8, 100_000_000):
        raise CheckpointError(f"{where} is damaged: it has no safetensors header.")
    if len(start) < 8 + length:
        start, size = head(8 + length)
    text = start[8 : 8 + length]
    try:
        header: Mapping[str, Any] = json.loads(text)
        specs = {
            name: TensorSpec(name, entry["dtype"], tuple(entry["shape"]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
        needed = 8 + length + max((header[n]["data_offsets"][1] for n in specs), default=0)
        starts = {name: 8 + length + header[name]["data_offsets"][0] for name in specs}
        unknown = [s for s in specs.values() if s.dtype not in WIDTH]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{where} is damaged: its header is broken ({error}).") from error
    if needed != size:
        raise CheckpointError(
            f"{where} is damaged: it has {size} bytes, its header needs {needed}. Fetch it again."
        )
    if unknown:
        raise CheckpointError(f"'{unknown[0].name}' in {where} has type {unknown[0].dtype}.")
    for spec in specs.values():
        first, last = header[spec.name]["data_offsets"]
        if last - first != spec.nbytes:
            raise CheckpointError(
                f"{where} is damaged: '{spec.name}' has {last - first} bytes, its shape needs "
                f"{spec.nbytes}. Fetch it again."
            )
    return Header(specs, starts, size, hashlib.sha256(text).hexdigest()[:16])
