"""Numbers in words: the same phrases in every format of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laconic.reporting.comparison import ReportRow, RunComparison
    from laconic.stats import Estimate, NotWorse

MINUS, DASH, INFINITE = "\N{MINUS SIGN}", "\N{EN DASH}", "\N{INFINITY}"
#: The most characters of a name in a chart.
LONGEST_NAME = 30
ROLES = {"system1": "System 1", "system2": "System 2", "base": "base", "merge": "merge"}
KINDS = {
    "accuracy": "accuracy",
    "length": "length",
    "accuracy_diff": "difference of accuracy",
    "length_change": "change of length",
    "overall": "over several tasks",
    "tokens_per_correct": "tokens per right answer",
    "trend": "length with difficulty",
    "front": "on the front",
}
#: By which method each kind of interval is.
INTERVALS: Mapping[str, str] = {
    "accuracy": "score interval of a mean over problems: Wilson's (1927) where each has one answer",
    "length": "score interval of a mean over problems, whatever the lengths up to the budget; an "
    "answer that ran into it, too, though none was seen to",
    "accuracy_diff": "score interval of a mean of paired differences over problems: Tango's (1998) "
    "where each has one answer; repeats count as no further problems",
    "length_change": "score interval of a ratio of means over the shared problems, whatever the "
    "lengths up to the budget",
    "overall": "mean over tasks, variances recovered from the intervals (Zou and Donner 2008)",
    "tokens_per_correct": "score interval of a ratio of means over problems",
    "trend": "Bonett and Wright's interval of Spearman's correlation over problems (2000)",
    "front": "share of 1,000 bootstrap rounds over problems, the same for all runs",
}
INTERVALS_IN_SHORT = (
    "score intervals over problems (Wilson's for accuracy, Tango's for its differences), for any "
    "lengths up to the budget"
)


@dataclass(frozen=True)
class _Rival:
    """A run against the baseline, on one task or over several (where `problems` is None)."""

    name: str
    accuracy_diff: Estimate
    length_change: Estimate
    not_worse: NotWorse
    problems: int | None = None


def plain(text: str) -> str:
    """Text without control characters, escape codes, line breaks or broken bytes."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def finite(value: Any) -> Any:
    """Nested values with null for whatever JSON has no number for, keys as text."""
    if isinstance(value, dict):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def short(name: str) -> str:
    """A name that fits a chart: both ends of a long one."""
    name = plain(name)
    if len(name) <= LONGEST_NAME:
        return name
    half = LONGEST_NAME // 2
    return f"{name[:half]}…{name[-half + 1 :]}"


def number(value: float, digits: int = 1) -> str:
    """A number with a true minus sign; a dash where it is none."""
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return INFINITE if value > 0 else MINUS + INFINITE
    return f"{value:,.{digits}f}".replace("-", MINUS)


def tokens(value: float) -> str:
    """A length: whole tokens, tenths below 100."""
    return number(value, 0 if value >= 100 else 1)


def signed(fraction: float) -> str:
    """A difference of fractions in points or percent, sign included: ``+0.4``."""
    text = number(fraction * 100)
    return text if text.startswith(MINUS) else f"+{text}"


def percent(fraction: float) -> str:
    """A share, such as ``5 %`` or ``12.3 %``."""
    return f"{number(fraction * 100).removesuffix('.0')} %"


def some(names: Sequence[str], most: int = 6) -> str:
    """Names in a row, the rest counted: ``a, b and 7 more``."""
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def share_interval(e: Estimate) -> str:
    """The interval of a share, in percent: ``81.3-86.8``."""
    return f"{number(e.low * 100)}{DASH}{number(e.high * 100)}"


def token_interval(e: Estimate) -> str:
    """The interval of a length: ``1,755-1,931``."""
    return f"{tokens(e.low)}{DASH}{tokens(e.high)}"


def signed_interval(e: Estimate) -> str:
    """The interval of a difference: ``-0.6 to +0.4``."""
    return f"{signed(e.low)} to {signed(e.high)}"


def points(fraction: float) -> str:
    """A margin: ``2 points``."""
    text = number(fraction * 100).removesuffix(".0")
    return f"{text} point{'' if text == '1' else 's'}"


def shorter(change: Estimate, than: str) -> str:
    """A change of length: ``55 % shorter than system2 (95 %: 53-57 %)``."""
    digits = 0 if abs(change.value) >= 0.1 else 1

    def size(value: float) -> str:
        return number(abs(value) * 100, digits)

    def sense(value: float) -> str:
        return "shorter" if value < 0 else "longer"

    near, far = sorted((change.low, change.high), key=abs)
    ends = f"{size(near)}{DASH}{size(far)} %"
    if change.low < 0 < change.high:
        low, high = change.low, change.high
        ends = f"{size(low)} % {sense(low)} to {size(high)} % {sense(high)}"
    return f"{size(change.value)} % {sense(change.value)} than {than} (95 %: {ends})"


