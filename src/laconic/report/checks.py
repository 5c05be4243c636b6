"""What makes a comparison unfair: settings that differ, cut or missing answers, lost thoughts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laconic.report.words import percent, some

if TYPE_CHECKING:
    from laconic.report.data import Row
    from laconic.run import Result, Run
    from laconic.stats import Pair

TRUNCATED = 0.05
THINKING_LOST = 0.2


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
    named: Mapping[str, Run], parts: Mapping[tuple[str, str], list[Result]]
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
                budget, asked = f"{record.max_tokens:,} tokens", f"{record.problems:,} problems"
                facts = [
                    ("budget", budget, "Accuracies and lengths are not comparable."),
                    (
                        "problems",
                        f"{asked}, digest {record.digest[:8]}",
                        "The problems or their wording are not the same; pairs rest on those "
                        "with the same id and answer.",
                    ),
                ]
                if record.repeats:
                    facts.append(("answers a problem", str(record.repeats), ""))
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
    rows: Sequence[Row],
    pairs: Sequence[Pair],
    named: Mapping[str, Run],
    facts: Sequence[Condition],
    baseline: str,
) -> Iterator[str]:
    """Whatever a reader must know before believing a number, one sentence or two each."""
    by_task: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_task[row.task].append(row)
    yield from _unequal(by_task, facts)
    yield from _unfinished(rows, named)
    yield from _inferred(named)
    for task, several in by_task.items():
        yield from _cut(task, several)
        yield from _thoughtless(task, several, baseline)
        yield from _ungraded(task, several)
    yield from _unmatched(by_task, pairs, baseline)


def _facts(run: Run) -> Iterator[tuple[str, str, str]]:
    """What, its value, and why a difference matters, for what all tasks of a run share."""
    made, sampling = run.experiment, run.experiment.sampling
    drawn = f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}"
    if sampling.temperature == 0:
        drawn = "greedy"
    if not sampling.recorded:
        drawn = "not recorded"
    if not any(task.repeats for task in made.tasks):
        repeats = "1 answer" if sampling.repeats == 1 else f"{sampling.repeats} answers"
        drawn += f", {repeats} a problem"
    yield "sampling", drawn, "Part of each difference may be its doing."
    yield "seed", str(sampling.seed) if sampling.recorded else "not recorded", ""
    yield "chat template", made.template, "The models were not asked in the same words."
    yield "grader", made.grader, "Graders differ by as much as models: grade again with one."
    yield "dtype", made.dtype, "Rounding alone changes long answers."
    yield "engine", made.backend, "Engines sample and round differently."
    device = run.provenance.get("device")
    if isinstance(device, str):
        yield "device", device, ""
    versions = run.provenance.get("versions")
    if isinstance(versions, dict):
        yield "versions", ", ".join(f"{name} {v}" for name, v in versions.items()), ""


def _unequal(by_task: Mapping[str, Sequence[Row]], facts: Sequence[Condition]) -> Iterator[str]:
    """Settings that differ between runs of one task."""
    told = set()
    for task, rows in by_task.items():
        here = {row.name for row in rows}
        for fact in facts:
            if not fact.matters or fact.task not in {None, task}:
                continue
            values = [(v, [n for n in names if n in here]) for v, names in fact.values]
            held = [(value, names) for value, names in values if names]
            sentence = (
                f"{f'{task}: the' if fact.task else 'The'} runs differ in {fact.what}: "
                f"{'; '.join(f'{value} ({some(names)})' for value, names in held)}. {fact.matters}"
            )
            if len(held) > 1 and sentence not in told:
                told.add(sentence)
                yield sentence


def _unfinished(rows: Sequence[Row], named: Mapping[str, Run]) -> Iterator[str]:
    for name, run in named.items():
        if not run.complete:
            there = sum(row.summary.n for row in rows if row.name == name)
            usual = run.experiment.sampling.repeats
            asked = sum(t.problems * (t.repeats or usual) for t in run.experiment.tasks)
            yield (
                f"{name} is unfinished: {there:,} of {asked:,} answers so far. Its numbers will "
                "change; run the same laconic eval again to finish it."
            )


def _inferred(named: Mapping[str, Run]) -> Iterator[str]:
    """What an imported log did not say."""
    told: dict[str, list[str]] = defaultdict(list)
    for name, run in named.items():
        notes = run.provenance.get("notes")
        for note in notes if isinstance(notes, list) else ():
            told[str(note)].append(name)
    for note, names in told.items():
        yield f"Imported from a log: {note} ({some(names)})."


def _cut(task: str, rows: Sequence[Row]) -> Iterator[str]:
    cut = [row for row in rows if row.summary.truncated > TRUNCATED]
    if cut:
        shares = [f"{row.name} {percent(row.summary.truncated)}" for row in cut]
        yield (
            f"{task}: more than {percent(TRUNCATED)} of the answers were cut off by the budget: "
            f"{some(shares)}. Their true lengths are greater, and their accuracies with room to "
            "finish may be too."
        )


def _thoughtless(task: str, rows: Sequence[Row], baseline: str) -> Iterator[str]:
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


def _ungraded(task: str, rows: Sequence[Row]) -> Iterator[str]:
    failed = {
        row.name: row.summary.outcomes["grader_timeout"] + row.summary.outcomes["grader_error"]
        for row in rows
    }
    counts = [f"{name} {n:,}" for name, n in failed.items() if n]
    if counts:
        yield (f"{task}: the grader gave up on some answers, which count as wrong: {some(counts)}.")


def _unmatched(
    by_task: Mapping[str, Sequence[Row]], pairs: Sequence[Pair], baseline: str
) -> Iterator[str]:
    """What the pairs do not cover."""
    paired = {(p.name, p.task) for p in pairs}
    for task, rows in by_task.items():
        alone = [r.name for r in rows if r.name != baseline and (r.name, task) not in paired]
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
