"""Plans: a recipe checked against its checkpoints' headers, before a byte is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.adapter import open_weights
from laconic.checkpoints.compatibility import check_compatible
from laconic.checkpoints.configs import setting
from laconic.checkpoints.header import FLOATS, TensorSpec
from laconic.checkpoints.layout import HEAD
from laconic.checkpoints.parts import Parts, sort_parts
from laconic.checkpoints.resources import MergeCost, merge_cost
from laconic.checkpoints.rotary import WINDOW
from laconic.checkpoints.writer import check_free
from laconic.errors import RecipeError, did_you_mean
from laconic.merging.command import merge_command
from laconic.merging.describe import count_words
from laconic.merging.lint import check_effects
from laconic.merging.output import output_notes, output_specs
from laconic.merging.sources import Inputs, settle
from laconic.merging.step import (
    Stage,
    check_varying,
    held_copies,
    held_stats,
    make_stage,
    need_whole,
    with_overrides,
)
from laconic.merging.step_statistics import STEP, Reading, check_shapes, read_stats
from laconic.merging.varying import Varying, shown, value_at
from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS

if TYPE_CHECKING:
    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.merging.recipe import Recipe
    from laconic.registry import Plugin

#: The name that stands for the checkpoint with the largest window, the base included.
WIDEST: Final = "widest"
#: How the plan calls the output's head, by whether it is tied.
HEADS: Final = {True: "tied to the embedding", False: "its own", None: "not known"}


@dataclass(frozen=True)
class Plan:
    """Everything that a merge will do, known before the first byte is written.

    Attributes:
        recipe: What was asked for.
        base: The base's checkpoint, if any.
        models: The merged checkpoints.
        system2: The one that gives the output its shape, and whatever has no other donor.
        tokenizer: The donor of the tokenizer.
        inputs: The donors, and the files beside the weights.
        before: Transforms, in order.
        method: The method.
        after: Adjustments, in order.
        specs: Every tensor of the output, in the order written.
        copied: Names of those that are copied unmerged: from the System-2 model, or
            from a donor of their own.
        notes: What the user should know though it is no error.
        budget: What it costs in bytes.
        readings: The calibration files that its steps read.
        hash_inputs: Whether run.json gets a hash of every input file in full.
        donors: Where tensors of towers and multi-token prediction layers are copied from.
    """

    recipe: Recipe
    base: Checkpoint | None
    models: tuple[Checkpoint, ...]
    system2: Checkpoint
    tokenizer: Checkpoint
    inputs: Inputs
    before: tuple[Stage, ...]
    method: Stage
    after: tuple[Stage, ...]
    specs: tuple[TensorSpec, ...]
    copied: frozenset[str]
    notes: tuple[str, ...]
    budget: MergeCost
    readings: tuple[Reading, ...] = ()
    hash_inputs: bool = False
    donors: Mapping[str, Checkpoint] = field(default_factory=dict)

    @property
    def members(self) -> tuple[Checkpoint, ...]:
        """Every checkpoint that is read for the arithmetic, the base first."""
        return (self.base, *self.models) if self.base else self.models

    @property
    def fetched(self) -> tuple[Checkpoint, ...]:
        """Every checkpoint whose weights are needed."""
        return _fetched(self.members, self.system2, self.copied)

    @property
    def tied(self) -> bool | None:
        """Whether the output's head is its embedding; None where nobody knows which it is."""
        head = self.system2.layout.head
        return None if head is None else all(spec.name != head for spec in self.specs)

    @property
    def rows(self) -> int | None:
        """The rows of the output's embedding; None where nobody knows which tensor it is."""
        embedding = self.system2.layout.embedding
        return next((spec.shape[0] for spec in self.specs if spec.name == embedding), None)

    def weights_for(self, name: str) -> tuple[float, ...]:
        """The models' weights for one tensor."""
        depth = self.system2.layout.depth
        return tuple(
            value_at(m.weight, name, depth.of(name), depth.count) for m in self.recipe.models
        )

    def fetch(self) -> None:
        """Bring the weights that are not on this machine yet.

        Raises:
            CheckpointError: Where they cannot be had.
        """
        for model in self.fetched:
            model.fetch()

    def identities(self) -> dict[str, dict[str, Any]]:
        """What says which bytes each checkpoint of the merge has, by name."""
        weighty = {id(model) for model in self.fetched}
        return {
            m.name: m.identity(hashed=self.hash_inputs and id(m) in weighty)
            for m in (*self.members, self.system2, self.tokenizer)
        }

    def describe(self) -> dict[str, Any]:
        """The plan as plain values, for people and programs."""
        return {
            "method": self.recipe.method,
            "params": shown(self.method.params),
            "overrides": [f"{o.match} {shown(p)}" for o, p in self.method.overrides],
            "base": self.base.name if self.base else None,
            "models": [f"{m.model} (weight {_words(m.weight)})" for m in self.recipe.models],
            "before": [f"{s.plugin.name} {shown(s.params)}" for s in self.before],
            "after": [f"{s.plugin.name} {shown(s.params)}" for s in self.after],
            "statistics": [_of_reading(reading) for reading in self.readings],
            "config_from": self.inputs.config.name,
            "tokenizer_from": self.tokenizer.name,
            "tokenizer": self.recipe.tokenizer,
            "rows": self.rows,
            "head": HEADS[self.tied],
            "copied_from_system2": sorted(self.copied - self.donors.keys()),
            "window": setting(self.inputs.model_files.config, WINDOW),
            "dtype": sorted({FLOATS.get(s.dtype, s.dtype) for s in self.specs}),
            "tensors": len(self.specs),
            "commits": {
                m.name: m.snapshot.commit
                for m in (*self.members, self.system2, self.tokenizer)
                if m.snapshot
            },
            "bytes_download": self.budget.download,
            "bytes_read": self.budget.read,
            "bytes_written": self.budget.written,
            "bytes_peak_memory": self.budget.memory,
            "bytes_disk_free": self.budget.disk_free,
            "notes": list(self.notes),
        }

    @property
    def digest(self) -> str:
        """Of all that decides the bytes of the output; a recipe's notes do not."""
        identities = [m.fingerprint for m in (*self.members, self.system2, self.tokenizer)]
        identities += [reading.digest for reading in self.readings]
        said = replace(self.recipe, notes=()).to_dict()
        text = json.dumps([said, identities, [repr(s) for s in self.specs]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan(recipe: Recipe, output: str | Path | None = None, *, hash_inputs: bool = False) -> Plan:
    """Check a recipe against its checkpoints' headers; nothing is written, no weights are fetched.

    Args:
        recipe: What to merge and how.
        output: The folder to create; given, it must be free and its disk large enough.
        hash_inputs: Whether run.json is to hold a hash of every input file in full.

    Raises:
        RecipeError: For unknown plug-ins or parameters, or values that cannot be meant.
        CheckpointError: For checkpoints that are missing, damaged, packed or no siblings; for an
            output folder in use or a disk too small.
        CalibrationError: For statistics that are missing, or of something else than the steps read.
    """
    target = None if output is None else Path(output).expanduser()
    if target is not None:
        check_free(target)
    method = make_stage(METHODS.get(recipe.method), recipe.params, "params")
    before = tuple(
        make_stage(TRANSFORMS.get(s.name), s.params, f"before: {s.name}") for s in recipe.before
    )
    after = tuple(
        make_stage(ADJUSTMENTS.get(s.name), s.params, f"after: {s.name}") for s in recipe.after
    )
    _check_members(recipe, method.plugin)
    opened = cache(lambda name: open_weights(name).with_head(recipe.head))
    base = opened(recipe.base) if recipe.base else None
    models = tuple(opened(m.model) for m in recipe.models)
    if recipe.system2 is None or recipe.system2 == WIDEST:
        system2 = _system2(recipe, models, base)
    else:
        system2 = opened(recipe.system2)
    everyone = [model for model in (base, *models, system2) if model is not None]
    if recipe.head and not any(recipe.head in model.specs for model in everyone):
        raise RecipeError(
            f"head: no checkpoint has a tensor '{recipe.head}'. "
            f"{did_you_mean(recipe.head, system2.specs)}"
        )
    if recipe.layers not in (None, system2.layers):
        raise RecipeError(
            f"The recipe speaks of {recipe.layers} layers, but {system2.name} has "
            f"{system2.layers}. Leaving layers out or repeating them is not supported."
        )
    steps, readings, told = _read_stats(recipe, (*before, method, *after), base, models)
    before, method, after = steps[: len(before)], steps[len(before)], steps[len(before) + 1 :]
    parts = _sort_parts(recipe, base, models, system2)
    inputs = settle(recipe, base, models, system2)
    inputs = replace(inputs, model_files=inputs.model_files.with_config(parts.described))
    base, models, system2 = inputs.base, inputs.models, inputs.system2
    members = (base, *models) if base else models
    notes = check_compatible(
        members,
        system2,
        config=inputs.model_files.config,
        rope=recipe.rope_donor,
        apart=parts.apart,
    )
    specs, copied = output_specs(recipe, members, system2, parts)
    notes = (*recipe.notes, *notes, *parts.notes, *inputs.notes, *told)
    notes += output_notes(specs, system2, parts)
    merged = {s.name: s.shape for s in specs if s.name not in copied}
    stages = [replace(s, layout=system2.layout) for s in (*before, method, *after)]
    stages[len(before)] = with_overrides(stages[len(before)], recipe, list(merged))
    head = system2.layout.head or HEAD
    notes += tuple(check_varying(recipe, stages, [s.name for s in specs], head))
    for stage in stages:
        check_shapes(stage, merged)
    notes += check_effects(
        recipe,
        before=stages[: len(before)],
        method=stages[len(before)],
        after=stages[len(before) + 1 :],
        base=base,
        models=models,
        merged=merged,
    )
    return Plan(
        recipe=recipe,
        base=base,
        models=models,
        system2=system2,
        tokenizer=inputs.tokenizer,
        inputs=inputs,
        before=tuple(stages[: len(before)]),
        method=stages[len(before)],
        after=tuple(stages[len(before) + 1 :]),
        specs=specs,
        copied=copied,
        notes=notes,
        budget=merge_cost(
            members,
            _fetched(members, system2, copied),
            specs,
            target,
            whole=need_whole(stages),
            copies=held_copies(stages, len(models)),
            stats=held_stats(stages, merged),
        ),
        readings=readings,
        hash_inputs=hash_inputs,
        donors=parts.donors,
    )


def _sort_parts(
    recipe: Recipe, base: Checkpoint | None, models: Sequence[Checkpoint], system2: Checkpoint
) -> Parts:
    """What becomes of the parts that some checkpoints lack."""
    others = [m for m in (base, *models) if m is not None and m is not system2]
    wanted = {"towers": recipe.towers, "mtp": recipe.mtp}
    return sort_parts(wanted, base, [*others, system2])


def _fetched(
    members: Sequence[Checkpoint], system2: Checkpoint, copied: frozenset[str]
) -> tuple[Checkpoint, ...]:
    return (*members, system2) if copied and system2 not in members else tuple(members)


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
    least, most = method.traits["models"]
    if not least <= len(recipe.models) <= (most or len(recipe.models)):
        raise RecipeError(
            f"{method.name} takes {count_words(least, most)}, the base not counted; the recipe "
            f"names {len(recipe.models)}."
        )
    if not method.traits["weighted"] and any(m.weight != 1.0 for m in recipe.models):
        raise RecipeError(f"{method.name} has no use for weights. Remove them from models.")


def _read_stats(
    recipe: Recipe, stages: Sequence[Stage], base: Checkpoint | None, models: Sequence[Checkpoint]
) -> tuple[tuple[Stage, ...], tuple[Reading, ...], list[str]]:
    """The steps with the statistics they read, their files, and what to know of them."""
    steps: list[Stage] = []
    readings: dict[Path, Reading] = {}
    notes: list[str] = []
    keys = [f"before.{i}.stats" for i in range(len(recipe.before))] + ["stats"]
    keys += [f"after.{i}.stats" for i in range(len(recipe.after))]
    for number, (stage, key) in enumerate(zip(stages, keys, strict=True)):

        def first(adjusted: int = number - len(recipe.before) - 1) -> tuple[str, str]:
            step = replace(recipe, after=recipe.after[:adjusted])
            return plan(step).digest, merge_command(step, STEP)

        made, read, told = read_stats(stage, key, base, models, first)
        steps.append(made)
        readings |= {reading.path: reading for reading in read}
        notes += told
    return tuple(steps), tuple(readings.values()), notes


def _of_reading(reading: Reading) -> str:
    held = reading.calibration
    return (
        f"{reading.path}: {held.kind} of {held.model_name}, {held.samples} samples of "
        f"{held.data_name}, {held.tokens} tokens"
    )


def _words(weight: float | Varying) -> str:
    return str(weight.plain()) if isinstance(weight, Varying) else f"{weight:g}"


def _system2(recipe: Recipe, models: Sequence[Checkpoint], base: Checkpoint | None) -> Checkpoint:
    """The donor of config and templates where none is named: the one of the largest window."""
    if recipe.system2 == WIDEST:
        return max((*models, base) if base else models, key=lambda m: m.window or 0)
    widest = max(model.window or 0 for model in models)
    donors = [model for model in models if (model.window or 0) == widest]
    if len(donors) == 1:
        return donors[0]
    raise RecipeError(
        f"Which model is System 2? {' and '.join(m.name for m in donors)} have the same context "
        "window. Add 'system2: ...' (--system2): config, tokenizer and template come from it."
    )
