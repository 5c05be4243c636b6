"""The cost of a merge: bytes to download, read and write, disk and memory."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from laconic.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.checkpoints.header import TensorSpec

#: The elements of the blocks in which a merge reads, computes and writes.
BLOCK: Final = 1 << 19
#: Allowed for Python and its libraries before the first tensor, in bytes.
START_BYTES: Final = 250_000_000
FLOAT_BYTES: Final = 4


@dataclass(frozen=True)
class MergeCost:
    """The cost of a merge in bytes.

    Attributes:
        download: Bytes to download from the Hub into its cache.
        read: Bytes of tensors that are read.
        written: Bytes of tensors that are written.
        memory: The most anonymous memory in use at a time, estimated. Pages of memory-mapped files
            are not counted, because the system frees them when it needs memory.
        disk_free: Free bytes on the output's disk; None if no output was named.
    """

    download: int
    read: int
    written: int
    memory: int
    disk_free: int | None = None


def merge_cost(
    members: Sequence[Checkpoint],
    fetched: Sequence[Checkpoint],
    specs: Sequence[TensorSpec],
    output: Path | None,
    *,
    whole: bool,
    copies: int = 0,
    stats: int = 0,
) -> MergeCost:
    """Add up the cost of a merge, and refuse a merge that does not fit on the disk.

    Args:
        members: The checkpoints that are merged.
        fetched: Every checkpoint whose weights are needed.
        specs: The tensors to write.
        output: The folder to create; None if it is not known.
        whole: Whether whole tensors are merged, one at a time; else blocks, one on each processor.
        copies: How many float32 tensors the steps need in addition to base, vectors and result.
        stats: The size of the calibration statistics in memory, in bytes.

    Raises:
        CheckpointError: If the output or the downloads do not fit on their disk.
    """
    missing = {path: size for model in fetched for path, size in model.missing.items()}
    elements = max((math.prod(spec.shape) for spec in specs), default=0)
    if not whole:
        elements = min(elements, BLOCK) * len(os.sched_getaffinity(0))
    download, written = sum(missing.values()), sum(spec.nbytes for spec in specs)
    cost = MergeCost(
        download=download,
        read=sum(spec.nbytes for model in members for spec in model.specs.values()),
        written=written,
        memory=START_BYTES + elements * FLOAT_BYTES * (2 * len(members) + 3 + copies) + stats,
        disk_free=None if output is None else shutil.disk_usage(_standing(output)).free,
    )
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    for path, size in missing.items():
        _add(needed, places, path.parent, size)
    if output is not None:
        _add(needed, places, output, max(0, written - _started(output)))
    for device, size in needed.items():
        free = shutil.disk_usage(places[device]).free
        if size > free:
            what = "the weights to fetch" if places[device] != _standing(output) else str(output)
            raise CheckpointError(
                f"The disk of {places[device]} has {human(free)} free, and {what} needs "
                f"{human(size)}. Free some, or choose another folder."
            )
    return cost


def human(size: int) -> str:
    """A number of bytes in a readable unit, such as ``3.1 GB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _add(needed: dict[int, int], places: dict[int, Path], path: Path, size: int) -> None:
    """Add bytes to those needed on the disk of a path."""
    place = _standing(path)
    device = place.stat().st_dev
    needed[device] = needed.get(device, 0) + size
    places[device] = place


def _standing(path: Path | None) -> Path:
    """The nearest folder of a path that exists."""
    place = (path or Path()).absolute()
    while not place.is_dir():
        place = place.parent
    return place


def _started(output: Path) -> int:
    """Bytes on disk of an earlier attempt that was stopped."""
    work = output.parent / f".{output.name}.partial"
    return sum(path.stat().st_blocks * 512 for path in work.glob("*")) if work.is_dir() else 0
