"""The lab's tasks: its chains of arithmetic, short and long, and with a wrong line to notice."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from annotated_types import Ge, Le

from laconic.runs.run import Sample
from laconic.tasks.contract.arithmetic import (
    LEVELS,
    LONG_LEVELS,
    Chain,
    Levels,
    Split,
    chains,
    planted,
)
from laconic.tasks.contract.task import task

Level = Annotated[int, Ge(0), Le(5)]


@task(max_tokens=896)
def lab(
    *, split: Split = "test", size: int = 1000, seed: int = 0, level: Level = 0
) -> Iterator[Sample]:
    """Chains of two-digit arithmetic for the lab's models, levels 1 to 5 in turn.

    Args:
        split: dev for choosing, test for reporting; no training text holds a problem of either.
            train is for building training data.
        size: Number of problems; the first n hold every level equally often.
        seed: Another seed draws other problems of the same split.
        level: Only problems of this level; 0 for all.
    """
    for chain, _ in _problems(split, size, seed, _only(level, LEVELS)):
        yield _sample("lab", split, chain)


@task(max_tokens=3072)
def lab_long(
    *, split: Split = "test", size: int = 1000, seed: int = 0, level: Level = 0
) -> Iterator[Sample]:
    """The lab's chains with 8 to 25 operations, for its larger models.

    Args:
        split: dev for choosing, test for reporting; no training text holds a problem of either.
            train is for building training data.
        size: Number of problems; the first n hold every level equally often.
        seed: Another seed draws other problems of the same split.
        level: Only problems of this level; 0 for all.
    """
    for chain, _ in _problems(split, size, seed, _only(level, LONG_LEVELS)):
        yield _sample("lab-long", split, chain)


@task(max_tokens=832)
def lab_planted(*, split: Split = "test", size: int = 1000, seed: int = 0) -> Iterator[Sample]:
    """Self-correction: the lab's chains with a begun thought whose last line is wrong.

    The model goes on from there; it is right only if it notices and mends that line.

    Args:
        split: dev for choosing, test for reporting; no training text holds a problem of either.
        size: Number of problems; the first n hold every level equally often.
        seed: Another seed draws other problems of the same split.
    """
    for chain, rng in _problems(split, size, seed, LEVELS):
        yield replace(_sample("lab-planted", split, chain), prefill=planted(chain, rng))


def _problems(
    split: Split, size: int, seed: int, levels: Levels
) -> Iterator[tuple[Chain, random.Random]]:
    """The problems of a split, each with the generator that drew them."""
    rng = random.Random(f"laconic lab {split} {seed}")
    for chain in chains(size, split=split, rng=rng, levels=levels):
        yield chain, rng


def _only(level: int, levels: Levels) -> Levels:
    """The levels to draw from: one of them, or all where it is 0."""
    return {level: levels[level]} if level else levels


def _sample(name: str, split: str, chain: Chain) -> Sample:
    task_name = name if split == "test" else f"{name}-{split}"
    return Sample(task_name, chain.name, chain.question, chain.answer, chain.level)
