"""The three models of the lab that the studies merge and train, and recipes of their merges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laconic.lab.phases import MEMBERS
from laconic.merging.recipe import Recipe


@dataclass(frozen=True)
class Family:
    """The three models of one training.

    Attributes:
        base: What both others were fine-tuned from.
        system1: The fast one.
        system2: The thinking one.
    """

    base: str
    system1: str
    system2: str

    @classmethod
    def at(cls, folder: str | Path | None = None) -> Family:
        """The family in a folder of ``laconic lab train``; the shipped one by default."""
        if folder is None:
            return cls(*(f"lab:{member}" for member in MEMBERS))
        return cls(*(str(Path(folder).resolve() / member) for member in MEMBERS))

    @property
    def members(self) -> dict[str, str]:
        """The models by name."""
        return {name: getattr(self, name) for name in MEMBERS}

    def one(self, method: str = "task_arithmetic", **keys: Any) -> Recipe:
        """System 2's vector on the base."""
        return Recipe([self.system2], method, base=self.base, **keys)

    def both(self, method: str, **keys: Any) -> Recipe:
        """Both vectors on the base."""
        models = [self.system1, self.system2]
        return Recipe(models, method, base=self.base, system2=self.system2, **keys)

    def pair(self, method: str, **keys: Any) -> Recipe:
        """System 1 and System 2 themselves, without the base."""
        return Recipe([self.system1, self.system2], method, system2=self.system2, **keys)
