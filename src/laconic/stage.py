"""A step of a merge: a plug-in with its checked parameters, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from laconic.checkpoint import HEAD, layer_of
from laconic.errors import RecipeError
from laconic.varying import Varying, bind, matches, names_look_like, value_at

if TYPE_CHECKING:
    from laconic.recipe import Override, Recipe
    from laconic.registry import Plugin

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """A plug-in of the pipeline with its checked parameters.

    Attributes:
        plugin: The transform, method or adjustment.
        params: Its parameters where no override says otherwise; some may vary by tensor.
        overrides: Each override with all the parameters there; the first match wins.
        layers: How many layers the checkpoints have.
    """

    plugin: Plugin[Callable[..., Any]]
    params: Parameters
    overrides: tuple[tuple[Override, Parameters], ...] = ()
    layers: int = 0

    def params_for(self, name: str) -> Parameters:
        """The parameters for one tensor."""
        params = next((params for o, params in self.overrides if _fits(o, name)), self.params)
        layer = layer_of(name)
        return {key: value_at(value, name, layer, self.layers) for key, value in params.items()}

    def override_for(self, name: str) -> Override | None:
        """The override that one tensor takes, if any."""
        return next((o for o, _ in self.overrides if _fits(o, name)), None)


def make_stage(plugin: Plugin[Any], params: Parameters, where: str) -> Stage:
    """A step with its parameters checked against the plug-in's signature."""
    return Stage(plugin, bind(plugin, params, where))


def with_overrides(stage: Stage, recipe: Recipe, names: Sequence[str]) -> Stage:
    """The method with the recipe's overrides, each of which must match something."""
    bound = []
    for number, override in enumerate(recipe.overrides):
        where = f"overrides, entry {number}"

        if not any(_fits(override, name) for name in names):
            raise RecipeError(
                f"{where}: no tensor matches '{override.match}'"
                + (f" in layers {list(override.layers)}" if override.layers else "")
                + f". {names_look_like(names)}"
            )
        params = bind(stage.plugin, {**recipe.params, **override.params}, where)
        bound.append((override, params))
    return replace(stage, overrides=tuple(bound))


def need_whole(stages: Iterable[Stage]) -> bool:
    """Whether some step must see whole tensors, and not blocks of their elements."""
    return any(stage.plugin.traits["reach"] != "element" for stage in stages)


def held_copies(stages: Sequence[Stage], models: int) -> int:
    """The most tensors in float32 that a step holds beside base, vectors and result.

    A step that looks at elements alone declares nothing, since its blocks are small. Beside one
    that needs whole tensors it is given them, too: then four for each model, as measured for TIES.
    """
    if not need_whole(stages):
        return 0
    return max(
        4 * models if s.plugin.traits["reach"] == "element" else s.plugin.traits["copies"]
        for s in stages
        if s.plugin.family != "adjustment"
    )


def check_varying(recipe: Recipe, stages: Sequence[Stage], names: Sequence[str]) -> list[str]:
    """Compare all that varies by tensor with the tensors that there are.

    Returns:
        What the user should know though it is no error.

    Raises:
        RecipeError: For an entry that matches nothing, or a tensor that no entry fits.
    """
    found: list[tuple[str, Any]] = [(f"The weight of {m.model}", m.weight) for m in recipe.models]
    for stage in stages:
        for params in (stage.params, *(params for _, params in stage.overrides)):
            found += [(f"{stage.plugin.name}: {key}", value) for key, value in params.items()]
    return [
        note
        for where, value in found
        if isinstance(value, Varying)
        for note in value.check(where, names, absent=(HEAD,))
    ]


def _fits(override: Override, name: str) -> bool:
    layer = layer_of(name)
    if override.layers is not None:
        first, last = override.layers
        if layer is None or not first <= layer <= last:
            return False
    return matches(override.match, name)
