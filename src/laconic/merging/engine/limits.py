"""Where trims cut the entries of tensors, found in passes that count magnitudes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from laconic.merging.engine.thresholds import CountRequest, Threshold, find_thresholds
from laconic.methods.contract.ranking import ALL, EVERY, NONE, Trim, TrimLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from laconic.merging.engine.members import Array
    from laconic.merging.engine.streaming import Chain, Engine, Limits
    from laconic.merging.engine.thresholds import Counter

#: The most blocks that a thread counts in one go; a stop waits for it.
TOGETHER: Final = 64


class MagnitudeCounter:
    """Counts the magnitudes of some tensors together, block by block in the engine's threads.

    Args:
        engine: Its threads do the work.
        chains: The tensors.
        number: The step before which their vectors are counted.
    """

    def __init__(self, engine: Engine, chains: Sequence[Chain], number: int) -> None:
        self.engine = engine
        self.chains = chains
        self.number = number
        for chain in chains:
            engine.prepare(chain, number)

    def __call__(self, request: CountRequest) -> Array:
        """The counts of one pass, ``[model, place]``."""
        total = np.zeros((), np.int64)

        def count(job: tuple[Chain, Sequence[tuple[int, int]]]) -> Array:
            chain, blocks = job
            return chain.count(blocks, self.number, request)

        jobs = [(chain, part) for chain in self.chains for part in self._parts(chain)]
        for done, counts in enumerate(self.engine.map(count, jobs), start=1):
            total = total + counts
            if len(self.chains) > 1:
                self.engine.progress(done, len(jobs), "threshold")
        return total

    def _parts(self, chain: Chain) -> Iterator[Sequence[tuple[int, int]]]:
        """A tensor's blocks in as many parts as there are threads, none of them too long to stop.

        Blocks of a part share their room for the counts.
        """
        blocks = self.engine.blocks(chain)
        length = max(1, min(TOGETHER, -(-len(blocks) // self.engine.options.workers)))
        for start in range(0, len(blocks), length):
            yield blocks[start : start + length]


def find_limits(
    engine: Engine, chains: Sequence[Chain], number: int, trim: Trim, counter: Counter
) -> list[Limits]:
    """The limits of a trim that ranks the entries of some tensors together, for each tensor.

    Args:
        engine: Runs the passes.
        chains: The tensors.
        number: The step that trims.
        trim: What it asks for.
        counter: Counts the magnitudes of all these tensors, after the steps before.
    """
    size = sum(chain.members.size for chain in chains)
    count = trim.keeps(_nonzero(counter, size) if trim.nonzero else size)
    if not 0 < count < size:
        return [(NONE if count < 1 else ALL,) * len(engine.plan.models)] * len(chains)
    thresholds = find_thresholds(counter, size, count, trim.model)
    if trim.ties == "all":
        return [tuple(TrimLimit(one.value, EVERY) for one in thresholds)] * len(chains)
    for chain in chains:
        engine.prepare(chain, number)
    models = range(len(thresholds)) if trim.model is None else (trim.model,)
    by_model = [
        _lasts(engine, chains, number, i, one) for i, one in zip(models, thresholds, strict=True)
    ]
    if trim.model is not None:
        every = [ALL] * len(chains)
        by_model = [
            by_model[0] if i == trim.model else every for i in range(len(engine.plan.models))
        ]
    return [tuple(limits) for limits in zip(*by_model, strict=True)]


def _nonzero(counter: Counter, size: int) -> int:
    """How many entries of the one thing that is ranked are not 0."""
    (row,) = counter(CountRequest(bins=(0,)))
    return size - int(row[0])


def _lasts(
    engine: Engine, chains: Sequence[Chain], number: int, i: int, threshold: Threshold
) -> list[TrimLimit]:
    """Model `i`'s limit in each tensor where only the first entries at it are kept."""
    limits, kept_ties = [], threshold.kept_ties
    for chain in chains:
        last = EVERY
        if threshold.kept_ties < threshold.tied:
            blocks = engine.blocks(chain)
            find = partial(_places, chain, number, i, threshold.value)
            last, kept_ties = _last(
                find, engine.map(lambda b, f=find: len(f(b)), blocks), blocks, kept_ties
            )
        limits.append(TrimLimit(threshold.value, last))
    return limits


def _last(
    find: Callable[[tuple[int, int]], Array],
    counts: Iterable[int],
    blocks: Sequence[tuple[int, int]],
    kept_ties: int,
) -> tuple[int, int]:
    """The last entry kept among those at a limit, and how many may still be kept after a tensor.

    Args:
        find: The places of the entries at the limit in a block.
        counts: How many each block has.
        blocks: The tensor's blocks.
        kept_ties: How many of them are kept, from this tensor on.
    """
    if kept_ties < 1:
        return -1, 0
    for block, count in zip(blocks, counts, strict=False):
        if count >= kept_ties:
            return int(find(block)[kept_ties - 1]), 0
        kept_ties -= count
    return EVERY, kept_ties


def _places(chain: Chain, number: int, i: int, value: float, block: tuple[int, int]) -> Array:
    return chain.places(*block, number, i, value)
