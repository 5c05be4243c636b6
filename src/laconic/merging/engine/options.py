"""Where and how fast a merge is done."""

from __future__ import annotations

import os
from dataclasses import dataclass

from laconic.checkpoints.resources import BLOCK
from laconic.errors import RecipeError


@dataclass(frozen=True)
class ExecutionOptions:
    """Where and how fast a merge is done; none of it changes a byte.

    Attributes:
        device: ``cpu``, or a CUDA device such as ``cuda`` or ``cuda:1`` (docs/merge.md says
            what is known of how it rounds).
        threads: How many blocks are worked on at once; None for one a processor.
        block: The elements of a block.
        kernels: Whether chains that have a compiled kernel use it; the formulas give the same.
        ray: The Ray cluster whose workers share the work: ``auto``, ``local`` or
            ``host:port``; None for this process alone.
    """

    device: str = "cpu"
    threads: int | None = None
    block: int = BLOCK
    kernels: bool = True
    ray: str | None = None

    def __post_init__(self) -> None:
        if self.device != "cpu":
            _check_device(self.device)
        if self.ray is not None:
            from laconic.merging.engine.cluster import check_address

            check_address(self.ray, self.device)
        for key in ("threads", "block"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise RecipeError(f"{key} must be at least 1, got {value}.")

    @property
    def workers(self) -> int:
        """How many threads there are."""
        return self.threads or len(os.sched_getaffinity(0))


def _check_device(device: str) -> None:
    """Refuse a device that is not there."""
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind not in {"cpu", "cuda"}:
        raise RecipeError(f"device '{device}': write cpu, cuda or cuda:NUMBER.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise RecipeError(f"device '{device}': torch finds no CUDA device here. Use cpu.")
