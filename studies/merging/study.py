"""Measures every merge method on the lab, and the paper's side questions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.lab.sizes import MINI
from laconic.merging.recipe import Recipe
from laconic.runtime import Progress, silent
from laconic.stats import summarise
from studies.bench import Bench
from studies.family import Family
from studies.merging.calibrations import Calibrations, Samples
from studies.merging.menu import Grid, informed_menu, menu, scales, ties
from studies.merging.second_system2 import train_second_system2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.runs.run import Run

MARGIN: Final = 0.02
CHOOSE_ON: Final = "lab:split=dev,size={}"
PROVE_ON: Final = "lab:size={}"
PLANTED: Final = "lab_planted:size={}"
Runs = dict[str, "Run"]


@dataclass(frozen=True)
class Findings:
    """The measurements of the study, runs by name.

    Attributes:
        dev: System 2 and every coefficient of every method, on the dev split.
        grids: The coefficients of every method.
        chosen: The coefficient that dev chose, by method.
        test: The members and every method at its coefficient, on the test split.
        planted: The same models, on thoughts already begun with a wrong line.
        starts: Task arithmetic from each of the three members.
        towards: Small weights of System 2 on System 1.
        thinkers: Two System 2s, alone and merged.
        calibrations: AIM and Sens-Merging by the number and kind of calibration samples.
        sizes: Members and merges of each size, by size.
    """

    dev: Runs
    grids: Mapping[str, Grid]
    chosen: Mapping[str, str]
    test: Runs
    planted: Runs
    starts: Runs
    towards: Runs
    thinkers: Runs
    calibrations: Runs = field(default_factory=dict)
    sizes: Mapping[str, Runs] = field(default_factory=dict)


def study(
    output: str | Path,
    *,
    dev: int = 200,
    test: int = 1000,
    families: Mapping[str, str | Path] | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Findings:
    """Merge the lab pair with every method and measure what the paper measures.

    Args:
        output: The folder to create; a stopped study continues in it.
        dev: Problems by which coefficients are chosen.
        test: Fresh problems for the figures; the side questions take half of them.
        families: Folders of ``laconic lab train``, by size; the shipped family is ``mini``.
        workers: Processes that merge and measure.
        progress: Called after each finished model.
    """
    output, family = Path(output).expanduser().resolve(), Family.at()
    bench = Bench(output, workers, progress)
    calibrations = Calibrations(output / "stats", family, Samples.sample(bench, family))
    grids = {**menu(family), **informed_menu(family, calibrations.all())}
    sizes = {size: Family.at(folder) for size, folder in (families or {}).items()}
    sizes |= {MINI: family} if sizes else {}
    half = PROVE_ON.format(max(test // 2, 5))
    side_questions = [starts(family), towards(family), calibrations.variants()]
    bench.expect(1 + sum(map(len, grids.values())) + 2 * (3 + len(grids)) + 7)
    bench.expect(sum(map(len, side_questions)) + sum(len(small(f)) for f in sizes.values()))

    candidates = {named(m, label): r for m, grid in grids.items() for label, r in grid.items()}
    dev_runs = bench.runs("dev", CHOOSE_ON.format(dev), {"system2": family.system2, **candidates})
    chosen = {
        method: choose(
            grid,
            {label: dev_runs[named(method, label)] for label in grid},
            dev_runs["system2"],
            MARGIN,
        )
        for method, grid in grids.items()
    }
    models: dict[str, str | Recipe] = {
        **family.members,
        **{method: grids[method][label] for method, label in chosen.items()},
    }
    other = str(train_second_system2(output / "models" / "second-system2"))
    return Findings(
        dev=dev_runs,
        grids=grids,
        chosen=chosen,
        test=bench.runs("test", PROVE_ON.format(test), models),
        planted=bench.runs("planted", PLANTED.format(max(test // 2, 5)), models),
        starts=bench.runs("starts", half, starts(family)),
        towards=bench.runs("towards", half, towards(family)),
        thinkers=bench.runs("thinkers", half, thinkers(family, other)),
        calibrations=bench.runs("calibrations", half, calibrations.variants()),
        sizes={size: bench.runs(f"size-{size}", half, small(f)) for size, f in sizes.items()},
    )


def choose(grid: Grid, runs: Mapping[str, Run], against: Run, margin: float) -> str:
    """The coefficient of a method: the shortest that keeps the accuracy, else the most accurate.

    Args:
        grid: The method's recipes, by coefficient.
        runs: Their runs on the problems for choosing, by coefficient.
        against: System 2's run on them.
        margin: How far below System 2 an accuracy may be and count as kept, a fraction; no interval
            enters, the reported figures come from other problems.
    """
    summaries = {label: summarise(runs[label].results) for label in grid}
    least = summarise(against.results).accuracy.value - margin
    accurate_enough = [label for label in summaries if summaries[label].accuracy.value >= least]
    if accurate_enough:
        return min(accurate_enough, key=lambda label: summaries[label].length.value)
    return max(summaries, key=lambda label: summaries[label].accuracy.value)


def named(method: str, label: str) -> str:
    """The name of a method with its coefficients."""
    return f"{method}, {label}" if label else method


def starts(f: Family) -> dict[str, str | Recipe]:
    """Task arithmetic from the base, from System 1, and from System 2 towards System 1."""

    def line(start: str, end: str, scale: float) -> Recipe:
        return Recipe(
            [end], "task_arithmetic", base=start, system2=f.system2, params={"scale": scale}
        )

    ways = {
        "base to System 2": (f.base, f.system2),
        "System 1 to System 2": (f.system1, f.system2),
        "System 2 to base": (f.system2, f.base),
        "System 2 to System 1": (f.system2, f.system1),
    }
    return {
        "system2": f.system2,
        **{
            f"{way}, {scale:g}": line(start, end, scale)
            for way, (start, end) in ways.items()
            for scale in (0.3, 0.5, 0.7)
        },
    }


def towards(f: Family) -> dict[str, str | Recipe]:
    """Short to long: a little of System 2 on System 1."""
    recipes = {
        f"System 1 + {w:g} (System 2 - System 1)": Recipe(
            [f.system2], "task_arithmetic", base=f.system1, params={"scale": w}
        )
        for w in (0.05, 0.1, 0.15, 0.2, 0.3)
    }
    return {"system1": f.system1, "system2": f.system2, **recipes}


def thinkers(f: Family, other: str) -> dict[str, str | Recipe]:
    """Means of the base and one or two System 2s."""

    def mean(*models: str) -> Recipe:
        return Recipe(list(models), "average", system2=f.system2)

    return {
        "base": f.base,
        "system2": f.system2,
        "second System 2": other,
        "base and System 2": mean(f.base, f.system2),
        "base and second": mean(f.base, other),
        "System 2 and second": mean(f.system2, other),
        "all three": mean(f.base, f.system2, other),
    }


def small(f: Family) -> dict[str, str | Recipe]:
    """The models and merges that are measured in every size."""
    grid: dict[str, Any] = {
        "Average": f.pair("average"),
        **{named("Task Arithmetic", k): r for k, r in scales(f, (0.3, 0.5, 0.7)).items()},
        **{named("TIES", k): r for k, r in ties(f, (0.2, 0.4)).items()},
    }
    return {**f.members, **grid}
