"""A search on the lab pair, beside an exhaustive grid and beside random search at equal tokens.

    python benchmarks/search.py CACHE -o benchmarks/search.md

Three spaces, each with a grid fixed below: the scale of task arithmetic; its scales for FFN and
for attention; the density of TIES. The grid is measured once, on the problems to search on, and
every response is kept in CACHE (hours on a small machine; what is there is not asked again).
Searches then run over the same places with the real verb's code, but their completions are those
that the grid has drawn: greedy decoding would write them again. So tokens are counted as if
generated, seconds mean nothing, and five seeds cost what one does. A seed shuffles the order in
which problems are revealed and spreads the first places.

Hypervolume is the area, in accuracy times tokens, that a front rules beside the corner of System
1's accuracy and System 2's length. A search's front is what it measured in full. It is judged on
held-out problems, and so is the grid's own front.

Random search draws places without a guide and asks each every problem, until the tokens that the
search spent are spent.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laconic.backends.contract.backend import BACKENDS, Backend
from laconic.errors import BackendError
from laconic.evaluation.evaluate import evaluate
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe
from laconic.runs.experiment import Sampling
from laconic.runs.run import Generation, Run, Sample, is_run, read_head, read_run
from laconic.searching.explore import search
from laconic.searching.space import Space, read_space, words
from laconic.stats import hypervolume, pareto

if TYPE_CHECKING:
    from laconic.backends.contract.call import Call

LINE = {"low": 0.1, "high": 1.0, "step": 0.05}
SQUARE = {"low": 0.15, "high": 1.05, "step": 0.15}
PAIR = {"base": "lab:base", "models": ["lab:system2"]}
SPACES: dict[str, dict[str, Any]] = {
    "scale": {**PAIR, "method": "task_arithmetic", "params": {"scale": LINE}},
    "ffn and attention": {
        **PAIR,
        "method": "task_arithmetic",
        "params": {"scale": 0.5},
        "overrides": [
            {"match": "ffn", "params": {"scale": SQUARE}},
            {"match": "attention", "params": {"scale": SQUARE}},
        ],
    },
    "density": {**PAIR, "method": "ties", "params": {"density": LINE}},
}
TITLE = """# A search beside an exhaustive grid and random search

`python benchmarks/search.py CACHE -o benchmarks/search.md`, on the lab pair: 200 dev problems to
search on, 300 test problems to judge by, greedy. Of five seeds the median, and in brackets the
least and the greatest; 100 % is the grid's own front, chosen on the dev problems.

