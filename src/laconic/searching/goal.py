"""What a search is after: constraints, and when a candidate is not worth more problems."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from laconic.errors import RunError
from laconic.stats import Estimate, columns, hypervolume, overall, pair
from laconic.stats.bounded import Z
from laconic.stats.difficulty import level
from laconic.stats.intervals import average
from laconic.stats.notworse import verdict

if TYPE_CHECKING:
    from laconic.runs.run import Result
    from laconic.stats import Overall, Verdict

About = Literal["accuracy", "length"]
#: The loss of accuracy, a fraction, that counts as none where the user sets no constraint.
MARGIN: Final = 0.02
#: Nobody is dropped for the front's sake on fewer responses than this.
FEWEST: Final = 40
#: How far towards the hopeful end of its 95 % interval a difference is believed.
OPTIMISM: Final = 0.6
#: A candidate that can add no more than this share to the front's hypervolume is not worth more.
LEAST: Final = 0.02
_FORM: Final = re.compile(
    r"(?P<about>accuracy|length)(?P<sign>>=|<=)"
    r"(?:(?P<reference>system1|system2)(?:(?P<operator>[-+*])(?P<number>[\d.]+))?"
    r"|(?P<plain>[\d.]+))"
)


@dataclass(frozen=True)
class ModelSummary:
    """The results of one model in five numbers; every task counts the same.

    Attributes:
        accuracy: Share that is right.
        length: Mean completion tokens.
        thinking: Share of responses in which ``</think>`` closed a thought.
        truncated: Share that the budget cut.
        n: How many responses.
    """

    accuracy: Estimate
    length: Estimate
    thinking: float
    truncated: float
    n: int

    def plain(self) -> dict[str, Any]:
        """The numbers as trials.jsonl writes them."""
        return asdict(self)


def summarise_model(results: Sequence[Result]) -> ModelSummary:
    """The results of one model in five numbers.

    Raises:
        RunError: If there are none.
    """
    tasks = [columns(rows) for rows in by_task(results).values()]
    if not tasks:
        raise RunError("There are no results to sum up yet.")
    levels = [level(task) for task in tasks]
    return ModelSummary(
        accuracy=average([one.accuracy for one in levels]),
        length=average([one.length for one in levels]),
        thinking=sum(float(task.thinks.mean()) for task in tasks) / len(tasks),
        truncated=sum(float(task.truncated.mean()) for task in tasks) / len(tasks),
        n=len(results),
    )


def versus(results: Sequence[Result], others: Sequence[Result]) -> Overall:
    """Compare two models on the problems that both answered; every task counts the same.

    Raises:
        RunError: If they share no problem.
    """
    ours, theirs = by_task(results), by_task(others)
    return overall(
        [
            pair(rows, theirs[task], name="candidate", against="rival", margin=0.0)
            for task, rows in ours.items()
            if task in theirs
        ]
    )


def by_task(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results by their task."""
    tasks: dict[str, list[Result]] = {}
    for result in results:
        tasks.setdefault(result.task, []).append(result)
    return tasks


@dataclass(frozen=True)
class Constraint:
    """What a candidate must meet.

    Attributes:
        about: Accuracy (at least) or length (at most).
        reference: ``system1`` or ``system2``; None for a number as it stands.
        number: The bound; beside a reference what is added to its accuracy, a fraction, or what
            its length is multiplied by.
    """

    about: About
    reference: str | None
    number: float

    def verdict(
        self, results: Sequence[Result], references: Mapping[str, Sequence[Result]]
    ) -> Verdict:
        """Whether results are shown to meet it, shown to break it, or neither (95 %)."""
        gap = self._gap(results, references)
        return verdict(gap, 0.0) if self.about == "accuracy" else verdict(_turned(gap), 0.0)

    def excess(
        self, results: Sequence[Result], references: Mapping[str, Sequence[Result]]
    ) -> float:
        """By how much results break it as measured; at most 0 if they meet it."""
        gap = self._gap(results, references).value
        return -gap if self.about == "accuracy" else gap

    def _gap(
        self, results: Sequence[Result], references: Mapping[str, Sequence[Result]]
    ) -> Estimate:
        """What is measured minus the bound; for lengths over a reference, as a share of it."""
        own = summarise_model(results)
        if self.reference is None:
            one = own.accuracy if self.about == "accuracy" else own.length
            return _moved(one, -self.number)
        compared = versus(results, references[self.reference])
        if self.about == "accuracy":
            return _moved(compared.accuracy_diff, -self.number)
        return _moved(compared.length_change, 1 - self.number)

    def __str__(self) -> str:
        sign = ">=" if self.about == "accuracy" else "<="
        if self.reference is None:
            return f"{self.about}{sign}{self.number:g}"
        if self.about == "length":
            return f"{self.about}{sign}{self.reference}*{self.number:g}"
        return f"{self.about}{sign}{self.reference}" + (f"{self.number:+g}" if self.number else "")


