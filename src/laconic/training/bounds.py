"""The measurements that move a mixture, and the bounds: those of System 1 and System 2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from laconic.errors import TrainError


@dataclass(frozen=True)
class Measurement:
    """The figures of an evaluation on the dev problems.

    Attributes:
        step: How many optimizer steps were finished; 0 is before training.
        n: The number of responses.
        accuracy: Share of right answers, as a fraction.
        accuracy_se: Its standard error.
        length: Mean completion tokens, thinking included.
        length_se: Its standard error.
        truncated: Share of responses that the budget cut off, as a fraction.
        conditions: Digest of the problems and of the sampling; measurements under different ones
            are never compared.
        excess: By pool, the mean over tokens of max(loss - a reference model's loss, 0), in nats;
            empty where it was not measured.
        excess_se: Its standard errors, by pool.

    Raises:
        TrainError: For a number that no evaluation can give.
    """

    step: int
    n: int
    accuracy: float
    accuracy_se: float
    length: float
    length_se: float
    truncated: float = 0.0
    conditions: str = ""
    excess: Mapping[str, float] = field(default_factory=dict)
    excess_se: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settle = object.__setattr__
        for name in ("step", "n"):
            settle(self, name, int(getattr(self, name)))
        for name in ("accuracy", "accuracy_se", "length", "length_se", "truncated"):
            settle(self, name, float(getattr(self, name)))
        for name in ("excess", "excess_se"):
            settle(self, name, {key: float(v) for key, v in getattr(self, name).items()})
        where = f"The measurement of step {self.step}"
        if self.step < 0 or self.n < 1:
            raise TrainError(
                f"{where} rests on {self.n} responses: it needs at least 1, and no negative step."
            )
        numbers = {k: getattr(self, k) for k in ("accuracy", "accuracy_se", "length", "length_se")}
        numbers |= {"truncated": self.truncated}
        numbers |= {f"excess of '{name}'": value for name, value in self.excess.items()}
        numbers |= {f"excess_se of '{name}'": value for name, value in self.excess_se.items()}
        for name, value in numbers.items():
            if not math.isfinite(value) or value < 0:
                raise TrainError(
                    f"{where}: {name} is {value}. Look at that evaluation's results: the mixture "
                    "is moved by finite numbers of 0 or more only."
                )
        for name in ("accuracy", "truncated"):
            if numbers[name] > 1:
                raise TrainError(
                    f"{where}: {name} is {numbers[name]}; it is a fraction in [0, 1], not per cent."
                )


@dataclass(frozen=True)
class Bounds:
    """The measurements that accuracy and length are compared with.

    Attributes:
        system1: Of the short reasoner.
        system2: Of the model that training starts from.

    Raises:
        TrainError: Where the two are swapped, too close to divide by, or not comparable.
    """

    system1: Measurement
    system2: Measurement

    def __post_init__(self) -> None:
        one, two = self.system1, self.system2
        if one.conditions != two.conditions:
            raise TrainError(
                f"The bounds were measured under different conditions ('{one.conditions}' and "
                f"'{two.conditions}'): measure both on the same problems with the same sampling."
            )
        figures = (
            f"System 1 has accuracy {one.accuracy:g} at {one.length:g} tokens, System 2 "
            f"{two.accuracy:g} at {two.length:g}"
        )
        if one.length > two.length and one.accuracy > two.accuracy:
            raise TrainError(f"The bounds are swapped: {figures}. Exchange them.")
        if self.length_gap < 1:
            raise TrainError(
                f"The bounds leave no length to save: {figures}. System 2 must be at least 1 token "
                "longer; were both measured with their own chat template and the same budget?"
            )
        if self.accuracy_gap < 1e-6:
            raise TrainError(
                f"The bounds leave no accuracy to protect: {figures}. System 2 must be the more "
                "accurate; were both measured with their own chat template and the same budget?"
            )

    @property
    def length_gap(self) -> float:
        """How many tokens longer System 2 answers."""
        return self.system2.length - self.system1.length

    @property
    def accuracy_gap(self) -> float:
        """How much more often System 2 is right, as a fraction."""
        return self.system2.accuracy - self.system1.accuracy