"""
REFERENCES = {"system1": "lab:system1", "system2": "lab:system2"}
DEV, TEST = "lab:split=dev,size=200", "lab:size=300"
#: Of the grid's tokens: a quarter, less the batch in which a search reaches its budget.
SHARE = 0.245
SEEDS = 5
Point = tuple[float, float]


def places(space: Space) -> list[dict[str, float]]:
    """Every place of a grid."""
    points: list[dict[str, float]] = [{}]
    for one in space.ranges:
        values = [one.nearest(one.low + i * (one.step or 0)) for i in range(one.steps + 1)]
        points = [{**point, one.name: value} for point in points for value in values]
    return points


class Cache:
    """Runs of every recipe asked for, kept by split and recipe.

    Args:
        folder: Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.held: dict[tuple[str, str], Run] = {}

    def run(self, split: str, name: str, recipe: Any = None) -> Run:
        """The run of a reference, or of a recipe under its name; measured if it is not there."""
        if (split, name) not in self.held:
            folder = self.folder / split / name
            if not (is_run(folder) and read_run(folder).complete):
                self._measure(split, name, recipe, folder)
            self.held[split, name] = read_run(folder)
        return self.held[split, name]

    def _measure(self, split: str, name: str, recipe: Any, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as work:
            model = REFERENCES.get(name) or str(merge(recipe, Path(work) / "model").folder)
            tasks = [DEV if split == "dev" else TEST]
            evaluate(model, tasks, output=folder, backend="transformers:batch=256")
        print(f"{split} {name}", file=sys.stderr, flush=True)


class Recorded:
    """The backend ``recorded``: a merged lab model whose completions the cache holds."""

    def __init__(self, run: Run, digest: str) -> None:
        self._answers = {(result.task, result.id): result for result in run.results}
        self.fingerprint = digest
        self.dtype = self.device = self.template = "recorded"
        self.window: int | None = None
        self.versions: dict[str, str] = {}

    def render(self, sample: Sample) -> str:
        """The problem."""
        return sample.problem

    def prompt_length(self, sample: Sample) -> int:
        """Nothing is prompted."""
        return 0

    def generate(
        self, calls: Sequence[Call], sampling: Sampling
    ) -> Iterator[list[tuple[Call, Generation]]]:
        """The recorded completions."""
        for start in range(0, len(calls), 16):
            batch = calls[start : start + 16]
            yield [(call, self._answer(call.sample)) for call in batch]

    def close(self) -> None:
        """Nothing to give back."""

    def _answer(self, sample: Sample) -> Generation:
        """What was recorded; a word for the search's own proof, which nobody reads here."""
        result = self._answers.get((sample.task, sample.id))
        if result is None:
            return Generation("none", 1, 0, False, "stop")
        finish: Any = "length" if result.truncated else "stop"
        return Generation(result.text, result.length, result.thinking_length, result.thinks, finish)


def install(cache: Cache, space: Space) -> None:
    """Make the backend ``recorded`` serve one space."""
    names = {space.at(point).digest: words(point) for point in places(space)}

    def recorded(model: str) -> Backend:
        name = next((n for n, m in REFERENCES.items() if m == model), None)
        if name is None:
            name = names.get(Recipe.from_dict(read_head(Path(model))["recipe"]).digest)
        if name is None:
            raise BackendError(f"{model} is no place of the grid.")
        return Recorded(cache.run("dev", name), name)

    BACKENDS.register(recorded)


def point(run: Run) -> Point:
    """Accuracy and length of a run."""
    n = len(run.results)
    return sum(r.correct for r in run.results) / n, sum(r.length for r in run.results) / n


def tokens(run: Run) -> int:
    """The tokens of a run."""
    return sum(result.length for result in run.results)


def judged(cache: Cache, space: Space, names: Mapping[str, Any]) -> float:
    """The hypervolume of some places on the held-out problems."""
    corner = (point(cache.run("test", "system1"))[0], point(cache.run("test", "system2"))[1])
    runs = [cache.run("test", name, space.at(at)) for name, at in names.items()]
    return hypervolume({str(i): point(run) for i, run in enumerate(runs)}, corner)


def front(cache: Cache, points: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some places that stand on the front of the problems to search on."""
    found = {name: point(cache.run("dev", name)) for name in points}
    return {name: points[name] for name in pareto(found)}


def searched(cache: Cache, space: Space, seed: int, budget: int) -> tuple[dict[str, Any], int]:
    """The front that a search finds, and the tokens of its trials."""
    install(cache, space)
    with tempfile.TemporaryDirectory() as folder:
        references = sum(tokens(cache.run("dev", name)) for name in REFERENCES)
        lengths = [point(cache.run("dev", name))[1] for name in (*REFERENCES, "system2")]
        proof = round(sum(lengths))  # of one problem: the held-out split judges
        study = search(
            space.values,
            Path(folder) / "study",
            [DEV],
            prove_on=["lab:size=1,seed=1"],
            system1="lab:system1",
            trials=100,
            budget=budget + references + proof,
            sampling=Sampling(seed=seed),
            backend="recorded",
        )
        found = {trial.name: dict(trial.parameters) for trial in study.front}
        return found, study.facts["tokens"]["search"]


def drawn(cache: Cache, points: Mapping[str, Any], seed: int, budget: int) -> dict[str, Any]:
    """The front of random places that the same tokens pay for."""
    order = list(points)
    random.Random(seed).shuffle(order)
    chosen, spent = {}, 0
    for name in order:
        spent += tokens(cache.run("dev", name))
        if spent > budget:
            break
        chosen[name] = points[name]
    return front(cache, chosen)


def compare(cache: Cache, name: str, share: float) -> str:
    """One row of the table."""
    space = read_space(SPACES[name])
    points = {words(place): place for place in places(space)}
    total = sum(tokens(cache.run("dev", n, space.at(at))) for n, at in points.items())
    best = judged(cache, space, front(cache, points))
    ours, theirs, spent = [], [], []
    for seed in range(SEEDS):
        found, used = searched(cache, space, seed, round(share * total))
        ours.append(judged(cache, space, found) / best)
        theirs.append(judged(cache, space, drawn(cache, points, seed, used)) / best)
        spent.append(used / total)
    cells = [
        name,
        str(len(points)),
        f"{total:,}",
        f"{statistics.median(spent):.1%}",
        f"{statistics.median(ours):.1%} ({min(ours):.1%} to {max(ours):.1%})",
        f"{statistics.median(theirs):.1%} ({min(theirs):.1%} to {max(theirs):.1%})",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--only", choices=SPACES)
    parser.add_argument("--share", type=float, default=SHARE, help="of the grid's tokens")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    cache = Cache(options.cache)
    for split in ("dev", "test"):
        for name in REFERENCES:
            cache.run(split, name)
    lines = [
        "| space | places | grid's tokens | spent | search: hypervolume, of the grid's | random |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name in SPACES:
        if options.only in (None, name):
            lines.append(compare(cache, name, options.share))
            print(lines[-1], flush=True)
    if options.output:
        options.output.write_text(TITLE + "\n".join([*lines, ""]), encoding="utf-8")
    shutil.rmtree(cache.folder / "work", ignore_errors=True)


if __name__ == "__main__":
    main()
