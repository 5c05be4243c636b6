"""A step of a merge: a plug-in with its checked parameters, tensor by tensor."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from laconic.checkpoint import layer_of
from laconic.errors import RecipeError

if TYPE_CHECKING:
    from laconic.recipe import Override, Recipe
    from laconic.registry import Plugin

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """A plug-in of the pipeline with its checked parameters.

    Attributes:
        plugin: The transform, method or adjustment.
        params: Its parameters where no override says otherwise.
        overrides: Each override with all the parameters there; the first match wins.
    """

    plugin: Plugin[Callable[..., Any]]
    params: Parameters
    overrides: tuple[tuple[Override, Parameters], ...] = ()

    def params_for(self, name: str) -> Parameters:
        """The parameters for one tensor."""
        return next((params for o, params in self.overrides if _fits(o, name)), self.params)

    def override_for(self, name: str) -> Override | None:
        """The override that one tensor takes, if any."""
        return next((o for o, _ in self.overrides if _fits(o, name)), None)


def make_stage(plugin: Plugin[Any], params: Parameters, where: str) -> Stage:
    """A step with its parameters checked against the plug-in's signature."""
    return Stage(plugin, plugin.bind(params, where=where))


def with_overrides(stage: Stage, recipe: Recipe, names: Sequence[str]) -> Stage:
    """The method with the recipe's overrides, each of which must match something."""
    bound = []
    for number, override in enumerate(recipe.overrides):
        where = f"overrides, entry {number}"

        if not any(_fits(override, name) for name in names):
            raise RecipeError(
                f"{where}: no tensor matches '{override.match}'"
                + (f" in layers {list(override.layers)}" if override.layers else "")
                + f". A name looks like '{names[len(names) // 2]}'."
            )
        params = stage.plugin.bind({**recipe.params, **override.params}, where=where)
        bound.append((override, params))
    return replace(stage, overrides=tuple(bound))


def _fits(override: Override, name: str) -> bool:
    layer = layer_of(name)
    if override.layers is not None:
        first, last = override.layers
        if layer is None or not first <= layer <= last:
            return False
    return fnmatch.fnmatchcase(name, override.match)
