"""Tensors that are computed instead of read: float32 and back, in blocks of rows, kept on disk.

A computed tensor may be larger than memory should be, so it is written to a nameless temporary
file and mapped from there: the operating system may drop its pages, and nothing is left behind.
"""

from __future__ import annotations

import math
import mmap
import tempfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from laconic.checkpoints.header import NUMPY, TensorSpec
from laconic.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

#: Elements of a block: 16 MB in float32. A constant, so that nothing about a run changes a bit.
BLOCK: Final = 1 << 22


def row_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis that cut a tensor into blocks of about `BLOCK` elements."""
    step = max(1, BLOCK // max(1, math.prod(shape[1:])))
    return (slice(i, min(i + step, shape[0])) for i in range(0, shape[0], step))


def float32(stored: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """Stored values in float32.

    Args:
        stored: As `Checkpoint.stored` gives them.
        dtype: Their type, as safetensors headers write it: BF16, F16 or F32.
    """
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def rounded(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """Float32 values as a type stores them, rounded to nearest, ties to even."""
    if dtype != "BF16":
        with np.errstate(over="ignore"):  # an infinity is found, and named, where it is merged
            return values.astype(NUMPY[dtype])
    bits = np.ascontiguousarray(values).view(np.uint32)
    up = ((bits >> 16) & 1) + np.uint32(0x7FFF)
    return np.where(np.isnan(values), 0x7FC0, (bits + up) >> 16).astype(np.uint16)


def spool(spec: TensorSpec, blocks: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """A tensor from its blocks of rows, in order, held by a temporary file instead of memory.

    Raises:
        CheckpointError: Where the temporary folder cannot hold it.
    """
    if not spec.nbytes:
        return np.empty(spec.shape, NUMPY[spec.dtype])
    try:
        with tempfile.TemporaryFile() as file:
            for block in blocks:
                file.write(np.ascontiguousarray(block).data)
            file.flush()
            held = mmap.mmap(file.fileno(), spec.nbytes, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise CheckpointError(
            f"'{spec.name}' needs {spec.nbytes} bytes in {tempfile.gettempdir()}, which cannot be "
            f"written: {error.strerror}. Free some, or set TMPDIR to a folder with room."
        ) from error
    return np.frombuffer(held, NUMPY[spec.dtype]).reshape(spec.shape)
