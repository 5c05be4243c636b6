"""Plans: a recipe checked against its checkpoints' headers, before a byte is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
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
from laconic.merging.lint import lint_recipe
from laconic.merging.output import output_notes, output_specs
from laconic.merging.sources import resolve_sources
from laconic.merging.step import (
    Step,
    check_varying,
    extra_copies,
    make_step,
    need_whole,
    statistics_bytes,
    with_overrides,
)
from laconic.merging.step_statistics import STEP, StatisticsFile, check_shapes, read_stats
from laconic.merging.varying import Varying, plain_value
from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS

if TYPE_CHECKING:
    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.checkpoints.model_files import ModelFiles
    from laconic.merging.recipe import Recipe

#: The name that stands for the checkpoint with the largest window, the base included.
WIDEST: Final = "widest"
#: How the plan calls the output's head, by whether it is tied.
HEADS: Final = {True: "tied to the embedding", False: "its own", None: "not known"}


@dataclass(frozen=True)
class Plan:
    """Everything that a merge will do, known before the first byte is written.

    Attributes:
        recipe: The recipe.
        base: The base's checkpoint, if any.
        models: The merged checkpoints.
        system2: The one that gives the output its shape, and whatever has no other donor.
        tokenizer: The donor of the tokenizer.
        config: The donor of config.json.
        model_files: The files beside the weights.
        steps: The transforms, the method and the adjustments, in order.
        specs: Every tensor of the output, in the order written.
        copied: Names of those that are copied unmerged: from the System-2 model, or
            from a donor of their own.
        notes: What the user should know though it is no error.
        budget: What it costs in bytes.
        statistics: The calibration files that its steps read.
        hash_inputs: Whether run.json gets a hash of every input file in full.
        donors: Where tensors of towers and multi-token prediction layers are copied from.
    """

    recipe: Recipe
    base: Checkpoint | None
    models: tuple[Checkpoint, ...]
    system2: Checkpoint
    tokenizer: Checkpoint
    config: Checkpoint
    model_files: ModelFiles
    steps: tuple[Step, ...]
    specs: tuple[TensorSpec, ...]
    copied: frozenset[str]
    notes: tuple[str, ...]
    budget: MergeCost
    statistics: tuple[StatisticsFile, ...] = ()
    hash_inputs: bool = False
    donors: Mapping[str, Checkpoint] = field(default_factory=dict)

    @cached_property
    def before(self) -> tuple[Step, ...]:
        """The transforms, in order."""
        return tuple(step for step in self.steps if step.family == "transform")

    @cached_property
    def method(self) -> Step:
        """The method."""
        return next(step for step in self.steps if step.family == "method")

    @cached_property
    def after(self) -> tuple[Step, ...]:
        """The adjustments, in order."""
        return tuple(step for step in self.steps if step.family == "adjustment")

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
        return self.recipe.weights_for(name, self.system2.layout.depth)

    def fetch(self) -> None:
        """Download the weights that are not on this machine yet.

        Raises:
            CheckpointError: Where they cannot be had.
        """
        for model in self.fetched:
            model.fetch()

    def identities(self) -> dict[str, dict[str, Any]]:
        """What identifies the bytes of each checkpoint of the merge, by name."""
        fetched = {id(model) for model in self.fetched}
        return {
            m.name: m.identity(hashed=self.hash_inputs and id(m) in fetched)
            for m in (*self.members, self.system2, self.tokenizer)
        }

    def describe(self) -> dict[str, Any]:
        """The plan as plain values, for people and programs."""
        return {
            "method": self.recipe.method,
            "params": plain_value(self.method.params),
            "overrides": [f"{o.match} {plain_value(p)}" for o, p in self.method.overrides],
            "base": self.base.name if self.base else None,
            "models": [f"{m.model} (weight {_words(m.weight)})" for m in self.recipe.models],
            "before": [f"{s.plugin.name} {plain_value(s.params)}" for s in self.before],
            "after": [f"{s.plugin.name} {plain_value(s.params)}" for s in self.after],
            "statistics": [_summary(file) for file in self.statistics],
            "config_from": self.config.name,
            "tokenizer_from": self.tokenizer.name,
            "tokenizer": self.recipe.tokenizer,
            "rows": self.rows,
            "head": HEADS[self.tied],
            "copied_from_system2": sorted(self.copied - self.donors.keys()),
            "window": setting(self.model_files.config, WINDOW),
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
        """A digest of all that decides the bytes of the output; a recipe's notes do not."""
        identities = [m.fingerprint for m in (*self.members, self.system2, self.tokenizer)]
        identities += [file.digest for file in self.statistics]
        recipe = replace(self.recipe, notes=()).to_dict()
        text = json.dumps([recipe, identities, [repr(s) for s in self.specs]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan(recipe: Recipe, output: str | Path | None = None, *, hash_inputs: bool = False) -> Plan:
    """Check a recipe against its checkpoints' headers; nothing is written, no weights are fetched.

    Args:
        recipe: What to merge and how.
        output: The folder to create. If given, it must be missing or empty, and its disk large
            enough.
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
    steps = _read_steps(recipe)
    _check_members(recipe, steps[len(recipe.before)])
    base, models, system2 = _open_checkpoints(recipe)
    steps, statistics, statistics_notes = _read_stats(recipe, steps, base, models)
    parts = _sort_parts(recipe, base, models, system2)
    sources = resolve_sources(recipe, base, models, system2)
    model_files = sources.model_files.with_config(parts.described)
    sibling_notes = check_compatible(
        sources.members,
        sources.system2,
        config=model_files.config,
        rope=recipe.rope_donor,
        apart=parts.apart,
    )
    specs, copied = output_specs(recipe, sources.members, sources.system2, parts)
    merged = {spec.name: spec.shape for spec in specs if spec.name not in copied}
    layout = sources.system2.layout
    steps = tuple(replace(step, layout=layout) for step in steps)
    steps = tuple(
        with_overrides(step, recipe, list(merged)) if step.family == "method" else step
        for step in steps
    )
    notes = (
        *(*recipe.notes, *sibling_notes, *parts.notes, *sources.notes, *statistics_notes),
        *output_notes(specs, sources.system2, parts),
        *check_varying(recipe, steps, [spec.name for spec in specs], layout.head or HEAD),
    )
    for step in steps:
        check_shapes(step, merged)
    notes += lint_recipe(recipe, steps, base=sources.base, models=sources.models, merged=merged)
    return Plan(
        recipe=recipe,
        base=sources.base,
        models=sources.models,
        system2=sources.system2,
        tokenizer=sources.tokenizer,
        config=sources.config,
        model_files=model_files,
        steps=steps,
        specs=specs,
        copied=copied,
        notes=notes,
        budget=merge_cost(
            sources.members,
            _fetched(sources.members, sources.system2, copied),
            specs,
            target,
            whole=need_whole(steps),
            copies=extra_copies(steps, len(models)),
            stats=statistics_bytes(steps, merged),
        ),
        statistics=statistics,
        hash_inputs=hash_inputs,
        donors=parts.donors,
    )


def _read_steps(recipe: Recipe) -> tuple[Step, ...]:
    """A recipe's transforms, method and adjustments, with their parameters checked."""
    method = make_step(METHODS.get(recipe.method), recipe.params, "params")
    before = [
        make_step(TRANSFORMS.get(s.name), s.params, f"before: {s.name}") for s in recipe.before
    ]
    after = [make_step(ADJUSTMENTS.get(s.name), s.params, f"after: {s.name}") for s in recipe.after]
    return (*before, method, *after)


def _open_checkpoints(
    recipe: Recipe,
) -> tuple[Checkpoint | None, tuple[Checkpoint, ...], Checkpoint]:
    """The base, the models and System 2, as far as their headers."""
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
    return base, models, system2


def _sort_parts(
    recipe: Recipe, base: Checkpoint | None, models: Sequence[Checkpoint], system2: Checkpoint
) -> Parts:
    """Where towers and multi-token prediction layers come from; some checkpoints lack them."""
    others = [m for m in (base, *models) if m is not None and m is not system2]
    wanted = {"towers": recipe.towers, "mtp": recipe.mtp}
    return sort_parts(wanted, base, [*others, system2])


def _fetched(
    members: Sequence[Checkpoint], system2: Checkpoint, copied: frozenset[str]
) -> tuple[Checkpoint, ...]:
    return (*members, system2) if copied and system2 not in members else tuple(members)


def _check_members(recipe: Recipe, method: Step) -> None:
    """Refuse a recipe with too few or too many checkpoints, or with weights that have no use."""
    name, traits = method.plugin.name, method.traits
    if traits.base == "needed" and recipe.base is None:
        raise RecipeError(
            f"{name} needs a base: the checkpoint that the task vectors start from. "
            "Add 'base: ...' (--base on the command line)."
        )
    members = len(recipe.models) + (recipe.base is not None)
    if traits.members is not None and members != traits.members:
        raise RecipeError(
            f"{name} takes exactly {traits.members} checkpoints, base included; "
            f"the recipe names {members}."
        )
    least, most = traits.models
    if not least <= len(recipe.models) <= (most or len(recipe.models)):
        raise RecipeError(
            f"{name} takes {count_words(least, most)}, the base not counted; the recipe "
            f"names {len(recipe.models)}."
        )
    if not traits.weighted and any(m.weight != 1.0 for m in recipe.models):
        raise RecipeError(f"{name} has no use for weights. Remove them from models.")


def _read_stats(
    recipe: Recipe, steps: Sequence[Step], base: Checkpoint | None, models: Sequence[Checkpoint]
) -> tuple[tuple[Step, ...], tuple[StatisticsFile, ...], list[str]]:
    """The steps with the statistics they read, the files, and what users should know of them."""
    complete: list[Step] = []
    files: dict[Path, StatisticsFile] = {}
    notes: list[str] = []
    keys = [f"before.{i}.stats" for i in range(len(recipe.before))] + ["stats"]
    keys += [f"after.{i}.stats" for i in range(len(recipe.after))]
    for number, (step, key) in enumerate(zip(steps, keys, strict=True)):

        def first_merge(adjusted: int = number - len(recipe.before) - 1) -> tuple[str, str]:
            shorter = replace(recipe, after=recipe.after[:adjusted])
            return plan(shorter).digest, merge_command(shorter, STEP)

        with_statistics, read, own_notes = read_stats(step, key, base, models, first_merge)
        complete.append(with_statistics)
        files |= {file.path: file for file in read}
        notes += own_notes
    return tuple(complete), tuple(files.values()), notes


def _summary(file: StatisticsFile) -> str:
    """A calibration file in one line."""
    record = file.calibration
    return (
        f"{file.path}: {record.kind} of {record.model_name}, {record.samples} samples of "
        f"{record.data_name}, {record.tokens} tokens"
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
