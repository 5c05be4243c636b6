"""The cost of a calibration, estimated before it starts: memory, disk and time."""

from __future__ import annotations

import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from laconic.checkpoints.configs import setting
from laconic.checkpoints.resources import START_BYTES, human
from laconic.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from laconic.calibration.model import Skeleton
    from laconic.calibration.record import Kind

#: Memory for torch and transformers, in addition to what a merge needs at its start, in bytes.
LIBRARIES: Final = START_BYTES + 250_000_000
#: Values that a layer keeps of each token at once, in widths of the hidden state.
STATES: Final = 8
FLOAT_BYTES: Final = 4
TRIAL: Final = 512


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a calibration.

    Attributes:
        memory: The most memory in use at a time, on the device that computes, in bytes.
        disk: The most disk space in use, including the work folder, in bytes.
        seconds: The time on this machine.
    """

    memory: int
    disk: int
    seconds: float


def estimate(
    skeletons: Sequence[Skeleton],
    kind: Kind,
    lengths: Sequence[int],
    *,
    batch_tokens: int,
    whole: bool,
) -> Cost:
    """Estimate the cost of statistics.

    Args:
        skeletons: The models.
        kind: Which statistics.
        lengths: The number of tokens of each sample, ``[sample]``.
        batch_tokens: The most tokens of a batch.
        whole: For ``fisher``: whether one value for each element is kept.
    """
    skeleton = skeletons[0]
    sizes = {name: math.prod(shape) for name, shape in skeleton.shapes.items()}
    tokens, each = sum(lengths), skeleton.dtype.itemsize
    inner = int(setting(skeleton.checkpoint.config, "intermediate_size", 0) or 0)
    depth = skeleton.checkpoint.layout.depth
    layered = sum(
        size
        for name, size in sizes.items()
        if depth.of(skeleton.pieces[name][0].tensor) is not None
    )
    head = skeleton.rows * skeleton.width
    if kind in ("sensitivity", "fisher"):
        longest = max(lengths)
        kept = FLOAT_BYTES * sum(sizes.values()) if whole else 0
        states = skeleton.layers * longest * (2 * STATES * skeleton.width + 3 * inner) * each
        logits = 3 * FLOAT_BYTES * longest * skeleton.rows
        largest = max(sizes.values()) * (each + 2 * FLOAT_BYTES)
        memory = each * sum(sizes.values()) + kept + states + logits + largest
        return Cost(LIBRARIES + memory, 3 * kept, _seconds(6 * tokens * (layered + head), skeleton))
    grams = _grams(skeleton) if kind == "gram" else []
    stages = range(skeleton.layers + 2)
    flops = 2 * tokens * layered + 2 * tokens * sum(grams)
    memory = max(skeleton.part_bytes(stage) for stage in stages)
    if kind == "mutual_information":
        memory = max(memory, head * each)
        flops += 2 * tokens * head
    batch = max(batch_tokens, max(lengths))
    memory = memory * len(skeletons) + batch * each * (STATES * skeleton.width + 3 * inner)
    memory += 2 * FLOAT_BYTES * max(sum(grams) // max(1, skeleton.layers), max(grams, default=0))
    disk = 2 * len(skeletons) * tokens * skeleton.width * each + 2 * FLOAT_BYTES * sum(grams)
    return Cost(LIBRARIES + memory, disk, _seconds(len(skeletons) * flops, skeleton))


def check_cost(cost: Cost, output: Path, device: torch.device) -> None:
    """Refuse a calibration that needs more memory or disk than is free.

    Raises:
        CalibrationError: With both numbers, and what to do.
    """
    free = _free_memory(device)
    if free is not None and cost.memory > free:
        raise CalibrationError(
            f"This needs about {human(cost.memory)} of memory, and {device.type} has "
            f"{human(free)} free. Give --dtype bfloat16, a lower --max-tokens or --batch-tokens, "
            "--reduce tensor for fisher, or another --device."
        )
    place = output.absolute().parent
    while not place.is_dir():
        place = place.parent
    room = shutil.disk_usage(place).free
    if cost.disk > room:
        raise CalibrationError(
            f"This needs about {human(cost.disk)} of disk, and {place} has {human(room)} free. "
            "Free some, choose another output, or measure fewer samples."
        )


def _grams(skeleton: Skeleton) -> list[int]:
    """The elements of each Gram matrix: one matrix for each tensor that is a matrix on disk."""
    embedding = f"{skeleton.prefixes[skeleton.embedding]}.weight"
    shapes = [
        skeleton.checkpoint.specs[piece.tensor].shape
        for name in skeleton.shapes
        if name != embedding
        for piece in skeleton.pieces[name]
    ]
    return [shape[1] ** 2 for shape in shapes if len(shape) == 2]


def _free_memory(device: torch.device) -> int | None:
    """The free memory of a device, in bytes; None if the system does not say."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    try:
        memory = Path("/proc/meminfo").read_text(encoding="ascii")
        line = next(line for line in memory.splitlines() if line.startswith("MemAvailable"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _seconds(flops: float, skeleton: Skeleton) -> float:
    """The time for `flops` operations, at half the speed of one matrix product measured here."""
    import torch

    square = torch.ones(TRIAL, TRIAL, dtype=skeleton.dtype, device=skeleton.device)
    took = []
    for _ in range(4):
        start = time.perf_counter()
        float((square @ square)[0, 0])
        took.append(time.perf_counter() - start)
    return 2 * flops * min(took) / (2 * TRIAL**3)
