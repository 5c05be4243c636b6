"""The recipe of a training in strict YAML: every key with its type, unit and range."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, Field, PlainSerializer, PlainValidator, ValidationError

from laconic.errors import RecipeError, did_you_mean
from laconic.files.yaml import read_yaml_mapping
from laconic.training.controllers.contract import Role  # noqa: TC001  # pydantic reads the fields' types
from laconic.training.data.mixture import Unit  # noqa: TC001  # the same
from laconic.training.objectives.contract import DEFAULT, Objective, load_objective
from laconic.training.section import Count, Number, Section, Share

if TYPE_CHECKING:
    from pathlib import Path

#: Keys that may change when a run is resumed, because they do not change its result.
NOT_IN_DIGEST = ("evaluator", "workers", "keep", "checkpointing")


#: The objective of a recipe, read and written as `load_objective` says.
ObjectiveKey = Annotated[
    Objective, PlainValidator(load_objective), PlainSerializer(Objective.to_plain)
]


class PoolsSection(Section):
    """The packed rows.

    Attributes:
        folder: The folder that ``laconic data pack`` wrote.
        weights: The first share of each pool; only the named pools are used. They sum to 1; empty
            gives all pools that fit the objective an even share.
        roles: The purpose of pools whose role in the manifest is neither short nor long.
    """

    folder: str
    weights: Mapping[str, Share] = Field(default_factory=dict)
    roles: Mapping[str, Role] = Field(default_factory=dict)


class DevSection(Section):
    """The dev problems: one part moves the mixture, the held-out part measures the result.

    Attributes:
        task: A task, ``NAME`` or ``NAME:key=value,...``, or a file of problems.
        limit: Use only the first so many problems; None uses all.
        samples: Completions per problem.
        heldout: The share of the problems that is held out.
        prompt: A prompt's name, or the user's turn with ``{problem}``.
        data: The problems of a named task: a file, or a folder of files.
    """

    task: str
    limit: Count | None = None
    samples: Count = 1
    heldout: Annotated[Number, Ge(0), Lt(1)] = 0.5
    prompt: str = "{problem}"
    data: str | None = None


class SamplingSection(Section):
    """How completions are drawn, the same for the references and all checkpoints.

    Attributes:
        max_tokens: The most tokens of one completion; None takes the task's own.
        temperature: The sampling temperature; 0 is greedy.
        top_p: The probability mass that is sampled from.
        seed: The seed of the draws; each draw depends on it, the problem and the repeat.
    """

    max_tokens: Count | None = None
    temperature: Annotated[Number, Ge(0)] = 0.0
    top_p: Annotated[Number, Gt(0), Le(1)] = 1.0
    seed: int = 0


class GivenFigures(Section):
    """The figures of a reference that was measured before.

    Attributes:
        accuracy: Share of right answers, as a fraction.
        length: Mean completion tokens.
        n: The number of responses.
        accuracy_se: The standard error of the accuracy; None is that of n independent answers.
        length_se: The standard error of the length, in tokens.
        truncated: Share of responses that the budget cut off.
        thinking: Share of responses that closed a thought.
    """

    accuracy: Share
    length: Annotated[Number, Gt(0)]
    n: Count
    accuracy_se: Annotated[Number, Ge(0)] | None = None
    length_se: Annotated[Number, Ge(0)] = 0.0
    truncated: Share = 0.0
    thinking: Share = 1.0


class BoundsSection(Section):
    """The references: System 1 and System 2.

    Attributes:
        system1: The short model, or its figures.
        system2: The model that training starts from, or its figures; None is `model`.
        folder: Where their runs are kept, so that several trainings share them; None is the
            training's own folder.
    """

    system1: str | GivenFigures
    system2: str | GivenFigures | None = None
    folder: str | None = None


class BatchSection(Section):
    """The rows of one optimizer step: per device, times processes, times accumulation."""

    per_device: Count = 1
    accumulation: Count = 1


class LoraSection(Section):
    """Train adapters instead of all weights.

    Attributes:
        rank: Their rank.
        alpha: Their scale is alpha / rank.
        dropout: In training.
        targets: ``all-linear``, a list of names of modules, or a regular expression over whole
            names.
    """

    rank: Count = 64
    alpha: Count = 128
    dropout: Annotated[Number, Ge(0), Lt(1)] = 0.0
    targets: str | list[str] = "all-linear"


class SelectSection(Section):
    """Which checkpoint is best (the shortest that is good enough), and when to stop.

    Attributes:
        margin: The largest loss of accuracy against System 2, as a fraction.
        truncated: The largest increase of the share of truncated answers against System 2.
        thinking: The smallest share of closed thoughts, relative to System 2's; None for none.
        first: The first step whose checkpoint may be chosen.
        patience: Stop after so many evaluations without a better checkpoint; None never stops.
        plateau: Stop after so many evaluations in which the mixture weights and the mean length
            changed by less than 2 %, and the accuracy by at most its standard error. A mixture
            whose weights never changed does not count. None never stops.
    """

    margin: Share = 0.02
    truncated: Share = 0.02
    thinking: Share | None = 0.98
    first: Count = 1
    patience: Count | None = 8
    plateau: Count | None = 5


class EvaluatorSection(Section):
    """Where the dev problems are answered.

    Attributes:
        where: Which process answers; the weights are always the ones that would be delivered.
            ``inside`` loads them into the processes of the training; ``apart`` runs ``laconic
            eval`` in a process of its own; ``served`` makes a running server read them.
        backend: The engine, which also measures the references: ``transformers`` for ``inside``,
            ``openai:url=...`` for ``served``.
        devices: CUDA_VISIBLE_DEVICES of the process of ``apart``, such as ``6,7``.
        name: The server's name of the model; None is `model` as the recipe writes it.
        folder: The folder that weights are copied to for the server, which sees it under the same
            path; None lets it read the run's own folder.
    """

    where: Literal["inside", "apart", "served"] = "inside"
    backend: str = "transformers"
    devices: str | None = None
    name: str | None = None
    folder: str | None = None


class TrainRecipe(Section):
    """A whole training.

    Attributes:
        model: System 2, which training starts from: a folder, a Hub id or a ``lab:`` name.
        objective: What a step makes more likely: ``NAME``, ``NAME:key=value,...`` or ``{NAME:
            {key: value}}``.
        pools: The packed pools; None where the objective trains on problems.
        dev: The dev problems.
        sampling: How completions are drawn.
        bounds: The references; None for controllers without bounds: checkpoints are then compared
            with System 2 alone.
        controller: What moves the mixture: ``NAME``, ``NAME:key=value,...`` or ``{NAME: {key:
            value}}``.
        steps: Optimizer steps.
        every: Steps between two evaluations; each also saves.
        batch: The rows of a step.
        rate: The learning rate.
        schedule: How the rate changes after the warm-up.
        warmup: Steps in which the rate rises to its full value.
        decay: Weight decay.
        max_length: The most tokens of a row; a longer one is an error.
        unit: What the mixture's weights are shares of: samples (rows) or trained tokens.
        seed: The only source of randomness of the training.
        lora: Adapters; None trains all weights.
        select: Which checkpoint is best.
        keep: How many of the best checkpoints are kept, beside the last one.
        workers: Processes that load rows.
        checkpointing: Whether activations are computed twice instead of kept.
        precision: The type of the computation; auto is bfloat16 on a GPU and float32 on a CPU.
        evaluator: Where the dev problems are answered.
    """

    model: str
    objective: ObjectiveKey = Field(default_factory=partial(load_objective, DEFAULT))
    pools: PoolsSection | None = None
    dev: DevSection
    bounds: BoundsSection | None = None
    sampling: SamplingSection = Field(default_factory=SamplingSection)
    controller: str | Mapping[str, Mapping[str, Any]] = "tldr"
    steps: Count
    every: Count
    batch: BatchSection = Field(default_factory=BatchSection)
    rate: Annotated[Number, Gt(0)] = 1e-5
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Annotated[int, Ge(0)] = 0
    decay: Annotated[Number, Ge(0)] = 0.0
    max_length: Count
    unit: Unit = "samples"
    seed: Annotated[int, Ge(0)] = 0
    lora: LoraSection | None = None
    select: SelectSection = Field(default_factory=SelectSection)
    keep: Count = 3
    workers: Annotated[int, Ge(0)] = 0
    checkpointing: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    evaluator: EvaluatorSection = Field(default_factory=EvaluatorSection)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The recipe that plain values describe.

        Raises:
            RecipeError: For a key that does not exist, is missing, or has another type or range.
        """
        try:
            recipe = cls.model_validate(_with_objective(values))
        except ValidationError as error:
            raise RecipeError(_sentence(cls, error.errors()[0])) from None
        if recipe.every > recipe.steps:
            raise RecipeError(
                f"every is {recipe.every}, but there are only {recipe.steps} steps: the mixture "
                "would never move. Make every smaller."
            )
        recipe.objective.check(recipe.steps)
        return recipe

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """The recipe that a file holds.

        Raises:
            RecipeError: As for `from_dict`, and for a file that cannot be read.
        """
        return cls.from_dict(read_yaml_mapping(path, f"The recipe {path}", RecipeError))

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values, defaults filled in."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """A digest of all keys that decide the result; `NOT_IN_DIGEST` names the others."""
        values = {key: value for key, value in self.to_dict().items() if key not in NOT_IN_DIGEST}
        if values["objective"] == DEFAULT:  # runs that began before there were others go on
            del values["objective"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def set_value(values: dict[str, Any], key: str, value: object) -> None:
    """Set one value of a recipe's plain form in place: ``rate``, or a path as ``select.margin``.

    Raises:
        RecipeError: For a path through a value that is not a mapping.
    """
    *path, last = key.split(".")
    for name in path:
        inner = values[name] = {} if values.get(name) is None else values[name]
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {key}: '{name}' is {inner!r}, and has no keys.")
        values = inner
    values[last] = value


def _with_objective(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's plain values with its objective read, and the controller that it allows.

    Raises:
        RecipeError: For an objective that cannot be read, a controller that it has no use for, or
            pools that are missing or have no use.
    """
    objective = load_objective(values.get("objective") or DEFAULT)
    completed = {**values, "objective": objective}
    if not objective.mixes:
        controller = completed.setdefault("controller", "static")
        if controller not in ("static", {"static": {}}):
            raise RecipeError(
                f"controller {controller} moves the shares of pools, and objective "
                f"{objective.name} has one source of data. Leave controller out, or objective."
            )
    if objective.data == "problems":
        if completed.get("pools") is not None:
            raise RecipeError(
                f"objective {objective.name} trains on the model's own answers to "
                f"objective.{objective.name}.task, and has no use for pools. Leave pools out."
            )
    elif completed.get("pools") is None:
        raise RecipeError("The training recipe lacks 'pools'. docs/training.md has a whole one.")
    return completed


def _sentence(model: type[BaseModel], first: Any) -> str:
    """One sentence for the first error that pydantic found in a recipe."""
    path = [str(part) for part in first["loc"] if not _is_branch(str(part))]
    where, key = ".".join(path), path[-1] if path else "the recipe"
    if first["type"] == "extra_forbidden":
        known = _keys(model, path[:-1])
        inside = ".".join(path[:-1])
        owner = f"'{inside}'" if inside else "a training recipe"
        return f"{owner} has no key '{key}'. {did_you_mean(key, known)}"
    if first["type"] == "missing":
        return f"The training recipe lacks '{where}'. docs/training.md has a whole one."
    return f"{where} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}."


def _is_branch(part: str) -> bool:
    """Whether a part of an error's location names a branch of a union instead of a key."""
    return part in {"str", "float", "GivenFigures", "int"} or "[" in part


def _keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys of the mapping at a path."""
    for part in path:
        sections = [
            section
            for section in Section.__subclasses__()
            if part in model.model_fields and section.__name__ in str(model.model_fields[part])
        ]
        if not sections:
            return []
        model = sections[-1]
    return list(model.model_fields)
