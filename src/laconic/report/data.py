"""What a report shows: the rows, pairs and front of a set of runs, as plain values."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from laconic.errors import RunError, did_you_mean
from laconic.report.checks import Condition, conditions, misgivings
from laconic.report.published import Published, cautions, published
from laconic.stats import LEVEL, Overall, Pair, Summary, overall, pair, pareto, summarise

if TYPE_CHECKING:
    from laconic.run import Result, Run

Role = Literal["system1", "system2", "base", "merge"]
MARGIN = 0.02
INTERVALS: Mapping[str, str] = {
    "accuracy": "Wilson score interval; with repeats at the effective number of responses, "
    "clustered by problem (Korn and Graubard 1998)",
    "length": "Student t interval of the mean over problems",
    "accuracy_diff": "adjusted Wald interval for paired proportions (Bonett and Price 2012), "
    "clustered by problem",
    "length_change": "delta-method interval of the ratio of mean lengths on the shared problems",
    "overall": "mean over tasks, variances recovered from the intervals (Zou and Donner 2008)",
}


@dataclass(frozen=True)
class Row:
    """One run on one task.

    Attributes:
        name: The run.
        task: The task.
        role: What the run's name says it is: a parent of the merge, or a merge.
        complete: Whether the run is.
        asked: How many responses the complete run has.
        max_tokens: The budget of one completion, in tokens.
        summary: What the results amount to.
    """

    name: str
    task: str
    role: Role
    complete: bool
    asked: int
    max_tokens: int
    summary: Summary


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, with everything a report shows; print it for a table.

    Attributes:
        runs: One row per run and task, task by task, the shortest answers first.
        pairs: Every other run against the baseline, in the same order.
        overall: The pairs averaged over tasks, where every run was asked the same several.
        pareto: By task, the runs that none beats in both accuracy and length, shortest first.
        warnings: What a reader must know before believing a number.
        conditions: How the runs were measured.
        baseline: The run that the others are compared with.
        why: Why it is that one.
        margin: The loss of accuracy that counts as none, as a fraction.
        level: Confidence of every interval.
        intervals: The name of each kind of interval.
        published: Figures of the papers whose protocols runs followed.
    """

    runs: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    overall: tuple[Overall, ...]
    pareto: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    conditions: tuple[Condition, ...]
    baseline: str
    why: str
    margin: float
    level: float
    intervals: Mapping[str, str]
    published: tuple[Published, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order of the first run that was asked each."""
        return tuple(self.pareto)

    def rows(self, task: str) -> tuple[Row, ...]:
        """The rows of one task."""
        return tuple(row for row in self.runs if row.task == task)

    def to_text(self, *, width: int | None = None) -> str:
        """Plain text, as wide as the terminal or `width` columns."""
        from laconic.report.text import to_text

        return to_text(self, width=width)

    def to_json(self) -> str:
        """JSON: shares and changes are fractions, lengths are tokens."""
        from laconic.report.text import to_json

        return to_json(self)

    def to_markdown(self) -> str:
        """Markdown: sentences, misgivings and tables."""
        from laconic.report.text import to_markdown

        return to_markdown(self)

    def to_html(self) -> str:
        """One page that needs nothing else."""
        from laconic.report.page import to_html

        return to_html(self)

    def __str__(self) -> str:
        return self.to_text(width=80)


def compare(
    runs: Mapping[str, Run] | Sequence[Run],
    *,
    baseline: str | None = None,
    margin: float = MARGIN,
) -> Comparison:
    """Put runs side by side, each compared with the baseline problem by problem.

    Args:
        runs: Runs by name, or runs that carry different names.
        baseline: The run to compare with; by default the one called ``system2``, else the one
            with the longest answers.
        margin: The loss of accuracy that counts as none, as a fraction: 0.02 is two points.

    Raises:
        RunError: For no runs, runs of one name, an unknown baseline or a margin outside [0, 1).
    """
    if not 0 <= margin < 1:
        raise RunError(
            f"margin must be in [0, 1), got {margin}. It is a fraction: 0.02 is 2 points."
        )
    named = _named(runs)
    parts = _parts(named)
    rows = _rows(named, parts)
    if not rows:
        raise RunError(f"No results yet in {', '.join(named)}. Run laconic eval to its end.")
    chosen, why = _baseline(rows, named, baseline)
    pairs = _pairs(rows, parts, chosen, margin)
    fronts = {
        task: {
            row.name: (row.summary.accuracy.value, row.summary.length.value)
            for row in rows
            if row.task == task
        }
        for task in dict.fromkeys(row.task for row in rows)
    }
    facts = conditions(named, parts)
    return Comparison(
        runs=rows,
        pairs=pairs,
        overall=_overall(pairs, rows),
        pareto={task: pareto(points) for task, points in fronts.items()},
        warnings=(*misgivings(rows, pairs, named, facts, chosen), *cautions(named)),
        conditions=facts,
        baseline=chosen,
        why=why,
        margin=margin,
        level=LEVEL,
        intervals=INTERVALS,
        published=published(named),
    )


def role_of(name: str) -> Role:
    """What a run is, by its name's last word: ``qwen-system1`` is a System 1."""
    match = re.search(r"(?:^|[^a-z0-9])(system[-_ ]?[12]|base)$", name.lower())
    if match is None:
        return "merge"
    if match[1] == "base":
        return "base"
    return "system1" if match[1].endswith("1") else "system2"


def _named(runs: Mapping[str, Run] | Sequence[Run]) -> dict[str, Run]:
    if isinstance(runs, Mapping):
        named = {name: run.renamed(name) for name, run in runs.items()}
    else:
        twice = [name for name, n in Counter(run.name for run in runs).items() if n > 1]
        if twice:
            raise RunError(
                f"Several runs are called '{twice[0]}'. Give a mapping from names to runs, or "
                "rename one: run.renamed('...')."
            )
        named = {run.name: run for run in runs}
    if not named:
        raise RunError("There are no runs to compare. Measure a model first: laconic eval")
    return named


def _parts(named: Mapping[str, Run]) -> dict[tuple[str, str], list[Result]]:
    """The results by run and task."""
    parts: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for name, run in named.items():
        for result in run.results:
            parts[name, result.task].append(result)
    return dict(parts)


def _rows(
    named: Mapping[str, Run], parts: Mapping[tuple[str, str], list[Result]]
) -> tuple[Row, ...]:
    rows = [
        Row(
            name=name,
            task=record.name,
            role=role_of(name),
            complete=run.complete,
            asked=record.problems * (record.repeats or run.experiment.sampling.repeats),
            max_tokens=record.max_tokens,
            summary=summarise(parts[name, record.name]),
        )
        for name, run in named.items()
        for record in run.experiment.tasks
        if (name, record.name) in parts
    ]
    order = list(dict.fromkeys(row.task for row in rows))
    rows.sort(key=lambda row: (order.index(row.task), row.summary.length.value))
    return tuple(rows)


def _baseline(rows: Sequence[Row], named: Mapping[str, Run], wanted: str | None) -> tuple[str, str]:
    """The baseline's name, and why it is the baseline."""
    measured = list(dict.fromkeys(row.name for row in rows))
    if wanted is not None:
        if wanted not in named:
            raise RunError(f"There is no run '{wanted}'. {did_you_mean(wanted, named)}")
        if wanted not in measured:
            raise RunError(f"The baseline '{wanted}' has no results yet. Run laconic eval again.")
        return wanted, "as asked for"
    thinkers = [name for name in measured if role_of(name) == "system2"]
    for name in ("system2", *(thinkers if len(thinkers) == 1 else ())):
        if name in measured:
            return name, "by its name"
    lengths = defaultdict(list)
    for row in rows:
        lengths[row.name].append(row.summary.length.value)

    def breadth_and_length(name: str) -> tuple[int, float]:
        return len(lengths[name]), sum(lengths[name]) / len(lengths[name])

    return max(measured, key=breadth_and_length), "its answers are the longest"


def _pairs(
    rows: Sequence[Row],
    parts: Mapping[tuple[str, str], list[Result]],
    baseline: str,
    margin: float,
) -> tuple[Pair, ...]:
    """Every row against the baseline's of the same task, where they share a problem."""
    return tuple(
        pair(
            parts[row.name, row.task],
            parts[baseline, row.task],
            name=row.name,
            against=baseline,
            margin=margin,
        )
        for row in rows
        if row.name != baseline and _share(parts, (row.name, row.task), (baseline, row.task))
    )


def _share(
    parts: Mapping[tuple[str, str], list[Result]], left: tuple[str, str], right: tuple[str, str]
) -> bool:
    """Whether two runs answered a common problem of a task."""
    problems = {(r.id, r.gold) for r in parts[left]}
    return any((r.id, r.gold) in problems for r in parts.get(right, ()))


def _overall(pairs: Sequence[Pair], rows: Sequence[Row]) -> tuple[Overall, ...]:
    """The pairs averaged over tasks, where every run was asked every task."""
    if len({row.name for row in rows}) * len({row.task for row in rows}) != len(rows):
        return ()
    by_name: dict[str, list[Pair]] = defaultdict(list)
    for one in pairs:
        by_name[one.name].append(one)
    return tuple(overall(several) for several in by_name.values() if len(several) > 1)
