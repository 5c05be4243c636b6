"""Sums over the values of several checkpoints, from which all distances and cosines follow.

The sums are the inner products of the base and of the other checkpoints' differences from it. Norms
and cosines of checkpoints, and of task vectors from any of them, are computed from these. One pass
in blocks is enough. The sums are in float64, in which differences of stored values are exact.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from laconic.runtime import silent, using_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.inspection.shared import SharedTensor
    from laconic.runtime import Progress

#: Values of a block. The float64 copies of three checkpoints fit into the cache of a core.
BLOCK: Final = 1 << 16
#: Values that a worker processes at a time.
PIECE: Final = 1 << 22
#: More workers than this do not read faster.
WORKERS: Final = 8


@dataclass(frozen=True)
class DistanceSums:
    """Sums over some tensors of several checkpoints, of which the first is the base.

    Attributes:
        elements: The number of values of each checkpoint.
        gram: Inner products of the base and of the others' task vectors, [checkpoint, checkpoint].
        changed: The number of values that two models both change, [model, model].
        opposed: The number of values that they change in opposite directions, [model, model].
    """

    elements: int
    gram: NDArray[np.float64]
    changed: NDArray[np.int64]
    opposed: NDArray[np.int64]

    @classmethod
    def zero(cls, checkpoints: int, models: int) -> DistanceSums:
        """The sums over no tensor.

        Args:
            checkpoints: The number of checkpoints, including the base.
            models: The number of checkpoints after the base whose changes are counted.
        """
        counts = np.zeros((models, models), np.int64)
        return cls(0, np.zeros((checkpoints, checkpoints)), counts, counts.copy())

    def __add__(self, other: DistanceSums) -> DistanceSums:
        return DistanceSums(
            self.elements + other.elements,
            self.gram + other.gram,
            self.changed + other.changed,
            self.opposed + other.opposed,
        )

    def norm(self, i: int) -> float:
        """The norm of a checkpoint's values."""
        return math.sqrt(max(self._inner(i, i), 0.0))

    def distance(self, i: int, j: int = 0) -> float:
        """The norm of the difference of two checkpoints; with the base, that of a task vector."""
        return math.sqrt(max(self._between(i, i, j), 0.0))

    def relative(self, i: int, base: int = 0) -> float | None:
        """The distance of a checkpoint from `base`, divided by the norm of `base`; None for 0."""
        return _ratio(self.distance(i, base), self.norm(base))

    def alignment(self, i: int, j: int) -> float | None:
        """The cosine between the values of two checkpoints."""
        return _cosine(self._inner(i, j), self.norm(i) * self.norm(j))

    def cosine(self, i: int, j: int, base: int = 0) -> float | None:
        """The cosine between two task vectors; None where one is zero."""
        size = self.distance(i, base) * self.distance(j, base)
        return _cosine(self._between(i, j, base), size)

    def projection(self, i: int, onto: int) -> float | None:
        """How many times a task vector contains another one; about 1 if it continues that one."""
        return _ratio(self._between(i, onto, 0), self._between(onto, onto, 0))

    def unchanged(self, i: int) -> float | None:
        """The share of a model's values that equal the base's exactly."""
        return None if not self.elements else 1 - int(self.changed[i - 1, i - 1]) / self.elements

    def conflicts(self, i: int, j: int) -> float | None:
        """Of the values that two models both change, the share changed in opposite directions."""
        both = int(self.changed[i - 1, j - 1])
        return None if not both else int(self.opposed[i - 1, j - 1]) / both

    def _inner(self, i: int, j: int) -> float:
        """The inner product of two checkpoints' values."""
        a, b = self._coefficients(i), self._coefficients(j)
        return float(a @ self.gram @ b)

    def _between(self, i: int, j: int, base: int) -> float:
        """The inner product of two differences from a checkpoint."""
        start = self._coefficients(base)
        return float((self._coefficients(i) - start) @ self.gram @ (self._coefficients(j) - start))

    def _coefficients(self, i: int) -> NDArray[np.float64]:
        """A checkpoint as a sum of the base and task vectors."""
        coefficients = np.zeros(len(self.gram))
        coefficients[0] = coefficients[i] = 1.0
        return coefficients


@dataclass(frozen=True)
class NonFiniteValues:
    """The NaN and infinite values of a tensor.

    Attributes:
        checkpoint: The place of the checkpoint among those compared.
        tensor: The name under which the checkpoint stores the tensor.
        nan: The number of NaN values.
        infinite: The number of infinite values.
    """

    checkpoint: int
    tensor: str
    nan: int
    infinite: int


def total(sums: Iterable[DistanceSums], checkpoints: int, models: int) -> DistanceSums:
    """Add up the sums of several tensors."""
    whole = DistanceSums.zero(checkpoints, models)
    for part in sums:
        whole += part
    return whole


