"""The lab's recipe as data: which phase is trained from which, on what, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from laconic.lab.corpus import Part
from laconic.lab.fit import LearningRateSchedule

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The three models that ship; every other phase only leads to them.
MEMBERS: Final = ("base", "system1", "system2")
#: Share of right fast products left out of the loss, so that mental multiplication stays imperfect.
MUTE: Final = 0.6
#: Where more of the dev problems than this have an operation read wrongly, a phase goes on: whether
#: a network learns to tell lines with the same operator apart depends on the seed.
MISREAD: Final = 0.1
#: Further rounds of a phase, at most.
ROUNDS: Final = 2


@dataclass(frozen=True)
class Phase:
    """One training run of the family.

    Attributes:
        name: What it makes.
        start: The earlier phase whose weights it starts from; None for a fresh network.
        parts: Its corpus, read part by part.
        budget: Tokens of one batch, padding included.
        schedule: Learning rates and weight decay.
        remedy: The corpus of a further round where operations are read wrongly; its first part
            says in which style they are asked for. Empty for phases that are not asked.
        round: How many rounds went before this one.
    """

    name: str
    start: str | None
    parts: tuple[Part, ...]
    budget: int
    schedule: LearningRateSchedule
    remedy: tuple[Part, ...] = ()
    round: int = 0

    @property
    def title(self) -> str:
        """What its draws and its progress are called."""
        return f"{self.name} {self.round}" if self.round else self.name

    def rounds(self) -> Iterator[Phase]:
        """The phase, and the further rounds that it may take."""
        yield self
        for number in range(1, ROUNDS + 1):
            if self.remedy:
                yield replace(self, start=self.name, parts=self.remedy, round=number)


#: Small batches matter: single operations are learned after a number of steps, not of tokens.
PHASES: Final = (
    Phase(
        "drill",
        None,
        (Part("drill", 4800),),
        budget=480,
        schedule=LearningRateSchedule(1.5e-3, floor=0.1, warmup=50),
    ),
    Phase(
        "skills",
        "drill",
        (Part("skill", 5500), Part("base", 3000)),
        budget=768,
        schedule=LearningRateSchedule(1.2e-3),
    ),
    Phase(
        "base",
        "skills",
        (Part("skill", 5000, MUTE), Part("base", 3500, MUTE)),
        budget=768,
        schedule=LearningRateSchedule(1e-3),
        remedy=(Part("skill", 2500, MUTE, even=True), Part("base", 3500, MUTE)),
    ),
    Phase(
        "system1",
        "base",
        (Part("instruct", 600, MUTE),),
        budget=1024,
        schedule=LearningRateSchedule(3e-4, decay=0.0, warmup=20),
    ),
    Phase(
        "system2",
        "base",
        (Part("thinking", 2600, MUTE),),
        budget=1024,
        schedule=LearningRateSchedule(5e-4, decay=0.0, warmup=20),
    ),
)
