"""What a recipe asks for in vain: weights that cancel, steps that change nothing, twins."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from laconic.errors import CalibrationError, RecipeError
from laconic.merging.varying import Varying, shown, value_at
from laconic.methods.contract.group import Setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.checkpoints.layout import Depth
    from laconic.merging.recipe import Recipe
    from laconic.merging.step import Stage


def check_effects(
    recipe: Recipe,
    *,
    before: Sequence[Stage],
    method: Stage,
    after: Sequence[Stage],
    base: Checkpoint | None,
    models: Sequence[Checkpoint],
    merged: Mapping[str, tuple[int, ...]],
) -> tuple[str, ...]:
    """Find what in a recipe has no effect on the result.

    Args:
        recipe: The recipe.
        before: Its transforms.
        method: Its method, overrides included.
        after: Its adjustments.
        base: The base, if any.
        models: The models.
        merged: The shapes of the tensors that are merged, not copied, by name.

    Returns:
        A sentence for each such thing that is well-defined all the same.

    Raises:
        RecipeError: For weights without a mean, steps on task vectors without a base, and what a
            step itself refuses.
        CalibrationError: For statistics that a step cannot use, with the command that makes others.
    """
    if base is None and (steps := [*before, *after]):
        raise RecipeError(
            f"{steps[0].plugin.name} works on task vectors, and without a base there are none. "
            "Add 'base: ...' (--base on the command line)."
        )
    return (
        *_idle_steps(before, method, after),
        *_weights(recipe, method, stepless=not before and not after),
        *_checks(recipe, [*before, method, *after], merged, based=base is not None),
        *_overrides(method, list(merged)),
        *_twins(base, models),
    )


def equals_base(name: str) -> str:
    """The note for a model whose every value is the base's."""
    return f"{name} equals the base in every tensor: it adds nothing."


def _idle_steps(before: Sequence[Stage], method: Stage, after: Sequence[Stage]) -> Iterator[str]:
    for stage in (*before, *after):
        if values := _idle_at(stage):
            yield f"{stage.plugin.name} with {values} changes nothing: leave it out."
    if (values := _idle_at(method)) and not method.overrides:
        yield f"{method.plugin.name} with {values} gives back the base: nothing is merged into it."


def _idle_at(stage: Stage) -> str:
    """The parameters at which a step does nothing, if it has them; else empty."""
    idle = stage.plugin.traits.get("idle") or {}
    if not idle or any(stage.params.get(key) != value for key, value in idle.items()):
        return ""
    return " and ".join(f"{key} {value:g}" for key, value in idle.items())


def _checks(
    recipe: Recipe,
    stages: Sequence[Stage],
    merged: Mapping[str, tuple[int, ...]],
    *,
    based: bool,
) -> Iterator[str]:
    """What the steps themselves say of their parameters and statistics, for each tensor."""
    for stage in stages:
        check = stage.plugin.traits.get("check")
        if check is None:
            continue
        said: Counter[str] = Counter()
        for name, shape in merged.items():
            layout = stage.layout
            weights = _weights_for(recipe, name, layout.depth)
            setting = Setting(
                weights, based, name, shape, stage.stats, layout.depth.of(name), layout.role(name)
            )
            try:
                said[check(stage.params_for(name), setting)] += 1
            except CalibrationError as error:
                raise CalibrationError(f"{error} {stage.remedy}") from None
        for sentence, count in said.items():
            if sentence:
                share = f" ({count} of {len(merged)} tensors)" if count < len(merged) else ""
                yield sentence + share


def _weights_for(recipe: Recipe, name: str, depth: Depth) -> tuple[float, ...]:
    return tuple(value_at(m.weight, name, depth.of(name), depth.count) for m in recipe.models)


def _weights(recipe: Recipe, method: Stage, *, stepless: bool) -> Iterator[str]:
    name, traits = method.plugin.name, method.plugin.traits
    weights = [model.weight for model in recipe.models]
    if not traits.get("normalises"):
        for model in recipe.models:
            if traits["weighted"] and model.weight == 0:
                yield f"{model.model} has weight 0: it adds nothing."
        return
    constant = [weight for weight in weights if not isinstance(weight, Varying)]
    if len(constant) == len(weights) and sum(constant) == 0:
        raise RecipeError(f"{name}: the models' weights sum to 0, so they have no mean.")
    if len(recipe.models) == 1:
        model = recipe.models[0]
        what = (
            f"the weight {shown(model.weight)} of {model.model} cancels"
            if model.weight != 1
            else (f"the mean of {model.model} alone is itself")
        )
        yield (
            f"{name} divides by the sum of the weights: {what}. To go part of the way, use "
            "task_arithmetic and its scale, or list the base among the models."
        )
    if recipe.base is not None and stepless:
        yield (
            f"The base has no effect on {name}: it is not one of the models. List it there to make "
            "it one."
        )


def _overrides(method: Stage, merged: Sequence[str]) -> Iterator[str]:
    """Overrides that no tensor takes, or that change no parameter."""
    winners = {id(method.override_for(name)) for name in merged}
    for number, (override, params) in enumerate(method.overrides):
        if id(override) not in winners:
            yield (
                f"overrides, entry {number} ('{override.match}') has no effect: every tensor it "
                "matches is copied or taken by an earlier entry; the first that matches wins."
            )
        elif params == method.params and number == len(method.overrides) - 1:
            yield (
                f"overrides, entry {number} ('{override.match}') has no effect: its parameters are "
                "those of the recipe."
            )


def _twins(base: Checkpoint | None, models: Sequence[Checkpoint]) -> Iterator[str]:
    seen: dict[Any, str] = {}
    for model in models:
        if base is not None and model.fingerprint == base.fingerprint:
            yield equals_base(model.name)
        elif model.fingerprint in seen:
            yield f"{model.name} and {seen[model.fingerprint]} are the same checkpoint."
        seen.setdefault(model.fingerprint, model.name)
