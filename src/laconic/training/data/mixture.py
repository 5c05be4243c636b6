"""The mixture that rows are drawn from: pools, weights, and the schedule of the weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from laconic.errors import TrainError, did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What weights are shares of: rows, or trained tokens.
Unit = Literal["samples", "tokens"]
#: How far from 1 the sum of weights may be.
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class MixturePool:
    """The rows of the training set that belong to one pool.

    Attributes:
        name: Its name.
        rows: Their places in the training set, ``[row]``.
        lengths: Trained tokens of each, ``[row]``.
        contents: Digest of the rows' contents, written when they were packed; it is compared when a
            run resumes.
    """

    name: str
    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    contents: str = ""

    @cached_property
    def mean_length(self) -> float:
        """Trained tokens of a row, on average."""
        return float(self.lengths.mean())

    @cached_property
    def digest(self) -> str:
        """A digest of the rows' places, lengths and contents."""
        digest = hashlib.sha256(self.contents.encode())
        for values in (self.rows, self.lengths):
            digest.update(np.ascontiguousarray(values, "<i8").tobytes())
        return digest.hexdigest()[:16]


def split_pools(
    names: Sequence[str],
    owners: Sequence[int],
    lengths: Sequence[int],
    contents: Mapping[str, str] | None = None,
) -> tuple[MixturePool, ...]:
    """Split a data set into its pools, whose rows may be mixed.

    Args:
        names: The pools' names.
        owners: Of each row, the number of its pool in `names`, from 0.
        lengths: Of each row, how many tokens it trains on.
        contents: Digests of the pools' contents, by name.

    Raises:
        TrainError: Where the columns do not fit together or a row trains on nothing.
    """
    own, long = np.asarray(owners, np.int64), np.asarray(lengths, np.int64)
    if own.shape != long.shape or own.ndim != 1:
        raise TrainError(
            f"The data set gives {own.size} rows a pool and {long.size} a length: every row needs "
            "both."
        )
    for values, bad, problem in (
        (own, (own < 0) | (own >= len(names)), f"is of pool {{}}, but there are {len(names)}"),
        (long, long < 1, "trains on {} tokens: leave such rows out"),
    ):
        if bad.any():
            row = int(bad.argmax())
            raise TrainError(f"Row {row} of the data set {problem.format(values[row])}.")
    digests = contents or {}
    places = (np.flatnonzero(own == i) for i in range(len(names)))
    return tuple(
        MixturePool(name, rows, long[rows], digests.get(name, ""))
        for name, rows in zip(names, places, strict=True)
    )


@dataclass(frozen=True)
class MixturePlan:
    """The part of a run's order of rows that never changes.

    Attributes:
        pools: The pools, in the order of the weights.
        block: Rows of one optimizer step: per process, times processes, times accumulation.
        blocks: Optimizer steps of the whole run.
        unit: What weights are shares of.
        seed: The only source of randomness.

    Raises:
        TrainError: For an empty pool, one smaller than a block, or a number out of range.
    """

    pools: tuple[MixturePool, ...]
    block: int
    blocks: int
    unit: Unit = "samples"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.block < 1 or self.blocks < 1:
            raise TrainError(
                f"A run needs at least 1 step of at least 1 row, got {self.blocks} steps of "
                f"{self.block} rows."
            )
        if self.unit not in get_args(Unit):
            raise TrainError(f"unit '{self.unit}': {did_you_mean(self.unit, get_args(Unit))}")
        for pool in self.pools:
            if len(pool.rows) == 0:
                raise TrainError(f"Pool '{pool.name}' is empty: give it rows, or leave it out.")
            if len(pool.rows) < self.block:
                raise TrainError(
                    f"Pool '{pool.name}' has {len(pool.rows)} rows, fewer than one step takes "
                    f"({self.block}): a step could hold a row twice. Add rows, or make steps "
                    "smaller (rows per device, accumulation)."
                )

    def shares(self, weights: Sequence[float]) -> tuple[float, ...]:
        """Weights in the plan's unit as shares of rows, by pool."""
        if self.unit == "samples":
            return tuple(weights)
        rates = [w / p.mean_length for w, p in zip(weights, self.pools, strict=True)]
        return tuple(rate / math.fsum(rates) for rate in rates)


@dataclass
class Schedule:
    """The weights of every block; entries are only added.

    Attributes:
        pools: The pools' names, in the order of the weights.
        entries: Pairs of a block and the weights from that block on; blocks never decrease.
    """

    pools: tuple[str, ...]
    entries: list[tuple[int, tuple[float, ...]]] = field(default_factory=list)

    def append(self, block: int, weights: Sequence[float]) -> None:
        """Set the weights from a block on; of two entries for one block the later one counts.

        Raises:
            TrainError: For weights that are no mixture, or a block before that of the last entry.
        """
        check_weights(self.pools, weights)
        last = self.entries[-1][0] if self.entries else 0
        if block < last or (not self.entries and block != 0):
            raise TrainError(
                f"Weights for block {block} cannot follow those for block {last}: the first entry "
                "is for block 0, and no later one goes back."
            )
        self.entries.append((block, tuple(map(float, weights))))

    def at(self, block: int) -> tuple[float, ...]:
        """The weights of a block."""
        return next(weights for first, weights in reversed(self.entries) if first <= block)

    @property
    def digest(self) -> str:
        """A digest of all entries, which processes compare after each change."""
        return hashlib.sha256(json.dumps(self.entries).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class DrawnCounts:
    """The number of rows and tokens of each pool in some blocks.

    Attributes:
        samples: Rows, ``[pool]``.
        tokens: Trained tokens, ``[pool]``.
    """

    samples: tuple[int, ...]
    tokens: tuple[int, ...]

    def __add__(self, other: DrawnCounts) -> DrawnCounts:
        return DrawnCounts(
            tuple(a + b for a, b in zip(self.samples, other.samples, strict=True)),
            tuple(a + b for a, b in zip(self.tokens, other.tokens, strict=True)),
        )

    @property
    def sample_shares(self) -> tuple[float, ...]:
        """Each pool's share of the rows."""
        return tuple(n / max(sum(self.samples), 1) for n in self.samples)

    @property
    def token_shares(self) -> tuple[float, ...]:
        """Each pool's share of the trained tokens."""
        return tuple(n / max(sum(self.tokens), 1) for n in self.tokens)


def check_weights(pools: Sequence[str], weights: Sequence[float]) -> None:
    """Refuse weights that do not describe a mixture of the pools.

    Raises:
        TrainError: For no pools, equal names, a weight that is no share, or a sum other than 1.
    """
    if not pools:
        raise TrainError("A mixture needs at least one pool.")
    if len(set(pools)) != len(pools):
        raise TrainError(f"Two pools have the same name: {', '.join(pools)}. Rename one.")
    if len(weights) != len(pools):
        raise TrainError(
            f"{len(pools)} pools ({', '.join(pools)}) have {len(weights)} weights: give one each."
        )
    for pool, weight in zip(pools, weights, strict=True):
        if not 0 <= weight <= 1:
            raise TrainError(f"The weight of pool '{pool}' is {weight}; it is a share in [0, 1].")
    total = math.fsum(weights)
    if abs(total - 1) > TOLERANCE:
        listed = ", ".join(f"{p} {w:g}" for p, w in zip(pools, weights, strict=True))
        raise TrainError(f"The weights sum to {total:g}, not 1: {listed}.")
