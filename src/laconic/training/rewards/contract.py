"""What a reward is: a pure function from graded answers to numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from laconic.errors import LaconicError, RecipeError, TrainError
from laconic.registry import Plugin, Registry, parse_spec

if TYPE_CHECKING:
    from laconic.runs.run import Result

#: What a reward remembers from one step to the next: JSON, saved with each checkpoint.
RewardState = Mapping[str, Any]
Reward = Callable[..., tuple[Sequence[float], RewardState]]
F = TypeVar("F", bound=Reward)
REWARDS: Registry[Reward] = Registry("reward", "laconic.training.rewards")


@dataclass(frozen=True)
class AnswerGroups:
    """Which answers belong to one prompt, and the length that each prompt allows.

    Attributes:
        prompts: The number of the prompt that each result answers, from 0, ``[result]``.
        max_lengths: The most tokens that an answer to each prompt may have, ``[prompt]``.
    """

    prompts: tuple[int, ...]
    max_lengths: tuple[int, ...]

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """The places of the results that answer each prompt, ``[prompt][answer]``."""
        places: list[list[int]] = [[] for _ in self.max_lengths]
        for place, prompt in enumerate(self.prompts):
            places[prompt].append(place)
        return tuple(map(tuple, places))


def reward(*, logged_as: str = "") -> Callable[[F], F]:
    """Register a function ``(results, group, state, *, ...) -> (rewards, state)``.

    It is pure: it changes none of its inputs, and equal inputs give equal rewards. `results` are
    graded answers (`Result`), `group` is an `AnswerGroups`, `state` is empty before the first step.
    It returns one finite number a result, in their order, and the state for the next step, as JSON
    holds it. Its keyword-only arguments are written ``NAME:key=value,...`` in a recipe.

    Args:
        logged_as: What steps.jsonl calls it, ``rewards/<this>/mean``; its name by default.
    """

    def register(function: F) -> F:
        return REWARDS.register(function, {"logged_as": logged_as or function.__name__})

    return register


@dataclass(frozen=True)
class WeightedReward:
    """A reward with a value for every argument, and its weight in the sum.

    Attributes:
        name: Its name.
        params: Its arguments.
        weight: What its rewards are multiplied by.
    """

    name: str
    params: Mapping[str, Any]
    weight: float

    @property
    def logged_as(self) -> str:
        """What steps.jsonl calls it."""
        label: str = self._plugin.traits["logged_as"]
        return label

    def score(
        self, results: Sequence[Result], group: AnswerGroups, state: RewardState
    ) -> tuple[list[float], dict[str, Any]]:
        """The rewards of some answers, without the weight, and the state for the next step.

        Raises:
            TrainError: For a number of rewards that is not that of the results, a reward that is
                not finite, or a state that JSON cannot hold.
        """
        rewards, after = self._plugin.function(results, group, state, **self.params)
        if len(rewards) != len(results) or not all(map(math.isfinite, rewards)):
            raise TrainError(
                f"Reward {self.name} gave {list(rewards)[:8]}... for {len(results)} answers: it "
                "must give one finite number an answer. Correct the reward."
            )
        try:
            saved: dict[str, Any] = json.loads(json.dumps(after, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise TrainError(
                f"The state of reward {self.name} cannot be saved as JSON: {error}. Correct the "
                "reward."
            ) from None
        return list(map(float, rewards)), saved

    @property
    def _plugin(self) -> Plugin[Reward]:
        return REWARDS.get(self.name)


def load_rewards(weights: Mapping[str, float], *, where: str) -> tuple[WeightedReward, ...]:
    """The rewards that a recipe names, their arguments checked and filled in.

    Args:
        weights: Weights by reward, ``NAME`` or ``NAME:key=value,...``.
        where: The recipe's key, for messages.

    Raises:
        RecipeError: For no reward, an unknown one, one that is named twice, a weight that is not
            finite, or an argument that does not exist or is out of range.
    """
    chosen = []
    for spec, weight in weights.items():
        try:
            name, params = parse_spec(spec)
            values = REWARDS.get(name).bind(params, where=f"reward {name}")
        except LaconicError as error:
            raise RecipeError(f"{where}: {error}") from None
        if not math.isfinite(weight):
            raise RecipeError(f"{where}: the weight of {name} is {weight}.")
        chosen.append(WeightedReward(name, values, float(weight)))
    names = [one.name for one in chosen]
    if not names or len(set(names)) < len(names):
        raise RecipeError(
            f"{where} names {', '.join(names) or 'no reward'}: name at least one "
            "reward, and each once, as rewards: {correct_within_limit: 1}."
        )
    return tuple(chosen)
