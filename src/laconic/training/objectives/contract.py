"""What an objective is: a function that says which TRL trainer trains, with which settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from laconic.errors import RecipeError
from laconic.registry import Plugin, Registry, parse_spec

if TYPE_CHECKING:
    from laconic.training.recipe import TrainRecipe

#: What an objective trains on: packed answers, packed pairs of a preferred and a rejected answer,
#: or problems of a task that the model answers during training.
Data = Literal["rows", "pairs", "problems"]
#: The objective of a recipe that names none.
DEFAULT: Final = "sft"


@dataclass(frozen=True)
class TrlParts:
    """What an objective takes from TRL.

    Attributes:
        config: TRL's class of settings.
        options: The settings that this objective decides; the others come from the recipe and are
            the same for all objectives.
        trainer: Builds the trainer: a subclass of `MixtureTrainer` and a trainer of TRL, or a
            function that takes the same keyword arguments.
    """

    config: Callable[..., Any]
    trainer: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ProblemSource:
    """The problems that a model answers during training.

    Attributes:
        task: A task, ``NAME`` or ``NAME:key=value,...``, or a file of problems.
        group: How often each problem is answered in one step.
        longest: The most tokens of an answer, over all steps.
        limit: Use only the first so many problems; None uses all.
        prompt: A prompt's name, or the user's turn with ``{problem}``.
        data: The problems of a named task: a file, or a folder of files.
    """

    task: str
    group: int
    longest: int
    limit: int | None = None
    prompt: str = "{problem}"
    data: str | None = None


Build = Callable[..., TrlParts]
F = TypeVar("F", bound=Build)
OBJECTIVES: Registry[Build] = Registry("objective", "laconic.training.objectives")


def objective(
    *,
    data: Data,
    check: Callable[..., None] | None = None,
    problems: Callable[..., ProblemSource] | None = None,
    generated_tokens: Callable[..., int] | None = None,
    optional: tuple[str, ...] = (),
    example: Mapping[str, Any] | None = None,
) -> Callable[[F], F]:
    """Register a function ``(recipe, *, ...) -> TrlParts``.

    Its keyword-only arguments are the keys of ``objective: {NAME: {...}}`` in a recipe. The
    registry imports its module when a recipe is read, so it imports torch and TRL itself, inside.

    Args:
        data: What it trains on. Only objectives on rows train on a mixture of several pools.
        check: Called with the number of steps and all arguments by name; raises a RecipeError for
            values that do not fit together.
        problems: Called with all arguments by name; gives the problems, where `data` is problems.
        generated_tokens: Called with a step and all arguments by name; gives the most tokens that
            the model generates for one answer in that step. None: it generates nothing.
        optional: Arguments that a recipe's plain form leaves out at their default. An argument that
            is added later belongs here: the digests of older recipes then stay as they are.
        example: Values for arguments without a default: the contract tests' choice.
    """

    def register(function: F) -> F:
        traits = {
            "data": data,
            "check": check,
            "problems": problems,
            "generated_tokens": generated_tokens,
            "optional": optional,
            "example": example or {},
        }
        return OBJECTIVES.register(function, traits)

    return register


@dataclass(frozen=True)
class Objective:
    """An objective with a value for every argument.

    Attributes:
        name: Its name.
        params: Its arguments.
    """

    name: str
    params: Mapping[str, Any]

    @property
    def data(self) -> Data:
        """What it trains on."""
        kind: Data = self._plugin.traits["data"]
        return kind

    @property
    def mixes(self) -> bool:
        """Whether it trains on several pools, whose shares a controller may move."""
        return self.data == "rows"

    @property
    def unit(self) -> str:
        """What a recipe's batch counts, in the plural."""
        return "answers" if self.data == "problems" else self.data

    def check(self, steps: int) -> None:
        """Refuse arguments that do not fit together, or do not fit the number of steps.

        Raises:
            RecipeError: With the argument.
        """
        if check := self._plugin.traits["check"]:
            check(steps, **self.params)

    @property
    def problems(self) -> ProblemSource:
        """The problems of an objective on problems."""
        source: ProblemSource = self._plugin.traits["problems"](**self.params)
        return source

    def generated_tokens(self, steps: int) -> float:
        """The most tokens generated for one answer, as a mean over the steps of a run."""
        generated = self._plugin.traits["generated_tokens"]
        if generated is None:
            return 0.0
        total: int = sum(generated(step, **self.params) for step in range(steps))
        return total / steps

    def trl(self, recipe: TrainRecipe) -> TrlParts:
        """The trainer's class and settings; imports torch and TRL.

        Raises:
            TrainError: For settings that this machine cannot run.
        """
        return self._plugin.function(recipe, **self.params)

    def to_plain(self) -> str | dict[str, Any]:
        """As a recipe holds it: its name alone where it has no arguments."""
        optional = self._plugin.traits["optional"]
        defaults = {p.name: p.default for p in self._plugin.parameters}
        plain = {
            key: value
            for key, value in self.params.items()
            if key not in optional or value != defaults[key]
        }
        return {self.name: plain} if self.params else self.name

    @property
    def _plugin(self) -> Plugin[Build]:
        return OBJECTIVES.get(self.name)


def load_objective(value: object) -> Objective:
    """The objective that a recipe's key ``objective`` means.

    Args:
        value: ``NAME``, ``NAME:key=value,...``, ``{NAME: {key: value}}`` or an `Objective`.

    Raises:
        RecipeError: For an unknown objective, several, or an argument that does not exist or is
            out of range.
    """
    if isinstance(value, Objective):
        return value
    if isinstance(value, str):
        name, params = parse_spec(value)
    elif isinstance(value, Mapping):
        name, params = _only(value)
    else:
        raise RecipeError(f"objective is {value!r}: write a name, or objective: {{dpo: {{}}}}.")
    plugin = OBJECTIVES.get(name)
    if not isinstance(params, Mapping):
        raise RecipeError(f"objective.{name} is {params!r}: write its keys, {{key: value}}.")
    return Objective(name, plugin.bind(params, where="recipe key 'objective'"))


def objectives_on(data: Data) -> str:
    """The names of all objectives on a kind of data, for messages."""
    return " or ".join(p.name for p in OBJECTIVES.all() if p.traits["data"] == data)


def _only(value: Mapping[str, Any]) -> tuple[str, Any]:
    """The one objective of a mapping; none is the default."""
    for name in value:
        OBJECTIVES.get(str(name))
    named = [name for name in value if value[name] is not None]
    if len(named) > 1:
        raise RecipeError(
            f"objective names {len(named)} objectives ({', '.join(named)}); a training has one: "
            "objective: {dpo: {beta: 0.1}}."
        )
    return (named[0], value[named[0]]) if named else (DEFAULT, {})
