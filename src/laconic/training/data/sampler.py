"""The order of a training's rows: a mixture of pools that can change, resume and be replayed.

The order is a pure function of the pools, a seed and a schedule that only ever grows. It is drawn
block by block; a block is the rows of one optimizer step over all processes. Every process walks
the whole order, and its loader takes its part of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from laconic.errors import TrainError
from laconic.training.data.mixture import DrawnCounts, MixturePlan, MixturePool, Schedule

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = 1


def replay(
    plan: MixturePlan, schedule: Schedule
) -> Iterator[tuple[NDArray[np.int64], DrawnCounts]]:
    """Every block of a run in order: its rows as places in the training set, and their counts.

    The schedule is read when a block is drawn, so entries may be added for blocks not yet drawn.
    Counts follow the weights by error diffusion: the rounding error of a pool's count is carried to
    the next block, so that the total of each of K pools stays within K rows of the sum of its
    shares.
    """
    carry = [0.0] * len(plan.pools)
    queues = [_Queue(plan.seed, pool) for pool in plan.pools]
    for number in range(plan.blocks):
        shares = plan.shares(schedule.at(number))
        wanted = [share * plan.block + c for share, c in zip(shares, carry, strict=True)]
        counts = apportion(wanted, plan.block)
        carry = [want - n for want, n in zip(wanted, counts, strict=True)]
        taken = [queue.take(n) for queue, n in zip(queues, counts, strict=True)]
        rows = np.concatenate([p.rows[t] for p, t in zip(plan.pools, taken, strict=True)])
        tokens = (int(p.lengths[t].sum()) for p, t in zip(plan.pools, taken, strict=True))
        order = _permutation(f"{plan.seed}/block/{number}", len(rows))
        yield rows[order], DrawnCounts(tuple(counts), tuple(tokens))


def apportion(wanted: Sequence[float], total: int) -> list[int]:
    """Round counts to whole numbers of 0 or more by the largest remainder; of equal ones the first.

    Args:
        wanted: Fractional counts, which sum to `total`; entries may be negative.
        total: The sum of the whole numbers.
    """
    counts = [max(math.floor(want), 0) for want in wanted]
    while (left := total - sum(counts)) != 0:
        step = 1 if left > 0 else -1
        candidates = [i for i, n in enumerate(counts) if n + step >= 0]
        counts[max(candidates, key=lambda i: step * (wanted[i] - counts[i]))] += step
    return counts


class MixtureSampler:
    """The order of a run for a torch data loader: give it as ``sampler``.

    A trainer of transformers or TRL returns it from ``_get_train_sampler``; its length is that of
    the whole run, so there is one epoch. It imports no torch: loaders ask for an iterable with a
    length. Iterating starts at the first row; a trainer that resumes skips what was trained on.

    Args:
        plan: The part of the order that never changes.
        weights: The first weights.
    """

    def __init__(self, plan: MixturePlan, weights: Sequence[float]) -> None:
        self.plan = plan
        self.schedule = Schedule(tuple(pool.name for pool in plan.pools))
        self.schedule.append(0, weights)
        self._drawn: list[DrawnCounts] = []
        self._saved_frontier = 0

    def __len__(self) -> int:
        return self.plan.block * self.plan.blocks

    def __iter__(self) -> Iterator[int]:
        for number, (rows, drawn) in enumerate(replay(self.plan, self.schedule)):
            if number == len(self._drawn):
                self._drawn.append(drawn)
            yield from rows.tolist()

    @property
    def frontier(self) -> int:
        """The first block not yet drawn: loaders draw ahead of the step that is trained."""
        return max(len(self._drawn), self._saved_frontier)

    def change(self, weights: Sequence[float], block: int) -> None:
        """Set the weights from a block on.

        Args:
            weights: The share of each pool in the plan's unit.
            block: The first block with these weights: the finished steps plus `lookahead`.

        Raises:
            TrainError: For weights that are no mixture, or a block that has been drawn.
        """
        if block < self.frontier:
            raise TrainError(
                f"Block {block} has been drawn: weights can change from block {self.frontier} on. "
                "Add the loader's lookahead to the step."
            )
        self.schedule.append(block, weights)

    def drawn(self, first: int, last: int) -> DrawnCounts:
        """The counts of the drawn blocks from `first` up to, not including, `last`."""
        none = (0,) * len(self.plan.pools)
        return sum(self._drawn[first:last], DrawnCounts(none, none))

    def state(self) -> dict[str, Any]:
        """All that a checkpoint must keep, as JSON holds it."""
        plan = self.plan
        return {
            "version": VERSION,
            "block": plan.block,
            "blocks": plan.blocks,
            "unit": plan.unit,
            "seed": plan.seed,
            "pools": [[pool.name, len(pool.rows), pool.digest] for pool in plan.pools],
            "schedule": [[block, list(weights)] for block, weights in self.schedule.entries],
            "digest": self.schedule.digest,
            "frontier": self.frontier,
        }

    @classmethod
    def resume(cls, plan: MixturePlan, state: Mapping[str, Any]) -> Self:
        """The sampler with the order of the run that `state` was saved from.

        Raises:
            TrainError: Where the state is damaged, or the run now has other pools, another seed,
                unit or size of a step. `blocks` may differ: the order is the same as far as both
                go.
        """
        try:
            entries = [(int(block), tuple(map(float, w))) for block, w in state["schedule"]]
            sampler = cls(plan, entries[0][1])
            now = sampler.state()
            for key in ("version", "block", "unit", "seed", "pools"):
                if state[key] != now[key]:
                    raise TrainError(
                        f"This run cannot go on as it began: {key} was {state[key]}, now it is "
                        f"{now[key]}. Give what it began with, or start anew."
                    )
            for block, weights in entries[1:]:
                sampler.schedule.append(block, weights)
            sampler._saved_frontier = int(state["frontier"])
            whole = sampler.schedule.digest == state["digest"]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise TrainError(f"The sampler's state is damaged ({error!r}).") from None
        if not whole:
            raise TrainError("The sampler's state is damaged: its schedule has another digest.")
        return sampler


def lookahead(*, workers: int, prefetch: int = 2, accumulation: int = 1) -> int:
    """How many blocks a loader may have drawn ahead of the finished steps.

    Args:
        workers: The loader's worker processes.
        prefetch: Batches that each worker prepares ahead.
        accumulation: Batches of one optimizer step.
    """
    return 1 + math.ceil(workers * prefetch / accumulation)


class _Queue:
    """The rows of a pool without end: each pass is an order of its own."""

    def __init__(self, seed: int, pool: MixturePool) -> None:
        self._key, self._size = f"{seed}/pool/{pool.name}", len(pool.rows)
        self._passes = 0
        self._left: NDArray[np.int64] = np.empty(0, np.int64)

    def take(self, n: int) -> NDArray[np.int64]:
        """The next n rows, as places in the pool."""
        while len(self._left) < n:
            fresh = _permutation(f"{self._key}/{self._passes}", self._size)
            self._left, self._passes = np.concatenate([self._left, fresh]), self._passes + 1
        taken, self._left = self._left[:n], self._left[n:]
        return taken


def _permutation(key: str, n: int) -> NDArray[np.int64]:
    """An order of n things that depends on a key only.

    It ranks the raw output of a counter-based generator, which numpy promises not to change.
    """
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16], "little")
    return np.argsort(np.random.Philox(key=seed).random_raw(n), kind="stable")
