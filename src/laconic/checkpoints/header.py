"""Weight files: what their headers say of the tensors in them, before a tensor is read."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from laconic.errors import CheckpointError
from laconic.files.json import read_json
from laconic.files.text import regular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
#: As much of a weight file is read at once to find its header; nearly all headers are shorter.
HEAD_BYTES: Final = 100_000
Stamp = tuple[int, int, int]
#: Arrays have fewer elements than this, and as many dimensions at most.
LARGEST: Final = 1 << 59
DIMENSIONS: Final = 32
#: The bytes of one element, by the name that safetensors headers use.
WIDTH: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "U16": 2, "I16": 2,
    "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
#: The numpy type of each; numpy has no bfloat16 and no 8-bit floats, their bits come instead.
NUMPY: Final = {
    "BOOL": "bool", "U8": "u1", "I8": "i1", "F8_E5M2": "u1", "F8_E4M3": "u1", "F8_E8M0": "u1",
    "U16": "u2", "I16": "i2", "F16": "f2", "BF16": "u2", "U32": "u4", "I32": "i4", "F32": "f4",
    "U64": "u8", "I64": "i8", "F64": "f8",
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
        stored_as: Its name in the file written, where that is another.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    stored_as: str | None = field(default=None, repr=False, compare=False)

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
        stamp: Size, time of change (ns) and inode of the file when it was opened; None for a file
            that is not on this machine.
    """

    specs: dict[str, TensorSpec]
    starts: dict[str, int]
    size: int
    digest: str
    stamp: Stamp | None = field(default=None, compare=False)

    def check(self, path: Path) -> None:
        """Refuse a file that is no longer the one that was opened.

        Raises:
            CheckpointError: Where it has changed or is gone.
        """
        if self.stamp is not None and (not path.exists() or _stamp(path) != self.stamp):
            raise CheckpointError(
                f"{path} was changed or removed while it was being read. Start again when it is "
                "whole and nothing writes to it."
            )


def open_header(path: Path) -> Header:
    """The header of a safetensors file on this machine.

    Raises:
        CheckpointError: For a file that is damaged or cannot be read.
    """
    try:
        stamp = _stamp(path)
        header = read_header(lambda count: head_of(path, count), str(path))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    return replace(header, stamp=stamp)