def read_constraint(text: str) -> Constraint:
    """Parse what a user wrote, such as ``accuracy>=system2-0.01`` or ``length<=900``.

    Raises:
        RunError: For anything else.
    """
    matched = _FORM.fullmatch(text.replace(" ", ""))
    if matched is None:
        raise RunError(
            f"Cannot parse --constraint '{text}'. Examples: accuracy>=system2-0.01, "
            "accuracy>=0.8, length<=system2*0.5, length<=900."
        )
    about: About = "accuracy" if matched["about"] == "accuracy" else "length"
    if (matched["sign"] == ">=") != (about == "accuracy"):
        raise RunError(f"--constraint '{text}': write accuracy>=... or length<=...")
    if (matched["operator"] == "*") != (about == "length") and matched["operator"]:
        raise RunError(
            f"--constraint '{text}': write accuracy>={matched['reference']}-0.01 or "
            f"length<={matched['reference']}*0.5."
        )
    try:
        number = float(matched["plain"] or matched["number"] or (0 if about == "accuracy" else 1))
    except ValueError:
        raise RunError(f"--constraint '{text}': '{matched['plain']}' is no number.") from None
    if about == "accuracy" and number > 1:
        raise RunError(f"--constraint '{text}': accuracy is a fraction, 0.01 is one point.")
    signed = -number if matched["operator"] == "-" else number
    return Constraint(about, matched["reference"], signed)


def stop_reason(
    results: Sequence[Result],
    rivals: Mapping[str, Sequence[Result]],
    constraint: Constraint | None,
    references: Mapping[str, Sequence[Result]],
) -> str:
    """Why a candidate is dropped (pruned), by paired tests on the problems so far.

    Under a constraint, a candidate is dropped if its 95 % interval says that it breaks the
    constraint, or if a rival that meets the constraint is better by a 95 % interval. Without a
    constraint, it is dropped if it can add almost nothing to the front, even if it is as good as
    its intervals against the rivals allow.

    Lengths are judged by their standard errors: they do not allow for what was not seen, such as
    rare answers that run into the budget. The intervals of the proof do.

    Args:
        results: The candidate's.
        rivals: The references, and the models of the front so far, on all problems, by name.
        constraint: What it must keep to, if anything.
        references: System 1 and System 2.

    Returns:
        The reason in words; empty if the candidate is worth more problems.
    """
    if constraint is None:
        return _adds_nothing(results, rivals)
    if constraint.verdict(results, references) == "no":
        return f"breaks {constraint}"
    for name, others in rivals.items():
        if constraint.excess(others, references) > 0:
            continue
        compared = versus(results, others)
        shortest = compared.length_change.value - Z * compared.change_error
        if constraint.about == "accuracy" and shortest > 0:
            return f"longer than {name}, which keeps to {constraint}"
        if constraint.about == "length" and compared.accuracy_diff.high < 0:
            return f"less accurate than {name}, which keeps to {constraint}"
    return ""


def _adds_nothing(results: Sequence[Result], rivals: Mapping[str, Sequence[Result]]) -> str:
    """Whether a candidate at its best would leave the front as it is, by its hypervolume.

    Its best is the rival's accuracy and length on all problems, moved by the paired difference on
    those that both have seen, taken to `OPTIMISM` of the way to the hopeful end of its interval;
    every rival has a say, and the least hopeful counts.
    """
    if len(results) < FEWEST:
        return ""
    points = {name: _point(summarise_model(others)) for name, others in rivals.items()}
    best, most = 1.0, 0.0
    limits = ("", "")
    for name, others in rivals.items():
        compared = versus(results, others)
        gain, change = compared.accuracy_diff, compared.length_change.value
        accuracy = points[name][0] + gain.value + OPTIMISM * (gain.high - gain.value)
        length = points[name][1] * (1 + change - OPTIMISM * Z * compared.change_error)
        if accuracy < best:
            best, limits = accuracy, (name, limits[1])
        if length > most:
            most, limits = length, (limits[0], name)
    corner = min(p[0] for p in points.values()), max(p[1] for p in points.values())
    now = hypervolume(points, corner)
    then = hypervolume({**points, "": (best, most)}, corner)
    if now == 0 or then > (1 + LEAST) * now:
        return ""
    rival_names = " and ".join(dict.fromkeys(limits))
    return f"beside {rival_names} it can add at most {max(then / now - 1, 0):.1%} to the front"


def _point(one: ModelSummary) -> tuple[float, float]:
    return one.accuracy.value, one.length.value


def _moved(one: Estimate, by: float) -> Estimate:
    return Estimate(one.value + by, one.low + by, one.high + by)


def _turned(one: Estimate) -> Estimate:
    return Estimate(-one.value, -one.high, -one.low)