def interval_names(c: RunComparison) -> list[str]:
    """Which interval is which, a line each."""
    return [f"{KINDS.get(kind, kind)}: {name}" for kind, name in c.intervals.items()]


def sureness(chance: float | None) -> str:
    """How often a run stands on the front, to a whole percent; a dash where nobody asked."""
    return DASH if chance is None else percent(round(chance, 2))


def front_sentence(c: RunComparison, task: str) -> str:
    """Who stands on the front, and how often when the problems are drawn anew."""
    chances = {row.name: row.details.front for row in c.rows(task)}
    names = [f"{name} ({sureness(chances[name])})" for name in c.pareto[task]]
    return f"Front (none is better in both; how sure): {', '.join(names)}"


def headlines(comparison: RunComparison) -> list[str]:
    """What was found, a sentence over all tasks where there are several, then one for each."""
    c = comparison
    said = []
    if c.overall:
        most = len(c.overall[0].tasks)
        rivals = [_Rival(o.name, o.accuracy_diff, o.length_change, o.not_worse) for o in c.overall]
        whats = dict.fromkeys(what for task in c.unequal.values() for what in task)
        said.append(f"Over {most} tasks: {_headline(c, rivals)}{caution(tuple(whats))}")
    for task in c.tasks:
        rivals = [
            _Rival(p.name, p.accuracy_diff, p.length_change, p.not_worse, p.n)
            for p in c.pairs
            if p.task == task
        ]
        sentence = _headline(c, rivals) if rivals else _alone(c.comparable(task))
        sentence += caution(c.unequal.get(task, ()))
        said.append(f"{task}: {sentence}" if len(c.tasks) > 1 else sentence)
    return said


def caution(whats: Sequence[str]) -> str:
    """What to add to a sentence about runs that were not measured alike."""
    return f" Caution: not measured alike ({some(whats)})." if whats else ""


def _headline(c: RunComparison, rivals: Sequence[_Rival]) -> str:
    """The shortest run that is not worse than the baseline; where there is none, the nearest."""
    merges = {row.name for row in c.runs if row.role == "merge"}
    running = [rival for rival in rivals if rival.name in merges] or list(rivals)
    sound = [r for r in running if r.not_worse.verdict == "yes"]
    if sound:
        best = min(sound, key=lambda r: r.length_change.value)
        opening, link = "", "is "
    else:
        best = max(running, key=lambda r: (r.accuracy_diff.low, -r.length_change.value))
        opening, link = (
            f"No run is shown to be within {points(c.margin)} of {c.baseline}. Nearest is ",
            "",
        )
    difference = best.accuracy_diff
    return (
        f"{opening}{best.name}{' ' + link if link else ', '}"
        f"{shorter(best.length_change, c.baseline)}, accuracy {signed(difference.value)} points "
        f"({signed_interval(difference)}); not worse by more than {points(c.margin)}: "
        f"{best.not_worse.verdict}{_of_many(best.not_worse)}."
        f"{_too_few(best.not_worse, best.problems)}"
    )


def _of_many(found: NotWorse) -> str:
    return f" (corrected for {found.tested} merges tested)" if found.tested > 1 else ""


def _too_few(found: NotWorse, problems: int | None) -> str:
    """What to do where a task has too few problems for its margin; else empty."""
    if problems is None or not unsettled(found, problems):
        return ""
    return (
        f" {problems:,} problems cannot settle {points(found.margin)}: "
        f"about {about(found.settled_by or 0)} would."
    )


def unsettled(found: NotWorse, problems: int) -> bool:
    """Whether a verdict is open because there are too few problems, rather than a difference."""
    return (
        found.verdict == "unclear" and found.settled_by is not None and found.settled_by > problems
    )


def about(n: int) -> str:
    """A rough number of problems: two digits that count."""
    return f"{math.ceil(n / (step := 10 ** max(len(str(n)) - 2, 0))) * step:,}"


def together(verdicts: Sequence[NotWorse]) -> str:
    """How many runs a table's verdicts were corrected for, to add to its caption."""
    most = max((found.tested for found in verdicts), default=1)
    return f"; yes is corrected for {most} merges tested together (Holm 1979)" if most > 1 else ""


def _alone(rows: Sequence[ReportRow]) -> str:
    """What there is to say of runs that nothing is compared with."""
    return " ".join(
        f"{row.name} gets {percent(row.summary.accuracy.value)} right "
        f"(95 %: {share_interval(row.summary.accuracy)} %) with "
        f"{tokens(row.summary.length.value)} tokens an answer "
        f"({token_interval(row.summary.length)})."
        for row in rows[:3]
    )
