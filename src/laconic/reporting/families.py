"""Which runs belong together: parents and merges, those tested together, tasks that runs share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from laconic.stats import Overall, corrected, overall

if TYPE_CHECKING:
    from laconic.stats import Pair

Role = Literal["system1", "system2", "base", "merge"]


def role_of(name: str) -> Role:
    """What a run is, by its name's last word: ``qwen-system1`` is a System 1."""
    match = re.search(r"(?:^|[^a-z0-9])(system[-_ ]?[12]|base)$", name.lower())
    if match is None:
        return "merge"
    if match[1] == "base":
        return "base"
    return "system1" if match[1].endswith("1") else "system2"


def tested_together(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """The pairs with their verdicts corrected for the number of merges on their task.

    Any merge of a task can be picked as its best, so all of them are one family of tests; the
    parents are no candidates and are tested alone.
    """
    families: dict[str, list[int]] = defaultdict(list)
    for i, one in enumerate(pairs):
        if role_of(one.name) == "merge":
            families[one.task].append(i)
    found = list(pairs)
    for places in families.values():
        for i, verdict in zip(places, corrected([pairs[i].not_worse for i in places]), strict=True):
            found[i] = replace(pairs[i], not_worse=verdict)
    return tuple(found)


def over_tasks(pairs: Sequence[Pair]) -> tuple[tuple[Overall, ...], tuple[str, ...]]:
    """The pairs averaged over tasks that several of the runs, best all, were asked.

    All runs are averaged over the same tasks: of the sets of tasks that some runs share, the one
    with the most pairs in it, and of those the one with the most runs.

    Returns:
        One average for each run that was asked all these tasks, merges tested together; and what
        is left out, in words. Nothing where no run shares two tasks with the baseline.
    """
    by_name: dict[str, dict[str, Pair]] = defaultdict(dict)
    for one in pairs:
        by_name[one.name][one.task] = one
    tasks = _shared_by_most({name: frozenset(several) for name, several in by_name.items()})
    if len(tasks) < 2:
        return (), ()
    found = [
        overall([several[task] for task in several if task in tasks])
        for several in by_name.values()
        if tasks <= several.keys()
    ]
    merges = [i for i, one in enumerate(found) if role_of(one.name) == "merge"]
    for i, verdict in zip(merges, corrected([found[i].not_worse for i in merges]), strict=True):
        found[i] = replace(found[i], not_worse=verdict)
    absent = [name for name, several in by_name.items() if not tasks <= several.keys()]
    every = dict.fromkeys(one.task for one in pairs)
    return tuple(found), (*(task for task in every if task not in tasks), *absent)


def _shared_by_most(asked: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The tasks to average over, by which tasks each run was asked."""
    candidates = set(asked.values())
    if candidates:
        candidates.add(frozenset.intersection(*candidates))

    def worth(tasks: frozenset[str]) -> tuple[int, int, list[str]]:
        runs = sum(tasks <= others for others in asked.values())
        return runs * len(tasks), runs, sorted(tasks)

    return max((tasks for tasks in candidates if len(tasks) > 1), key=worth, default=frozenset())
