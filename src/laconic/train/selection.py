"""Which checkpoint is the best: the shortest of those that are good enough. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from laconic.train.recipe import SelectSection


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