def encode_header(specs: Iterable[TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """The header of a safetensors file, its length in front; the tensors' bytes follow it.

    Args:
        specs: The tensors, in the order of the file.
        metadata: Texts to store with them, by name.
    """
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for spec in specs:
        end = start + spec.nbytes
        entries[spec.stored_as or spec.name] = {
            "dtype": spec.dtype,
            "shape": spec.shape,
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format asks for data at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text


def samples_of(path: Path) -> Iterator[bytes]:
    """Name, size and 64 pieces of a file, spread over it: enough to tell edits, at little cost."""
    size = path.stat().st_size
    yield f"{path.name} {size}".encode()
    with path.open("rb") as stream:
        for step in range(64):
            stream.seek(step * size // 64)
            yield stream.read(16_384)


def _stamp(path: Path) -> Stamp:
    known = path.stat()
    return known.st_size, known.st_mtime_ns, known.st_ino


def head_of(path: Path, count: int) -> tuple[bytes, int]:
    """The first bytes of a file, and its size."""
    with regular(path).open("rb") as stream:
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
        entries = _entries(text)
        places = {name: _span(entry["data_offsets"]) for name, entry in entries.items()}
        specs = {
            name: TensorSpec(name, _type(entry["dtype"]), _shape(entry["shape"]))
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{where} is damaged: its header is broken ({error}).") from error
    needed = 8 + length + max((last for _, last in places.values()), default=0)
    if needed != size:
        raise CheckpointError(
            f"{where} is damaged: it has {size} bytes, its header needs {needed}. Fetch it again."
        )
    for spec in specs.values():
        if spec.dtype not in WIDTH:
            raise CheckpointError(
                f"'{spec.name}' in {where} has type {spec.dtype}, which cannot be read. Save the "
                f"checkpoint in one of {', '.join(FLOATS.values())} first."
            )
    _check_places(specs, places, where)
    starts = {name: 8 + length + first for name, (first, _) in places.items()}
    return Header(specs, starts, size, hashlib.sha256(text).hexdigest()[:16])


def weight_files(folder: Path, names: set[str], name: str) -> dict[Path, set[str]]:
    """Each weight file of a folder with the tensors that the index says it holds.

    Args:
        folder: The checkpoint.
        names: The files that are in it or can be fetched into it.
        name: How the user named it.
    """
    single, index = folder / SINGLE, folder / INDEX
    if {SINGLE, INDEX} <= names:
        raise CheckpointError(
            f"{name} holds both {SINGLE} and {INDEX}: two saves lie over each other. "
            "Delete the older one."
        )
    if SINGLE in names:
        return {single: set()}
    if INDEX not in names:
        other = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth")))
        if other:
            raise CheckpointError(
                f"{name} has its weights as {other[0]} only, a format that can run code when "
                'read. If you trust it, write it once as safetensors: python -c "from transformers '
                "import AutoModelForCausalLM as M; "
                f"M.from_pretrained('{name}').save_pretrained('safetensors')\""
            )
        raise CheckpointError(f"{name} holds no weights: neither {SINGLE} nor {INDEX}.")
    claimed: dict[Path, set[str]] = {}
    homes = read_json(index, CheckpointError).get("weight_map")
    if not isinstance(homes, dict) or not homes:
        raise CheckpointError(f"{index} is damaged: it has no weight_map.")
    for tensor, file in homes.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointError(f"{index} is damaged: '{tensor}' is in {file!r}.")
        claimed.setdefault(folder / file, set()).add(tensor)
    for path in claimed:
        if path.name not in names:
            raise CheckpointError(
                f"{path.name}, which {INDEX} names, is missing from {folder}. Fetch it."
            )
    return claimed


def _entries(text: bytes) -> dict[str, Any]:
    """A header's entries by tensor.

    Raises:
        ValueError: Where it is no JSON object of distinct names.
        RecursionError: Where it is nested without end.
    """
    header = json.loads(text.decode("utf-8"), object_pairs_hook=_distinct)
    if not isinstance(header, dict):
        raise ValueError("it is no JSON object")
    header.pop("__metadata__", None)
    if not all(name.isprintable() for name in header):
        raise ValueError("a tensor's name cannot be shown")
    return header


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) < len(pairs):
        raise ValueError("it says one thing twice")
    return held


def _span(value: object) -> tuple[int, int]:
    """Where a tensor begins and ends in the data, in bytes."""
    if not _whole(value) or len(value) != 2 or value[0] > value[1]:
        raise ValueError("its data_offsets are no places in the file")
    return value[0], value[1]


def _type(value: object) -> str:
    """The name of a type, known or not."""
    if not isinstance(value, str) or not re.fullmatch(r"\w{1,16}", value):
        raise ValueError("its dtypes are no names of types")
    return value


def _shape(value: object) -> tuple[int, ...]:
    """A tensor's shape, such that arrays can have it."""
    if not _whole(value) or len(value) > DIMENSIONS:
        raise ValueError("its shapes are no lists of sizes")
    if math.prod(max(1, size) for size in value) >= LARGEST:
        raise ValueError("its shapes are larger than any memory")
    return tuple(value)


def _whole(value: object) -> TypeGuard[list[int]]:
    """Whether a value is a list of sizes."""
    return isinstance(value, list) and all(type(v) is int and 0 <= v < LARGEST for v in value)


def _check_places(
    specs: Mapping[str, TensorSpec], places: Mapping[str, tuple[int, int]], where: str
) -> None:
    """Refuse tensors that are not one after the other, each of the size that its shape needs."""
    due = 0
    for name in sorted(places, key=lambda name: places[name]):
        (first, last), spec = places[name], specs[name]
        if last - first != spec.nbytes:
            raise CheckpointError(
                f"{where} is damaged: '{name}' has {last - first} bytes, its shape needs "
                f"{spec.nbytes}. Fetch it again."
            )
        if first != due:
            raise CheckpointError(
                f"{where} is damaged: '{name}' begins at byte {first} of the tensors and not at "
                f"{due}, where the one before it ends. Fetch it again."
            )
        due = last
