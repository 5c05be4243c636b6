"""What a report shows: the rows, pairs and front of a set of runs, as plain values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from laconic.errors import RunError, did_you_mean
from laconic.reporting.checks import Condition, conditions, misgivings, unequal
from laconic.reporting.families import Role, over_tasks, role_of, tested_together
from laconic.reporting.incomparable import find_incomparable
from laconic.reporting.published import Published, cautions, published
from laconic.reporting.wording import INTERVALS
from laconic.stats import (
    LEVEL,
    BudgetOutcome,
    Ease,
    Level,
    Overall,
    Pair,
    Responses,
    Summary,
    Texts,
    Trend,
    by_ease,
    columns,
    front_chances,
    pair,
    pareto,
    pass_rates,
    read_texts,
    rebudget,
    shared,
    smaller_budgets,
    summarise,
    trend,
)

if TYPE_CHECKING:
    from laconic.reporting.history import History
    from laconic.reporting.incomparable import Reason
    from laconic.runs.experiment import TaskRecord
    from laconic.runs.run import Result, Run

MARGIN = 0.02


@dataclass(frozen=True)
class Details:
    """What a report shows of a run on one task beyond the main table.

    Attributes:
        front: How often it stands on the front when the problems are drawn anew; None if
            the run must not be compared.
        texts: Reflection, loops, and what follows the right answer.
        by_ease: Accuracy and length on problems that all runs together found easy, medium or
            hard; empty where nothing was answered twice.
        trend: How length goes with difficulty.
        budgets: The run under smaller budgets, its own first.
    """

    front: float | None
    texts: Texts
    by_ease: Mapping[Ease, Level]
    trend: Trend
    budgets: tuple[BudgetOutcome, ...]


@dataclass(frozen=True)
class ReportRow:
    """One run on one task.

    Attributes:
        name: The run.
        task: The task.
        role: What the run's name says it is: a parent of the merge, or a merge.
        complete: Whether the run is.
        asked: How many responses the complete run has.
        max_tokens: The budget of one completion, in tokens; None where it is not known.
        summary: What the results amount to.
        details: What else they show.
    """

    name: str
    task: str
    role: Role
    complete: bool
    asked: int
    max_tokens: int | None
    summary: Summary
    details: Details


@dataclass(frozen=True)
class RunComparison:
    """Runs side by side, with everything a report shows; print it for a table.

    Attributes:
        runs: One row per run and task, task by task, the shortest answers first.
        pairs: Every other run against the baseline, in the same order; incomparable runs have none.
        overall: The pairs averaged over the tasks that as many runs as can be share.
        left_out: The tasks, and the runs, that `overall` leaves out to compare like with like.
        pareto: By task, the runs that none beats in both accuracy and length, shortest first.
        warnings: What a reader must know before believing a number.
        unequal: By task, in what compared runs were not measured alike; empty where they were.
        incomparable: By task, the runs that must not be compared with the others, and why.
        conditions: How the runs were measured.
        baseline: The run that the others are compared with.
        why: Why it is that one.
        margin: The loss of accuracy that counts as none, as a fraction.
        level: Confidence of every interval.
        intervals: The name of each kind of interval.
        published: Figures of the papers whose protocols runs followed.
        responses: The results themselves, by run and task.
        histories: How searches and trainings went that were found beside the runs.
    """

    runs: tuple[ReportRow, ...]
    pairs: tuple[Pair, ...]
    overall: tuple[Overall, ...]
    left_out: tuple[str, ...]
    pareto: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]
    unequal: Mapping[str, tuple[str, ...]]
    incomparable: Mapping[str, Mapping[str, tuple[Reason, ...]]]
    conditions: tuple[Condition, ...]
    baseline: str
    why: str
    margin: float
    level: float
    intervals: Mapping[str, str]
    published: tuple[Published, ...] = ()
    responses: Mapping[tuple[str, str], Responses] = field(
        default_factory=dict, repr=False, compare=False
    )
    histories: tuple[History, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order of the first run that was asked each."""
        return tuple(self.pareto)

    def rows(self, task: str) -> tuple[ReportRow, ...]:
        """The rows of one task."""
        return tuple(row for row in self.runs if row.task == task)

    def comparable(self, task: str) -> tuple[ReportRow, ...]:
        """The rows of one task that may be compared."""
        others = self.incomparable.get(task, ())
        return tuple(row for row in self.rows(task) if row.name not in others)

    def same_but_budget(self, task: str) -> tuple[ReportRow, ...]:
        """The rows of one task that may be compared under budgets that all of them had."""
        incomparable = self.incomparable.get(task, {})
        return tuple(
            row
            for row in self.rows(task)
            if all(reason.what == "budget" for reason in incomparable.get(row.name, ()))
        )

    def to_text(self, *, width: int | None = None, details: bool = False) -> str:
        """Plain text, as wide as the terminal or `width` columns; `details` shows every table."""
        from laconic.reporting.writers.text import to_text

        return to_text(self, width=width, details=details)

    def to_json(self) -> str:
        """JSON: shares and changes are fractions, lengths are tokens."""
        from laconic.reporting.writers.json import to_json

        return to_json(self)

    def to_markdown(self) -> str:
        """Markdown: sentences, misgivings and tables."""
        from laconic.reporting.writers.markdown import to_markdown

        return to_markdown(self)

    def to_html(self) -> str:
        """One page that needs nothing else."""
        from laconic.reporting.page.build import to_html

        return to_html(self)

    def __str__(self) -> str:
        return self.to_text(width=80)


