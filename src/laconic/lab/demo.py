"""The main job on the lab pair: merge, measure, choose, prove, draw."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.merging.recipe import Recipe
from laconic.reporting.report import compare, join, write
from laconic.runtime import Progress, silent
from laconic.searching.grid import GridResult, choose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.reporting.report import RunComparison

#: System 2 on the base: name, method, parameters.
GRID: Final[tuple[tuple[str, str, Mapping[str, Any]], ...]] = (
    ("ta-0.3", "task_arithmetic", {"scale": 0.3}),
    ("ta-0.4", "task_arithmetic", {"scale": 0.4}),
    ("ta-0.5", "task_arithmetic", {"scale": 0.5}),
    ("ta-0.6", "task_arithmetic", {"scale": 0.6}),
    ("ties-0.3", "ties", {"density": 0.3}),
    ("slerp-0.5", "slerp", {"t": 0.5}),
)


@dataclass(frozen=True)
class Demo:
    """What the demo found and where it lies.

    Attributes:
        found: The search's result.
        dev: Parents and merges on the problems used for choosing.
        test: Parents and the chosen merge on fresh problems.
        output: The folder with ``merged``, ``report.html`` and ``report.png``.
    """

    found: GridResult
    dev: RunComparison
    test: RunComparison
    output: Path

    def to_text(self) -> str:
        """Both tables, the choice, the verdict on fresh problems and the files."""
        problems = self.dev.runs[0].summary.n
        parts = [
            f"Choosing, on {problems} dev problems",
            str(self.dev),
            f"Proving, on {self.test.runs[0].summary.n} fresh problems",
            str(self.test),
        ]
        if self.found.chosen is None:
            parts.append(
                f"No merge was shown to be not worse than system2 on {problems} problems. "
                "Give more of them (--dev) or a wider margin (--margin)."
            )
        else:
            parts.append(f"Chosen on dev: {self.found.chosen}. Merged model: {self.found.folder}")
        report = self.output / "report"
        parts.append(f"Report: {report}.html, {report}.png, {report}.json")
        return "\n\n".join(parts)


CHOOSE_ON: Final = "lab:split=dev,size={size}"
PROVE_ON: Final = "lab:size={size}"


def candidates() -> dict[str, Recipe]:
    """The recipes that the demo tries, by name."""
    recipes = {
        name: Recipe(["lab:system2"], method, base="lab:base", params=params)
        for name, method, params in GRID
    }
    dare = [{"dare": {"density": 0.7}}]
    recipes["dare-ta-0.5"] = Recipe(
        ["lab:system2"], "task_arithmetic", base="lab:base", params={"scale": 0.5}, before=dare
    )
    recipes["average"] = Recipe(["lab:system1", "lab:system2"], "average", system2="lab:system2")
    return recipes


def demo(
    output: str | Path,
    *,
    dev: int = 1000,
    test: int = 1000,
    workers: int = 1,
    margin: float = 0.02,
    progress: Progress = silent,
) -> Demo:
    """Run the main job on the lab pair and write model, runs and report.

    Args:
        output: The folder to create; what a stopped demo finished there is used.
        dev: Problems for choosing.
        test: Fresh problems for the verdict.
        workers: Processes that evaluate.
        margin: The loss of accuracy that counts as none, a fraction.
        progress: Told after each finished model.
    """
    output = Path(output).expanduser()
    found = choose(
        candidates(),
        output,
        references={"system1": "lab:system1", "system2": "lab:system2"},
        baseline="system2",
        choose_on=[CHOOSE_ON.format(size=dev)],
        prove_on=[PROVE_ON.format(size=test)],
        margin=margin,
        workers=workers,
        progress=progress,
    )
    compared = partial(compare, baseline="system2", margin=margin)
    whole = compared(join([*found.test.values(), *found.dev.values()]))
    for suffix in ("html", "png", "json"):
        write(whole, output / f"report.{suffix}")
    return Demo(found, compared(found.dev), compared(found.test), output)
