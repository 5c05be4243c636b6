"""What in a recipe has no effect: weights that cancel, steps that change nothing, equal models."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from laconic.errors import CalibrationError, RecipeError
from laconic.merging.varying import Varying, plain_value
from laconic.methods.contract.traits import TensorContext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.merging.recipe import Recipe
    from laconic.merging.step import Step


def lint_recipe(
    recipe: Recipe,
    steps: Sequence[Step],
    *,
    base: Checkpoint | None,
    models: Sequence[Checkpoint],
    merged: Mapping[str, tuple[int, ...]],
) -> tuple[str, ...]:
    """Find what in a recipe has no effect on the result.

    Args:
        recipe: The recipe.
        steps: Its transforms, its method with overrides, and its adjustments.
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
    method = next(step for step in steps if step.family == "method")
    others = [step for step in steps if step is not method]
    if base is None and others:
        raise RecipeError(
            f"{others[0].plugin.name} works on task vectors, and without a base there are none. "
            "Add 'base: ...' (--base on the command line)."
        )
    return (
        *_no_op_notes(method, others),
        *_weight_notes(recipe, method, alone=not others),
        *_check_notes(recipe, steps, merged, based=base is not None),
        *_override_notes(method, list(merged)),
        *_equal_notes(base, models),
    )


def equals_base(name: str) -> str:
    """The note for a model whose every value is the base's."""
    return f"{name} equals the base in every tensor: it adds nothing."


def _no_op_notes(method: Step, others: Sequence[Step]) -> Iterator[str]:
    """Steps whose parameters make them change nothing."""
    for step in others:
        if values := _no_op_values(step):
            yield f"{step.plugin.name} with {values} changes nothing: leave it out."
    if (values := _no_op_values(method)) and not method.overrides:
        yield f"{method.plugin.name} with {values} gives back the base: nothing is merged into it."


def _no_op_values(step: Step) -> str:
    """The parameters at which a step does nothing, if it has them; else empty."""
    no_op_at = step.traits.no_op_at
    if not no_op_at or any(step.params.get(k) != value for k, value in no_op_at.items()):
        return ""
    return " and ".join(f"{key} {value:g}" for key, value in no_op_at.items())


def _check_notes(
    recipe: Recipe,
    steps: Sequence[Step],
    merged: Mapping[str, tuple[int, ...]],
    *,
    based: bool,
) -> Iterator[str]:
    """What the checks of the steps say of their parameters and statistics, for each tensor."""
    for step in steps:
        check = step.traits.check
        if check is None:
            continue
        sentences: Counter[str] = Counter()
        for name, shape in merged.items():
            layout = step.layout
            weights = recipe.weights_for(name, layout.depth)
            context = TensorContext(
                weights, based, name, shape, step.stats, layout.depth.of(name), layout.role(name)
            )
            try:
                sentences[check(step.params_for(name), context)] += 1
            except CalibrationError as error:
                raise CalibrationError(f"{error} {step.remedy}") from None
        for sentence, count in sentences.items():
            if sentence:
                share = f" ({count} of {len(merged)} tensors)" if count < len(merged) else ""
                yield sentence + share


def _weight_notes(recipe: Recipe, method: Step, *, alone: bool) -> Iterator[str]:
    """Weights that change nothing, and a base that does not count."""
    name, traits = method.plugin.name, method.traits
    weights = [model.weight for model in recipe.models]
    if not traits.normalises:
        for model in recipe.models:
            if traits.weighted and model.weight == 0:
                yield f"{model.model} has weight 0: it adds nothing."
        return
    constant = [weight for weight in weights if not isinstance(weight, Varying)]
    if len(constant) == len(weights) and sum(constant) == 0:
        raise RecipeError(f"{name}: the models' weights sum to 0, so they have no mean.")
    if len(recipe.models) == 1:
        model = recipe.models[0]
        what = (
            f"the weight {plain_value(model.weight)} of {model.model} cancels"
            if model.weight != 1
            else f"the mean of {model.model} alone is itself"
        )
        yield (
            f"{name} divides by the sum of the weights: {what}. To go part of the way, use "
            "task_arithmetic and its scale, or list the base among the models."
        )
    if recipe.base is not None and alone:
        yield (
            f"The base has no effect on {name}: it is not one of the models. List it there to make "
            "it one."
        )


def _override_notes(method: Step, merged: Sequence[str]) -> Iterator[str]:
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


def _equal_notes(base: Checkpoint | None, models: Sequence[Checkpoint]) -> Iterator[str]:
    seen: dict[Any, str] = {}
    for model in models:
        if base is not None and model.fingerprint == base.fingerprint:
            yield equals_base(model.name)
        elif model.fingerprint in seen:
            yield f"{model.name} and {seen[model.fingerprint]} are the same checkpoint."
        seen.setdefault(model.fingerprint, model.name)
