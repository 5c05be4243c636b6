"""Plans: a recipe checked against its checkpoints' headers, before a byte is written."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from laconic.checkpoint import (
    EMBED,
    FLOATS,
    HEAD,
    Checkpoint,
    TensorSpec,
    layer_of,
    natural,
    open_checkpoint,
)
from laconic.errors import RecipeError
from laconic.method import ADJUSTMENTS, METHODS, TRANSFORMS
from laconic.siblings import check_siblings

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


@dataclass(frozen=True)
class Plan:
    """Everything that a merge will do, known before the first byte is written.

    Attributes:
        recipe: What was asked for.
        base: The base's checkpoint, if any.
        models: The merged checkpoints.
        system2: The donor of config and generation config.
        tokenizer: The donor of tokenizer and chat template.
        before: Transforms, in order.
        method: The method.
        after: Adjustments, in order.
        specs: Every tensor of the output, in the order written.
        copied: Names of those that are copied from the System-2 model unmerged.
        notes: What the user should know though it is no error.
    """

    recipe: Recipe
    base: Checkpoint | None
    models: tuple[Checkpoint, ...]
    system2: Checkpoint
    tokenizer: Checkpoint
    before: tuple[Stage, ...]
    method: Stage
    after: tuple[Stage, ...]
    specs: tuple[TensorSpec, ...]
    copied: frozenset[str]
    notes: tuple[str, ...]

    @property
    def members(self) -> tuple[Checkpoint, ...]:
        """Every checkpoint that is read for the arithmetic, the base first."""
        return (self.base, *self.models) if self.base else self.models

    @property
    def untied(self) -> bool:
        """Whether the output has a head of its own."""
        return any(spec.name == HEAD for spec in self.specs)

    @property
    def bytes_read(self) -> int:
        """Tensor bytes read for the arithmetic."""
        return sum(spec.nbytes for model in self.members for spec in model.specs.values())

    @property
    def bytes_written(self) -> int:
        """Tensor bytes written."""
        return sum(spec.nbytes for spec in self.specs)

    def describe(self) -> dict[str, Any]:
        """The plan as plain values, for people and programs."""
        return {
            "method": self.recipe.method,
            "params": dict(self.method.params),
            "base": self.base.name if self.base else None,
            "models": [f"{m.model} (weight {m.weight:g})" for m in self.recipe.models],
            "before": [f"{s.plugin.name} {dict(s.params)}" for s in self.before],
            "after": [f"{s.plugin.name} {dict(s.params)}" for s in self.after],
            "config_from": self.system2.name,
            "tokenizer_from": self.tokenizer.name,
            "window": self.system2.window,
            "tensors": len(self.specs),
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "notes": list(self.notes),
        }

    @property
    def digest(self) -> str:
        """Of all that decides the bytes of the output."""
        identities = [m.fingerprint for m in (*self.members, self.system2, self.tokenizer)]
        text = json.dumps([self.recipe.to_dict(), identities, [repr(s) for s in self.specs]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan(recipe: Recipe) -> Plan:
    """Check a recipe against its checkpoints' headers; nothing is written.

    Raises:
        RecipeError: For unknown plug-ins or parameters, or values that cannot be meant.
        CheckpointError: For checkpoints that are missing, damaged or no siblings.
    """
    method = _stage(METHODS.get(recipe.method), recipe.params, "params")
    before = tuple(
        _stage(TRANSFORMS.get(s.name), s.params, f"before: {s.name}") for s in recipe.before
    )
    after = tuple(
        _stage(ADJUSTMENTS.get(s.name), s.params, f"after: {s.name}") for s in recipe.after
    )
    _check_members(recipe, method.plugin)
    base = open_checkpoint(recipe.base) if recipe.base else None
    models = tuple(open_checkpoint(m.model) for m in recipe.models)
    system2 = _system2(recipe, models)
    tokenizer = open_checkpoint(recipe.tokenizer) if recipe.tokenizer else system2
    members = (base, *models) if base else models
    notes = check_siblings(members, system2)
    specs, copied = _output_specs(recipe, members, system2)
    return Plan(
        recipe=recipe,
        base=base,
        models=models,
        system2=system2,
        tokenizer=tokenizer,
        before=before,
        method=_with_overrides(method, recipe, [s.name for s in specs]),
        after=after,
        specs=specs,
        copied=copied,
        notes=notes,
    )


def _stage(plugin: Plugin[Any], params: Parameters, where: str) -> Stage:
    return Stage(plugin, plugin.bind(params, where=where))


def _with_overrides(stage: Stage, recipe: Recipe, names: Sequence[str]) -> Stage:
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


def _check_members(recipe: Recipe, method: Plugin[Any]) -> None:
    """Refuse a recipe whose checkpoints are too few, too many, or weighted in vain."""
    if method.traits["base"] == "needed" and recipe.base is None:
        raise RecipeError(
            f"{method.name} needs a base: the checkpoint that the task vectors start from. "
            "Add 'base: ...' (--base on the command line)."
        )
    members, wanted = len(recipe.models) + (recipe.base is not None), method.traits["members"]
    if wanted is not None and members != wanted:
        raise RecipeError(
            f"{method.name} takes exactly {wanted} checkpoints, base included; "
            f"the recipe names {members}."
        )
    if not method.traits["weighted"] and any(m.weight != 1.0 for m in recipe.models):
        raise RecipeError(f"{method.name} has no use for weights. Remove them from models.")


def _system2(recipe: Recipe, models: Sequence[Checkpoint]) -> Checkpoint:
    """The donor of config and templates: named, or the only model, or that of largest window."""
    if recipe.system2 is not None:
        return open_checkpoint(recipe.system2)
    widest = max(model.window or 0 for model in models)
    donors = [model for model in models if (model.window or 0) == widest]
    if len(donors) == 1:
        return donors[0]
    raise RecipeError(
        f"Which model is System 2? {' and '.join(m.name for m in donors)} have the same context "
        "window. Add 'system2: ...' (--system2): config, tokenizer and template come from it."
    )


def _output_specs(
    recipe: Recipe, members: Sequence[Checkpoint], system2: Checkpoint
) -> tuple[tuple[TensorSpec, ...], frozenset[str]]:
    """The tensors of the output, and which of them are copied from System 2."""
    names = set(system2.specs)
    if any(not model.tied for model in members) and EMBED in names:
        names.add(HEAD)
    dtypes = {name: safe for safe, name in FLOATS.items()}
    specs, copied = [], set()
    for name in sorted(names, key=natural):
        spec = system2.specs.get(name) or replace(system2.specs[EMBED], name=name)
        if spec.dtype not in FLOATS or name.endswith("inv_freq"):
            copied.add(name)
        elif recipe.dtype is not None:
            spec = replace(spec, dtype=dtypes[recipe.dtype])
        specs.append(spec)
    return tuple(specs), frozenset(copied)
