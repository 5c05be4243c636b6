"""What makes a comparison unfair: settings that differ, cut or missing answers, lost thoughts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laconic.reporting.wording import percent, some
from laconic.scoring.unreadable import unread

if TYPE_CHECKING:
    from laconic.reporting.comparison import ReportRow
    from laconic.runs.experiment import TaskRecord
    from laconic.runs.run import Result, Run
    from laconic.stats import Pair, Responses

TRUNCATED = 0.05
THINKING_LOST = 0.2
#: What a run says of a setting that its log leaves out.
UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Condition:
    """One thing about how runs were measured, and which runs share it.

    Attributes:
        what: What it is, such as ``budget``.
        task: The task it belongs to; None where it is the same for all tasks of a run.
        values: Each value with the names of the runs that have it.
        matters: Why a difference is a misgiving; empty where it is none.
    """

    what: str
    task: str | None
    values: tuple[tuple[str, tuple[str, ...]], ...]
    matters: str


def conditions(
    named: Mapping[str, Run], parts: Mapping[tuple[str, str], Responses]
) -> tuple[Condition, ...]:
    """How the runs were measured.

    Args:
        named: The runs by name.
        parts: The results by run and task; a task without results is passed over.
    """
    found: dict[tuple[str | None, str], dict[str, list[str]]] = defaultdict(dict)
    why: dict[str, str] = {}
    for name, run in named.items():
        for record in run.experiment.tasks:
            if (name, record.name) in parts:
                asked = f"{record.problems:,} problems"
                repeats = record.repeats or run.experiment.sampling.repeats
                facts = (
                    ("answers", f"{repeats:,} a problem", ""),
                    _budget(record, parts[name, record.name]),
                    (
                        "problems",
                        f"{asked}, digest {record.digest[:8]}",
                        "The problems or their wording are not the same; pairs rest on those "
                        "with the same id and answer.",
                    ),
                )
                for what, value, matters in facts:
                    found[record.name, what].setdefault(value, []).append(name)
                    why[what] = matters
        for what, value, matters in _facts(run):
            found[None, what].setdefault(value, []).append(name)
            why[what] = matters
    return tuple(
        Condition(what, task, tuple((v, tuple(n)) for v, n in values.items()), why[what])
        for (task, what), values in sorted(found.items(), key=lambda item: item[0][0] is None)
    )


def misgivings(
    rows: Sequence[ReportRow],
    comparable: Sequence[ReportRow],
    pairs: Sequence[Pair],
    named: Mapping[str, Run],
    facts: Sequence[Condition],
    baseline: str,
) -> Iterator[str]:
    """Whatever a reader must know before believing a number, one sentence or two each.

    Args:
        rows: Every run on every task.
        comparable: Those of them that may be compared.
        pairs: The runs against the baseline.
        named: The runs by name.
        facts: How they were measured.
        baseline: The run that they are compared with.
    """
    by_task: dict[str, list[ReportRow]] = defaultdict(list)
    for row in rows:
        by_task[row.task].append(row)
    yield from _unequal(by_task, facts)
    yield from _unrecorded(rows, facts)
    yield from _unfinished(rows, named)
    yield from _inferred(named)
    for task, several in by_task.items():
        yield from _cut(task, several)
        yield from _thoughtless(task, several, baseline)
        yield from _ungraded(task, several)
        runs = {row.name: _answers(named[row.name], task) for row in several if row.name in named}
        yield from filter(None, [unread(task, runs)])
    yield from _unmatched(comparable, pairs, baseline)


def _budget(record: TaskRecord, responses: Responses) -> tuple[str, str, str]:
    """The budget of a run as a fact; one that is not known differs from none if it cut nothing."""
    differs = (
        "Accuracies and lengths are not comparable; under the smallest of the budgets they are "
        "(Smaller budgets)."
    )
    if record.max_tokens is not None:
        return "budget", f"{record.max_tokens:,} tokens", differs
    if responses.truncated.any():
        return "budget", "not known, and it cut answers", differs
    return "budget not known", "no answer was cut, as far as the log says", ""


def _facts(run: Run) -> Iterator[tuple[str, str, str]]:
    """What, its value, and why a difference matters, for what all tasks of a run share."""
    made, sampling = run.experiment, run.experiment.sampling
    drawn = f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
    if sampling.temperature == 0:
        drawn = "greedy"
    if not sampling.recorded:
        drawn = UNKNOWN
    yield "sampling", drawn, "Part of each difference may be its doing."
    yield "seed", str(sampling.seed) if sampling.recorded else UNKNOWN, ""
    yield "chat template", made.template, "The models were not asked in the same words."
    yield (
        "grader",
        made.grader,
        "Graders differ by as much as models: grade all again with laconic grade RUN...",
    )
    yield "dtype", made.dtype, "Rounding alone changes long answers."
    yield "engine", made.backend, "Engines sample and round differently."
    device = run.provenance.get("device")
    if isinstance(device, str):
        yield "device", device, ""
    versions = run.provenance.get("versions")
    if isinstance(versions, dict):
        yield "versions", ", ".join(f"{name} {v}" for name, v in versions.items()), ""


def _unequal(
    by_task: Mapping[str, Sequence[ReportRow]], facts: Sequence[Condition]
) -> Iterator[str]:
    """Settings that differ between runs of one task, each said once."""
    told: set[tuple[str, str | None, tuple[str, ...]]] = set()
    for task, rows in by_task.items():
        for fact in facts:
            held = _held(fact, task, rows)
            key = (fact.what, fact.task, tuple(value for value, _ in held))
            if len(held) > 1 and key not in told:
                told.add(key)
                yield (
                    f"{f'{task}: the' if fact.task else 'The'} runs differ in {fact.what}: "
                    f"{'; '.join(f'{value} ({some(names)})' for value, names in held)}. "
                    f"{fact.matters}"
                )


def unequal(rows: Sequence[ReportRow], facts: Sequence[Condition]) -> dict[str, tuple[str, ...]]:
    """By task, in what its runs were not measured alike; tasks without are left out."""
    by_task: dict[str, list[ReportRow]] = defaultdict(list)
    for row in rows:
        by_task[row.task].append(row)
    found = {
        task: tuple(fact.what for fact in facts if len(_held(fact, task, several)) > 1)
        for task, several in by_task.items()
    }
    return {task: whats for task, whats in found.items() if whats}


def _held(fact: Condition, task: str, rows: Sequence[ReportRow]) -> list[tuple[str, list[str]]]:
    """The values that runs of a task have, with the runs; none where a difference is harmless."""
    if not fact.matters or fact.task not in {None, task}:
        return []
    here = {row.name for row in rows}
    values = [(value, [name for name in names if name in here]) for value, names in fact.values]
    return [(value, names) for value, names in values if names]


def _unrecorded(rows: Sequence[ReportRow], facts: Sequence[Condition]) -> Iterator[str]:
    """What nobody can tell, as every run of several leaves it out."""
    if len({row.name for row in rows}) > 1:
        lost = [
            fact.what
            for fact in facts
            if fact.matters and all(value == UNKNOWN for value, _ in fact.values)
        ]
        if lost:
            yield (
                f"No run records its {', '.join(lost)}: whether they were measured alike cannot be "
                "told."
            )


def _unfinished(rows: Sequence[ReportRow], named: Mapping[str, Run]) -> Iterator[str]:
    for name, run in named.items():
        if not run.complete:
            there = sum(row.summary.n for row in rows if row.name == name)
            asked = sum(map(run.experiment.answers, run.experiment.tasks))
            yield (
                f"{name} is unfinished: {there:,} of {asked:,} answers so far. Its numbers will "
                "change; run the same laconic eval again to finish it."
            )


def _inferred(named: Mapping[str, Run]) -> Iterator[str]:
    """What an imported log did not say, and what a lost run.json cannot."""
    told: dict[str, list[str]] = defaultdict(list)
    for name, run in named.items():
        notes = run.provenance.get("notes")
        for note in notes if isinstance(notes, list) else ():
            source = "Imported from a log: " if run.experiment.backend == "import" else ""
            told[f"{source}{note}"].append(name)
    for note, names in told.items():
        yield f"{note} ({some(names)})."


def _cut(task: str, rows: Sequence[ReportRow]) -> Iterator[str]:
    cut = [row for row in rows if row.summary.truncated > TRUNCATED]
    if cut:
        shares = [f"{row.name} {percent(row.summary.truncated)}" for row in cut]
        yield (
            f"{task}: more than {percent(TRUNCATED)} of the answers were cut off by the budget: "
            f"{some(shares)}. Their true lengths are greater, and their accuracies with room to "
            "finish may be too."
        )


def _thoughtless(task: str, rows: Sequence[ReportRow], baseline: str) -> Iterator[str]:
    usual = next((row.summary.thinking for row in rows if row.name == baseline), 0.0)
    lost = [
        row
        for row in rows
        if row.role in {"merge", "system2"} and row.summary.thinking < usual - THINKING_LOST
    ]
    if lost:
        shares = [f"{row.name} {percent(row.summary.thinking)}" for row in lost]
        yield (
            f"{task}: fewer answers close a thought with </think> than {baseline}'s "
            f"{percent(usual)}: {some(shares)}. These models have partly lost the switch between "
            "thinking and answering."
        )


def _ungraded(task: str, rows: Sequence[ReportRow]) -> Iterator[str]:
    failed = {
        row.name: row.summary.outcomes["grader_timeout"] + row.summary.outcomes["grader_error"]
        for row in rows
    }
    counts = [f"{name} {n:,}" for name, n in failed.items() if n]
    if counts:
        yield (f"{task}: the grader gave up on some answers, which count as wrong: {some(counts)}.")


def _answers(run: Run, task: str) -> list[Result]:
    return [result for result in run.results if result.task == task]


def _unmatched(rows: Sequence[ReportRow], pairs: Sequence[Pair], baseline: str) -> Iterator[str]:
    """What the pairs do not cover."""
    paired = {(p.name, p.task) for p in pairs}
    for task in dict.fromkeys(row.task for row in rows):
        alone = [
            row.name
            for row in rows
            if row.task == task and row.name != baseline and (row.name, task) not in paired
        ]
        if alone:
            yield (
                f"{task}: {some(alone)} and {baseline} have no problem in common, so nothing is "
                "compared. Evaluate both on the same problems."
            )
    for p in pairs:
        if p.unmatched:
            yield (
                f"{p.task}: {p.name} against {p.baseline} rests on the {p.n:,} problems that both "
                f"answered; {p.unmatched:,} were answered by only one of them."
            )
