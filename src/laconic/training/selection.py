"""Which checkpoint is the best: the shortest of those that are good enough. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from laconic.training.recipe import SelectSection

#: Between the evaluations of a plateau no weight differs by more.
STILL: Final = 0.02
#: Nor the mean length, as a fraction of it.
LEVEL: Final = 0.02


@dataclass(frozen=True)
class Candidate:
    """A checkpoint as the dev problems saw it, or a reference.

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
        """What `to_dict` gave."""
        return cls(int(values["step"]), *(float(values[k]) for k in list(cls.__annotations__)[1:]))


def lacking(candidate: Candidate, system2: Candidate, rule: SelectSection) -> str:
    """Why a candidate is not good enough, in words; empty where it is."""
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
    """Candidates, best first: the good enough by length, then the others by accuracy."""

    def order(candidate: Candidate) -> tuple[float, ...]:
        if lacking(candidate, system2, rule):
            return (1, -candidate.accuracy, candidate.length, candidate.step)
        return (0, candidate.length, -candidate.accuracy, candidate.step)

    return sorted(candidates, key=order)


def should_stop(candidates: Sequence[Candidate], system2: Candidate, rule: SelectSection) -> str:
    """Why training should stop, in words; empty where it should go on.

    Args:
        candidates: All so far, in order.
        system2: The reference.
        rule: What is asked.
    """
    if rule.patience is None or not candidates:
        return ""
    best = ranked(candidates, system2, rule)[0]
    since = len(candidates) - 1 - [c.step for c in candidates].index(best.step)
    if since < rule.patience:
        return ""
    return f"no better checkpoint than step {best.step}'s in {since} evaluations"


def settled(records: Sequence[Mapping[str, Any]], rule: SelectSection) -> str:
    """Why nothing more is to come, in words; empty where something moves still.

    On a plateau neither the mixture nor the mean length moved by 2 % over so many evaluations, nor
    the accuracy by more than its standard error. A mixture that has never moved is not steered by
    what is measured, and says nothing.

    Args:
        records: What each evaluation said and did, in order, as the log holds it.
        rule: How many evaluations a plateau takes.
    """
    if rule.plateau is None or len(records) <= rule.plateau:
        return ""
    if all(record["before"] == record["after"] for record in records):
        return ""
    recent = records[-rule.plateau - 1 :]
    weights = [record["after"] for record in recent]
    measured = [record["measured"] for record in recent]
    moved = max(_spread(one[pool] for one in weights) for pool in weights[0])
    lengths, accuracies = ([one[key] for one in measured] for key in ("length", "accuracy"))
    still = (
        moved < STILL
        and _spread(lengths) < LEVEL * max(lengths)
        and _spread(accuracies) <= max(one["accuracy_se"] for one in measured) + 1e-9
    )
    if not still:
        return ""
    return (
        f"mixture, length and accuracy stand still since step {recent[0]['step']}, "
        f"{rule.plateau} evaluations ago"
    )


def _spread(values: Iterable[float]) -> float:
    found = list(values)
    return max(found) - min(found)