def measure(
    members: Sequence[Checkpoint],
    tensors: Sequence[SharedTensor],
    *,
    models: int,
    progress: Progress = silent,
) -> tuple[dict[str, DistanceSums], tuple[NonFiniteValues, ...]]:
    """Read every common tensor once and sum over it.

    Args:
        members: The checkpoints, the base first.
        tensors: The tensors that all of them have.
        models: The number of checkpoints after the base whose changed values are counted.
        progress: Called after each tensor.

    Returns:
        The sums of each tensor by name, and the NaN and infinite values. A tensor with such values
        has no sums.

    Raises:
        CheckpointError: Where weights cannot be fetched or read.
    """
    sums: dict[str, DistanceSums] = {}
    broken: list[NonFiniteValues] = []
    workers = min(os.cpu_count() or 1, WORKERS)
    with using_threads(1), ThreadPoolExecutor(workers) as pool:
        for done, tensor in enumerate(tensors, 1):
            values = [m.read(home) for m, home in zip(members, tensor.homes, strict=True)]
            parts = pool.map(lambda p: _piece(values, tensor, p, models), _pieces(tensor))  # noqa: B023  # drained below, before the next tensor
            tensor_sums = total(parts, len(members), models)
            if np.isfinite(tensor_sums.gram).all():
                sums[tensor.name] = tensor_sums
            else:
                broken += _broken(values, tensor)
            progress(done, len(tensors), tensor.name)
    return sums, tuple(broken)


def _row(tensor: SharedTensor) -> int:
    """The number of values that must stay together: a row if rows are matched, else 1."""
    return 1 if tensor.places is None else max(1, math.prod(tensor.shape[1:]))


def _pieces(tensor: SharedTensor) -> Iterator[slice]:
    """Slices of a flat tensor for the workers, of whole rows where rows are matched."""
    step = max(1, PIECE // _row(tensor)) * _row(tensor)
    return (
        slice(start, min(start + step, tensor.elements))
        for start in range(0, tensor.elements, step)
    )


def _blocks(tensor: SharedTensor, piece: slice) -> Iterator[slice]:
    step = max(1, BLOCK // _row(tensor)) * _row(tensor)
    return (
        slice(start, min(start + step, piece.stop))
        for start in range(piece.start, piece.stop, step)
    )


def _part(values: Tensor, tensor: SharedTensor, checkpoint: int, block: slice) -> Tensor:
    """A checkpoint's values of a block, flat."""
    if tensor.places is None:
        return values.reshape(-1)[block]
    width = _row(tensor)
    rows = tensor.places[checkpoint, block.start // width : block.stop // width]
    return values.index_select(0, torch.from_numpy(rows)).reshape(-1)


def _piece(
    values: Sequence[Tensor], tensor: SharedTensor, piece: slice, models: int
) -> DistanceSums:
    """The sums over a piece of a tensor."""
    counts = DistanceSums.zero(len(values), models)
    room = torch.empty(len(values), max(BLOCK, _row(tensor)), dtype=torch.float64)
    gram = torch.zeros(len(values), len(values), dtype=torch.float64)
    for block in _blocks(tensor, piece):
        rows = room[:, : block.stop - block.start]
        for i, source in enumerate(values):
            rows[i].copy_(_part(source, tensor, i, block))
            if i:
                rows[i] -= rows[0]
        gram += rows @ rows.T
        _count(rows.numpy()[1 : 1 + models], counts)
    return DistanceSums(piece.stop - piece.start, gram.numpy(), counts.changed, counts.opposed)


def _count(vectors: NDArray[np.float64], into: DistanceSums) -> None:
    """Count the values that task vectors change, and those changed in opposite directions.

    Args:
        vectors: The task vectors, [model, value].
        into: The counts so far, which are changed in place.
    """
    moves = vectors != 0
    falls = vectors < 0 if len(vectors) > 1 else moves
    for i in range(len(vectors)):
        into.changed[i, i] += np.count_nonzero(moves[i])
        for j in range(i):
            both = moves[i] & moves[j]
            into.changed[i, j] += np.count_nonzero(both)
            both &= falls[i] ^ falls[j]
            into.opposed[i, j] += np.count_nonzero(both)
            into.changed[j, i], into.opposed[j, i] = into.changed[i, j], into.opposed[i, j]


def _broken(values: Sequence[Tensor], tensor: SharedTensor) -> Iterator[NonFiniteValues]:
    """The checkpoints with NaN or infinite values in a tensor, and their numbers."""
    for i, source in enumerate(values):
        nan = infinite = 0
        for block in _blocks(tensor, slice(0, tensor.elements)):
            part = _part(source, tensor, i, block)
            nan += int(part.isnan().sum())
            infinite += int(part.isinf().sum())
        if nan or infinite:
            yield NonFiniteValues(i, tensor.homes[i], nan, infinite)


def _ratio(value: float, size: float) -> float | None:
    return value / size if size else None


def _cosine(value: float, size: float) -> float | None:
    """A cosine, limited to [-1, 1] because of rounding."""
    ratio = _ratio(value, size)
    return None if ratio is None else min(1.0, max(-1.0, ratio))