def compare(
    runs: Mapping[str, Run] | Sequence[Run],
    *,
    baseline: str | None = None,
    margin: float = MARGIN,
) -> RunComparison:
    """Put runs side by side, each compared with the baseline problem by problem.

    Args:
        runs: Runs by name, or runs that carry different names.
        baseline: The run to compare with; by default the one called ``system2``, else, of those
            with the most tasks, the one with the longest answers.
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
    if not parts:
        raise RunError(f"No results yet in {', '.join(named)}. Run laconic eval to its end.")
    chosen, why = _baseline(parts, named, baseline)
    incomparable = find_incomparable(named, parts, chosen)
    rows = _rows(named, parts, incomparable)
    comparable = [row for row in rows if row.name not in incomparable.get(row.task, ())]
    pairs = tested_together(_pairs(comparable, parts, chosen, margin))
    together, left_out = over_tasks(pairs)
    facts = conditions(named, parts)
    warnings = misgivings(rows, comparable, pairs, named, facts, chosen)
    return RunComparison(
        runs=rows,
        pairs=pairs,
        overall=together,
        left_out=left_out,
        pareto=_fronts(comparable),
        warnings=(*warnings, *cautions(named)),
        unequal=unequal(comparable, facts),
        incomparable=incomparable,
        conditions=facts,
        baseline=chosen,
        why=why,
        margin=margin,
        level=LEVEL,
        intervals=INTERVALS,
        published=published(named),
        responses=parts,
    )


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


def _parts(named: Mapping[str, Run]) -> dict[tuple[str, str], Responses]:
    """The results by run and task."""
    parts: dict[tuple[str, str], Responses] = {}
    last: dict[str, Responses] = {}
    for name, run in named.items():
        by_task: dict[str, list[Result]] = defaultdict(list)
        for result in run.results:
            by_task[result.task].append(result)
        budgets = {record.name: record.max_tokens for record in run.experiment.tasks}
        for task, results in by_task.items():
            parts[name, task] = last[task] = columns(
                results, like=last.get(task), budget=budgets.get(task)
            )
    return parts


def _fronts(rows: Sequence[ReportRow]) -> dict[str, tuple[str, ...]]:
    """The front of each task, in the order of the tasks."""
    points: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for row in rows:
        points[row.task][row.name] = (row.summary.accuracy.value, row.summary.length.value)
    return {task: pareto(found) for task, found in points.items()}


def _rows(
    named: Mapping[str, Run],
    parts: Mapping[tuple[str, str], Responses],
    incomparable: Mapping[str, Collection[str]],
) -> tuple[ReportRow, ...]:
    records: dict[str, dict[str, TaskRecord]] = defaultdict(dict)
    for name, run in named.items():
        for record in run.experiment.tasks:
            if (name, record.name) in parts:
                records[record.name][name] = record
    rows = []
    for task, asked in records.items():
        runs = {name: parts[name, task] for name in asked}
        budgets = {
            name: record.max_tokens or int(runs[name].length.max())
            for name, record in asked.items()
        }
        details = _details(runs, budgets, incomparable.get(task, ()))
        several = [
            ReportRow(
                name=name,
                task=task,
                role=role_of(name),
                complete=named[name].complete,
                asked=named[name].experiment.answers(record),
                max_tokens=record.max_tokens,
                summary=summarise(runs[name]),
                details=details[name],
            )
            for name, record in asked.items()
        ]
        rows += sorted(several, key=lambda row: row.summary.length.value)
    return tuple(rows)


def _details(
    runs: Mapping[str, Responses], budgets: Mapping[str, int], incomparable: Collection[str]
) -> dict[str, Details]:
    """The details of all runs of a task, by name."""
    chances = front_chances({name: run for name, run in runs.items() if name not in incomparable})
    rates = pass_rates(list(runs.values()))
    twice = sum(map(len, runs.values())) > len(rates)
    caps = smaller_budgets(list(budgets.values()), list(runs.values()))
    return {
        name: Details(
            front=chances.get(name),
            texts=read_texts(responses),
            by_ease=by_ease(responses, rates) if twice else {},
            trend=trend(responses, rates),
            budgets=tuple(rebudget(responses, cap) for cap in caps if cap <= budgets[name]),
        )
        for name, responses in runs.items()
    }


def _baseline(
    parts: Mapping[tuple[str, str], Responses], named: Mapping[str, Run], wanted: str | None
) -> tuple[str, str]:
    """The baseline's name, and why it is the baseline."""
    lengths = defaultdict(list)
    for (name, _), responses in parts.items():
        lengths[name].append(float(responses.lengths.mean()))
    if wanted is not None:
        if wanted not in named:
            raise RunError(f"There is no run '{wanted}'. {did_you_mean(wanted, named)}")
        if wanted not in lengths:
            raise RunError(f"The baseline '{wanted}' has no results yet. Run laconic eval again.")
        return wanted, "as asked for"
    thinkers = [name for name in lengths if role_of(name) == "system2"]
    for name in ("system2", *(thinkers if len(thinkers) == 1 else ())):
        if name in lengths:
            return name, "by its name"

    def breadth_and_length(name: str) -> tuple[int, float]:
        return len(lengths[name]), sum(lengths[name]) / len(lengths[name])

    best = max(lengths, key=breadth_and_length)
    widest = len({len(several) for several in lengths.values()}) > 1
    return best, "it has the most tasks" if widest else "its answers are the longest"


def _pairs(
    rows: Sequence[ReportRow],
    parts: Mapping[tuple[str, str], Responses],
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
    parts: Mapping[tuple[str, str], Responses], left: tuple[str, str], right: tuple[str, str]
) -> bool:
    """Whether two runs answered a common problem of a task."""
    return right in parts and len(shared(parts[left], parts[right])[0]) > 0
