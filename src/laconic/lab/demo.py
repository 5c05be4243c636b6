"""The main job on the lab pair: merge, measure, choose, prove, draw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.progress import Progress, silent
from laconic.recipe import Recipe
from laconic.report import compare, join, write
from laconic.search import Found, search

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.report import Comparison

BASE: Final = "lab:base"
#: The grid: name, method, parameters and, where it is not System 2 on the base, the models.
GRID: Final[tuple[tuple[str, str, Mapping[str, Any]], ...]] = (
    ("ta-0.2", "task_arithmetic", {"scale": 0.2}),
    ("ta-0.3", "task_arithmetic", {"scale": 0.3}),
    ("ta-0.4", "task_arithmetic", {"scale": 0.4}),
    ("ta-0.5", "task_arithmetic", {"scale": 0.5}),
    ("ta-0.7", "task_arithmetic", {"scale": 0.7}),
    ("ties-0.1", "ties", {"density": 0.1}),
    ("ties-0.2", "ties", {"density": 0.2}),
    ("ties-0.3", "ties", {"density": 0.3}),
    ("slerp-0.4", "slerp", {"t": 0.4}),
)


@dataclass(frozen=True)
class Demo:
    """What the demo found and where it lies.

    Attributes:
        found: The search's result.
        comparison: Every model on the dev problems, parents and winner on the test problems.
        output: The folder with ``merged``, ``report.html`` and ``report.png``.
    """

    found: Found
    comparison: Comparison
    output: Path

    def to_text(self) -> str:
        """The comparison's table, the verdict and the files, for a terminal."""
        lines = [str(self.comparison), "", self.verdict, ""]
        if self.found.folder:
            lines.append(f"Merged model: {self.found.folder}")
        lines.append(f"Report: {self.output / 'report.html'}, {self.output / 'report.png'}")
        return "\n".join(lines)

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        if self.found.chosen is None:
            return (
                "No merge was shown to be not worse than system2 on the dev problems. "
                "Give more of them (--dev) or a wider margin (--margin)."
            )
        pair = next(
            p
            for p in self.comparison.pairs
            if p.name == self.found.chosen and p.task == PROVE_ON.partition(":")[0]
        )
        change, diff = pair.length_change, pair.accuracy_diff
        return (
            f"{pair.name} was chosen on dev. On {pair.n} fresh problems it is "
            f"{-change.value:.1%} shorter than {pair.baseline} (95 %: {-change.high:.1%} to "
            f"{-change.low:.1%}); accuracy {100 * diff.value:+.1f} points (95 %, Bonett-Price: "
            f"{100 * diff.low:+.1f} to {100 * diff.high:+.1f}). Not worse by "
            f"{100 * pair.not_worse.margin:g} points: {pair.not_worse.verdict}."
        )


CHOOSE_ON: Final = "lab:split=dev,size={size}"
PROVE_ON: Final = "lab:size={size}"


def candidates() -> dict[str, Recipe]:
    """The recipes that the demo tries, by name."""
    recipes = {
        name: Recipe(["lab:system2"], method, base=BASE, params=params)
        for name, method, params in GRID
    }
    dare = [{"dare": {"density": 0.7}}]
    recipes["dare-ta-0.4"] = Recipe(
        ["lab:system2"], "task_arithmetic", base=BASE, params={"scale": 0.4}, before=dare
    )
    recipes["average"] = Recipe(["lab:system1", "lab:system2"], "average", system2="lab:system2")
    return recipes


def demo(
    output: str | Path,
    *,
    dev: int = 300,
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
    found = search(
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
    runs = join([*found.test.values(), *found.dev.values()])
    comparison = compare(runs, baseline="system2", margin=margin)
    for name in ("report.html", "report.png", "report.json"):
        write(comparison, output / name)
    return Demo(found, comparison, output)
