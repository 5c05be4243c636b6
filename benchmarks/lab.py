"""Measure the lab's family and its merges: accuracy, tokens and checks, level by level.

    python benchmarks/lab.py -o out                       # the shipped family
    python benchmarks/lab.py -o out1 --family trained1    # one from `laconic lab train`
    python benchmarks/lab.py -o out --temperature 0.7 --only "TIES|0.5 .S2 - B"   # these merges

Every model answers the same test problems, which no training text holds. The folder gets a run per
model, so a stopped measurement goes on where it was. The tables go to stdout.
"""

from __future__ import annotations

import argparse
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from laconic import lab
from laconic.errors import LaconicError
from laconic.lab.reading import count_workings
from laconic.merging.recipe import Recipe
from laconic.runs.experiment import Sampling
from laconic.searching.grid import ModelJob, measure
from laconic.stats import pair, summarise
from laconic.tasks.contract.arithmetic import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from laconic.runs.run import Result, Run

MARGIN = 0.02
SWEEP = [round(0.05 * step, 2) for step in range(1, 20)]
DENSITIES = (0.1, 0.2, 0.3, 0.4)


def recipes(family: Path) -> dict[str, Recipe]:
    """The merges measured, by name."""
    base, system1, system2 = (str(family / name) for name in ("base", "system1", "system2"))

    def line(start: str, scale: float) -> Recipe:
        return Recipe([system2], "task_arithmetic", base=start, params={"scale": scale})

    made = {f"B + {scale} (S2 - B)": line(base, scale) for scale in SWEEP}
    made |= {f"S1 + {scale} (S2 - S1)": line(system1, scale) for scale in SWEEP[1::2]}
    for density in DENSITIES:
        params = {"density": density}
        made[f"TIES, density {density}"] = Recipe([system2], "ties", base=base, params=params)
    both = [system1, system2]
    made["both vectors"] = Recipe(
        both, "task_arithmetic", base=base, system2=system2, params={"scale": 0.7}
    )
    made["mean of S1 and S2"] = Recipe(both, "average", system2=system2)
    return made


def along(runs: Mapping[str, Run], start: str, letter: str) -> list[Run]:
    """The runs on the way from a member to System 2, both ends included, by scale."""
    names = [start, *(f"{letter} + {scale} (S2 - {letter})" for scale in SWEEP), "system2"]
    return [runs[name] for name in names if name in runs]


def row(name: str, run: Run, against: Run) -> str:
    """One line of the table."""
    summary, seen = summarise(run.results), count_workings(run.results)
    difference = pair(run.results, against.results, name=name, against="System 2", margin=MARGIN)
    accuracy, change = summary.accuracy, difference.accuracy_diff
    levels = [summary.by_level[level] for level in LEVELS]
    cells = [
        name,
        f"{accuracy.value:.3f} ({accuracy.low:.3f}-{accuracy.high:.3f})",
        f"{100 * change.value:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})",
        f"{summary.length.value:.0f}",
        f"{100 * difference.length_change.value:+.0f} %",
        difference.not_worse.verdict,
        f"{seen.checks:.1f}",
        str(seen.misread),
        f"{seen.repaired} of {seen.slips}",
        str(seen.broken),
        " ".join(f"{level.accuracy.value:.2f}" for level in levels),
        " ".join(f"{level.length.value:.0f}" for level in levels),
    ]
    return f"| {' | '.join(cells)} |\n"


def distinct(runs: Sequence[Run]) -> int:
    """How many runs in a row differ in mean length from the last one counted, in a paired test."""
    counted = 1
    last = runs[0]
    for run in runs[1:]:
        change = pair(run.results, last.results, name="", against="", margin=MARGIN).length_change
        if change.low > 0 or change.high < 0:
            counted, last = counted + 1, run
    return counted


def figures(runs: Mapping[str, Run]) -> str:
    """What the lab is meant to show, checked on these runs."""

    def hard(run: Run) -> list[Result]:
        return [result for result in run.results if (result.level or 0) >= 4]

    def share(name: str, levels: Sequence[int]) -> str:
        found = summarise(runs[name].results).by_level
        return " ".join(f"{found[level].accuracy.value:.3f}" for level in levels)

    one, two = runs["system1"], runs["system2"]
    gap = pair(hard(one), hard(two), name="", against="", margin=MARGIN).accuracy_diff
    ratio = summarise(two.results).length.value / summarise(one.results).length.value
    pairs = {
        name: pair(run.results, two.results, name=name, against="system2", margin=MARGIN)
        for name, run in runs.items()
    }
    short = [
        f"{name} ({100 * p.length_change.value:+.1f} %)"
        for name, p in pairs.items()
        if p.length_change.high <= -0.5 and p.not_worse.verdict == "yes"
    ]
    better = [name for name, p in pairs.items() if p.accuracy_diff.low > 0]
    base_line, single = along(runs, "base", "B"), along(runs, "system1", "S1")
    jump = max(b / a for a, b in pairwise(summarise(r.results).length.value for r in single))
    return "\n".join(
        [
            f"System 1 at levels 1-2: {share('system1', (1, 2))}",
            f"System 1 minus System 2 at levels 4-5, points: {100 * gap.value:.1f} "
            f"({100 * gap.low:.1f} to {100 * gap.high:.1f})",
            f"System 2: {summarise(two.results).accuracy.value:.3f}, {ratio:.2f}x as long",
            f"Distinct mean lengths from the base: {distinct(base_line)} of {len(base_line)}",
            f"Distinct mean lengths from System 1: {distinct(single)} of {len(single)}; "
            f"largest step x{jump:.2f}",
            f"At least 50 % shorter and not worse by 2 points: {', '.join(short) or 'none'}",
            f"Better than System 2: {', '.join(better) or 'none'}",
        ]
    )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--family", type=Path, default=lab.folder("base").parent)
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--task", default="lab", help="lab, lab_planted or lab_long")
    parser.add_argument("--only", default="", help="a regular expression over the merges' names")
    options = parser.parse_args()
    merges = {n: r for n, r in recipes(options.family).items() if re.search(options.only, n)}
    members = {name: str(options.family / name) for name in lab.members()}
    tasks = (f"{options.task}:size={options.size}",)
    jobs = [ModelJob(name, model, tasks, options.output / name) for name, model in members.items()]
    jobs += [
        ModelJob(name, str(options.output / f"{name} model"), tasks, options.output / name, recipe)
        for name, recipe in merges.items()
    ]
    runs = measure(
        jobs,
        sampling=Sampling(temperature=options.temperature),
        backend=f"transformers:dtype={options.dtype}",
        workers=options.workers,
    )
    sys.stdout.write(
        "| model | accuracy (95 %) | against System 2, points | tokens | | not worse by 2 "
        "| checks | misread | slips repaired | broken | accuracy, level 1-5 "
        "| tokens, level 1-5 |\n"
        f"|{' --- |' * 12}\n"
    )
    for name, run in runs.items():
        sys.stdout.write(row(name, run, runs["system2"]))
    if options.task != "lab_planted":
        sys.stdout.write(f"\n{figures(runs)}\n")


if __name__ == "__main__":
    try:
        main()
    except (LaconicError, re.error) as error:
        sys.exit(f"Error: {error}")
