"""The specification of a search: ranges, problems, constraint and reference models."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.merging.plan import plan
from laconic.searching.goal import MARGIN, Constraint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.evaluation.problem_set import ProblemSet
    from laconic.searching.space import Space

#: What the winner must keep to where the user sets no constraint.
DEFAULT: Final = Constraint("accuracy", "system2", -MARGIN)


@dataclass(frozen=True)
class SearchSpec:
    """All that decides the result of a search, except how long it goes on.

    Attributes:
        space: Where to look.
        problems: The problems to search on.
        proof: Those to prove the winner on.
        constraint: What candidates must keep to, if anything.
        references: The models to compare with, by ``system2`` and, if there is one, ``system1``.
    """

    space: Space
    problems: ProblemSet
    proof: ProblemSet
    constraint: Constraint | None
    references: Mapping[str, str]

    def facts(self) -> dict[str, Any]:
        """The specification as study.json writes it."""
        strategy = self.problems.tasks[0].strategy
        return {
            "recipe": self.space.values,
            "ranges": [one.plain() for one in self.space.ranges],
            "constraint": str(self.constraint) if self.constraint else None,
            "tasks": [asdict(record) for record in self.problems.records],
            "prove_on": [asdict(record) for record in self.proof.records],
            "sampling": asdict(self.problems.sampling),
            "backend": self.problems.backend,
            **({} if strategy == "single" else {"strategy": strategy}),
        }

    @property
    def goal(self) -> Constraint:
        """What the winner must meet."""
        return self.constraint or DEFAULT

    @property
    def digest(self) -> str:
        """A digest of the specification."""
        identity = [self.facts(), dict(self.references)]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def find_references(
    space: Space, system1: str | None, constraint: Constraint | None
) -> dict[str, str]:
    """The models to compare with, by role."""
    planned = plan(space.middle_recipe())
    fast = system1 or (planned.recipe.base if planned.recipe.base else None)
    references = {"system2": planned.system2.name}
    if fast is not None and fast != planned.system2.name:
        references["system1"] = fast
    if constraint and constraint.reference == "system1" and "system1" not in references:
        raise RunError(f"--constraint {constraint}: which model is System 1? Name it: --system1.")
    return references
