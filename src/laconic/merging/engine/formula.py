"""A merge's chain for one tensor as its formulas say it, in torch, on the CPU or a GPU."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from laconic.checkpoints.header import FLOATS
from laconic.merging.engine.members import PassResults
from laconic.methods.contract.group import TensorGroup
from laconic.methods.contract.kernels.codes import CHUNK
from laconic.methods.contract.kernels.compiling import BINS
from laconic.methods.contract.kernels.summing import products

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from laconic.merging.engine.members import Array, Members
    from laconic.merging.engine.thresholds import CountRequest
    from laconic.merging.plan import Plan


class Formula:
    """Computes blocks of one tensor with the plug-ins themselves.

    Args:
        plan: Any plan.
        members: The tensor.
        dtype: The type stored, as safetensors writes it.
        device: Where the arithmetic runs: ``cpu`` or a CUDA device.
        whole: Whether a block is always the whole tensor, in its shape.
        rows: Whether a block is always some whole rows; else blocks are flat.
        streams: Holds what a GPU's work is queued in: one stream a thread, so that the transfers of
            one block overlap the arithmetic of another.
    """

    def __init__(
        self,
        plan: Plan,
        members: Members,
        dtype: str,
        *,
        device: str,
        whole: bool,
        rows: bool,
        streams: threading.local,
    ) -> None:
        self.plan = plan
        self.members = members
        self.dtype = dtype
        self.results = PassResults()
        self.sound = True
        self.device = torch.device(device)
        self.streams = streams
        self.chunk = members.row * max(1, CHUNK // members.row) if rows else CHUNK
        self.shape = members.shape if whole else (-1, members.row) if rows else (-1,)

    def count(self, blocks: Sequence[tuple[int, int]], done: int, request: CountRequest) -> Array:
        """The counts of some blocks after the first transforms; every entry is counted."""
        width = request.width + 2 if request.bins else BINS
        total: Array | None = None
        for start, stop in blocks:
            with self._queued():
                ranked = self._ranked(start, stop, done)
                if request.model is not None:
                    ranked = ranked[request.model][None]
                total = np.zeros((len(ranked), width), np.int64) if total is None else total
                for i, values in enumerate(ranked):
                    places = values.abs().flatten().view(torch.int32)
                    if request.bins:
                        places = places - (request.bins[i] << 16)
                        places[places >= request.width] = request.width + 1
                        places[places < 0] = request.width
                    else:
                        places = places >> 16
                    total[i] += _array(torch.bincount(places, minlength=width))
        assert total is not None, "only tensors with entries are counted"
        return total

    def places(self, start: int, stop: int, done: int, i: int, value: float) -> Array:
        """Where in a block entries of one magnitude are: their numbers, in order."""
        with self._queued():
            ranked = self._ranked(start, stop, done)[i].flatten()
            return start + _array((ranked.abs() == value).nonzero().flatten())

    def sums(self, start: int, stop: int, number: int, params: Mapping[str, Any]) -> Array:
        """The sums over a block's chunks that a step asks for, ``[sum, chunk]``."""
        with self._queued():
            group = self._with_results(self._group(start, stop, number), number)
            sums = self.plan.steps[number].traits.sums
            assert sums is not None
            parts: Array = sums.parts(group, **params)
            return parts

    def merge(self, start: int, stop: int) -> tuple[Array, bool]:
        """The finished block in the stored type, and whether it and its inputs are finite."""
        with self._queued():
            stored = self._merged(start, stop).to(getattr(torch, FLOATS[self.dtype])).contiguous()
            finite = self.sound and bool(torch.isfinite(stored).all())
            return _array(_bits(stored.flatten())), finite

    def fits_float32(self, start: int, stop: int) -> bool:
        """Whether a block is finite before it is rounded to the stored type."""
        with self._queued():
            return bool(torch.isfinite(self._merged(start, stop)).all())

    def squares(self, start: int, stop: int, done: int) -> Array:
        """The squared norms of what a block's chunks have moved after the first adjustments."""
        with self._queued():
            moved = (self._merged(start, stop, done) - self._read(0, start, stop)).flatten()
            chunks = map(_array, torch.split(moved, self.chunk))
            return np.array([products(chunk, chunk)[0] for chunk in chunks])

    def _merged(self, start: int, stop: int, done: int | None = None) -> Tensor:
        """A block after the method and the first adjustments; None for all of them."""
        number, method = len(self.plan.before), self.plan.method
        group = self._with_results(self._group(start, stop, number), number)
        merged: Tensor = method.plugin.function(group, **method.params_for(self.members.name))
        for number, step in enumerate(self.plan.after[:done]):
            norms = self.results.norms.get(number, {})
            group = replace(group, stats=step.stats, norms=norms)
            merged = step.plugin.function(group, merged, **step.params_for(self.members.name))
        return merged

    def _group(self, start: int, stop: int, done: int) -> TensorGroup:
        """A block of all checkpoints after the first transforms."""
        values = [self._read(j, start, stop) for j in range(len(self.members.arrays))]
        self.sound = self.sound and all(bool(torch.isfinite(value).all()) for value in values)
        based, recipe = self.members.based, self.plan.recipe
        base = values[0] if based else torch.zeros_like(values[0])
        group = TensorGroup(
            name=self.members.name,
            base=base,
            vectors=torch.stack([value - base for value in values[1 if based else 0 :]]),
            weights=self.plan.weights_for(self.members.name),
            seed=recipe.seed,
            layer=self.members.layer,
            role=self.members.role,
            layers=self.plan.system2.layers,
            has_base=based,
            offset=start,
            size=self.members.size,
            chunk=self.chunk,
        )
        for number, step in enumerate(self.plan.before[:done]):
            group = self._with_results(group, number)
            group = step.plugin.function(group, **step.params_for(self.members.name))
        return group

    def _ranked(self, start: int, stop: int, number: int) -> Tensor:
        """What a step's trims rank in a block, ``[rank, *shape]``."""
        group, step = self._group(start, stop, number), self.plan.steps[number]
        ranks = step.traits.ranks
        values: Tensor = ranks(group) if ranks else group.vectors
        return values

    def _with_results(self, group: TensorGroup, number: int) -> TensorGroup:
        """A group as a step is given it, with what was found for the step."""
        results = self.results
        limits, sums = results.limits.get(number, {}), results.sums.get(number)
        return replace(group, limits=limits, sums=sums, stats=self.plan.steps[number].stats)

    def _read(self, j: int, start: int, stop: int) -> Tensor:
        """A block of checkpoint `j` in float32 on the device, by way of pinned memory."""
        dtype = getattr(torch, FLOATS[self.members.dtypes[j]])
        pinned = self.device.type == "cuda"
        block = torch.empty(stop - start, dtype=dtype, pin_memory=pinned)
        raw = self.members.stored(j, start, stop)
        _bits(block).numpy()[:] = raw.view(np.uint8 if raw.dtype.itemsize == 4 else np.uint16)
        return block.to(self.device, non_blocking=True).float().view(self.shape)

    @contextmanager
    def _queued(self) -> Iterator[None]:
        """Work in this thread's own stream of the device, without gradients."""
        with torch.inference_mode():
            if self.device.type != "cuda":
                yield
                return
            if not hasattr(self.streams, "own"):
                self.streams.own = torch.cuda.Stream(  # type: ignore[no-untyped-call]  # torch's
                    self.device
                )
            with torch.cuda.stream(self.streams.own):
                yield


def _bits(values: Tensor) -> Tensor:
    """The bytes or 16-bit patterns of a tensor, of which numpy knows the type."""
    return values.view(torch.uint8 if values.element_size() == 4 else torch.uint16)


def _array(values: Tensor) -> Array:
    """A tensor's values on the CPU, by way of pinned memory where they come from a GPU."""
    if values.device.type == "cuda":
        pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        pinned.copy_(values, non_blocking=True)
        torch.cuda.current_stream(values.device).synchronize()
        values = pinned
    array: Array = values.numpy()
    return array
