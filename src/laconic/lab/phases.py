"""The lab's recipe as data: which phase is trained from which, on what, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from laconic.lab.corpus import Part
from laconic.lab.fit import Schedule

#: The three models that ship; every other phase only leads to them.
MEMBERS: Final = ("base", "system1", "system2")
#: Share of right fast products left out of the loss, so that mental multiplication stays imperfect.
MUTE: Final = 0.6


@dataclass(frozen=True)
class Phase:
    """One training run of the family.

    Attributes:
        name: What it makes.
        start: The earlier phase whose weights it starts from; None for a fresh network.
        parts: Its corpus, read part by part.
        budget: Tokens of one batch, padding included.
        schedule: Learning rates and weight decay.
    """

    name: str
    start: str | None
    parts: tuple[Part, ...]
    budget: int
    schedule: Schedule


#: Small batches matter: single operations are learned after a number of steps, not of tokens.
PHASES: Final = (
    Phase(
        "drill",
        None,
        (Part("drill", 4800),),
        budget=480,
        schedule=Schedule(1.5e-3, floor=0.1, warmup=50),
    ),
    Phase(
        "skills",
        "drill",
        (Part("skill", 5500), Part("base", 3000)),
        budget=768,
        schedule=Schedule(1.2e-3),
    ),
    Phase(
        "base",
        "skills",
        (Part("skill", 5000, MUTE), Part("base", 3500, MUTE)),
        budget=768,
        schedule=Schedule(1e-3),
    ),
    Phase(
        "system1",
        "base",
        (Part("instruct", 600, MUTE),),
        budget=1024,
        schedule=Schedule(3e-4, decay=0.0, warmup=20),
    ),
    Phase(
        "system2",
        "base",
        (Part("thinking", 2600, MUTE),),
        budget=1024,
        schedule=Schedule(5e-4, decay=0.0, warmup=20),
    ),
)
