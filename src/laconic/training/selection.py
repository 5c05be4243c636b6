"""Which checkpoint is the best: the shortest of those that are good enough. Pure functions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from laconic.training.recipe import SelectSection

#: On a plateau no weight of the mixture changes by more.
MAX_WEIGHT_CHANGE: Final = 0.02
#: Nor does the mean length, as a fraction of it.
MAX_LENGTH_CHANGE: Final = 0.02


@dataclass(frozen=True)
class Candidate:
    """The measurements of a checkpoint or a reference that the choice compares.

    Attributes:
        step: The optimizer step; 0 for a reference.
        accuracy: Share that is right.
        length: Mean completion tokens.
        truncated: Share that the budget cut.
        thinking: Share in which a thought was closed.
    """

    step: int
    accuracy: float
    length: float
    truncated: float
    thinking: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Candidate:
        """The candidate that `to_dict` gave."""
        return cls(int(values["step"]), *(float(values[k]) for k in list(cls.__annotations__)[1:]))


def lacking(candidate: Candidate, system2: Candidate, rule: SelectSection) -> str:
    """The reason why a candidate is not good enough; empty where it is."""
    if candidate.step < rule.first:
        return f"before step {rule.first}"
    least = system2.accuracy - rule.margin
    if candidate.accuracy < least - 1e-9:
        return f"accuracy {candidate.accuracy:.3f} is below {least:.3f}"
    most = system2.truncated + rule.truncated
    if candidate.truncated > most + 1e-9:
        return f"{candidate.truncated:.1%} cut off, more than {most:.1%}"
    if rule.thinking is not None and candidate.thinking < rule.thinking * system2.thinking - 1e-9:
        return f"closes a thought in {candidate.thinking:.1%}, System 2 in {system2.thinking:.1%}"
    return ""


def ranked(
    candidates: Sequence[Candidate], system2: Candidate, rule: SelectSection
) -> list[Candidate]:
    """Candidates, best first: the good enough ones by length, then the others by accuracy."""

    def order(candidate: Candidate) -> tuple[float, ...]:
        if lacking(candidate, system2, rule):
            return (1, -candidate.accuracy, candidate.length, candidate.step)
        return (0, candidate.length, -candidate.accuracy, candidate.step)

    return sorted(candidates, key=order)


def should_stop(candidates: Sequence[Candidate], system2: Candidate, rule: SelectSection) -> str:
    """The reason to stop after evaluations without a better checkpoint; empty for none.

    Args:
        candidates: All checkpoints so far, in order.
        system2: The measurements of System 2.
        rule: What a good enough checkpoint needs, and after how many evaluations to stop.
    """
    if rule.patience is None or not candidates:
        return ""
    best = ranked(candidates, system2, rule)[0]
    since = len(candidates) - 1 - [c.step for c in candidates].index(best.step)
    if since < rule.patience:
        return ""
    return f"no better checkpoint than step {best.step}'s in {since} evaluations"


def reached_plateau(records: Sequence[Mapping[str, Any]], rule: SelectSection) -> str:
    """The reason to stop on a plateau; empty where something still changes.

    On a plateau the weights of the mixture and the mean length changed by less than 2 % over
    `rule.plateau` evaluations, and the accuracy by at most its standard error. A mixture that never
    changed does not follow the measurements, so it gives no reason to stop.

    Args:
        records: Each evaluation and its effect on the mixture, in order, as mixture.jsonl holds it.
        rule: How many evaluations a plateau takes.
    """
    if rule.plateau is None or len(records) <= rule.plateau:
        return ""
    if all(record["before"] == record["after"] for record in records):
        return ""
    recent = records[-rule.plateau - 1 :]
    weights = [record["after"] for record in recent]
    measured = [record["measured"] for record in recent]
    weight_change = max(_spread(one[pool] for one in weights) for pool in weights[0])
    lengths, accuracies = ([one[key] for one in measured] for key in ("length", "accuracy"))
    unchanged = (
        weight_change < MAX_WEIGHT_CHANGE
        and _spread(lengths) < MAX_LENGTH_CHANGE * max(lengths)
        and _spread(accuracies) <= max(one["accuracy_se"] for one in measured) + 1e-9
    )
    if not unchanged:
        return ""
    return (
        f"mixture, length and accuracy stand still since step {recent[0]['step']}, "
        f"{rule.plateau} evaluations ago"
    )


def _spread(values: Iterable[float]) -> float:
    numbers = list(values)
    return max(numbers) - min(numbers)
