"""Merging: a plan becomes a checkpoint, one tensor at a time."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from laconic.card import model_card
from laconic.checkpoint import (
    EMBED,
    FLOATS,
    HEAD,
    Checkpoint,
    TensorSpec,
    layer_of,
)
from laconic.effects import equals_base
from laconic.errors import CheckpointError, RecipeError
from laconic.jsonfile import write_json
from laconic.method import TensorGroup
from laconic.plan import Plan, plan
from laconic.progress import Progress, silent
from laconic.thresholds import Thresholds
from laconic.version import versions
from laconic.writer import SHARD_BYTES, CheckpointWriter, check_free

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from laconic.recipe import Recipe
    from laconic.stage import Stage

logger = logging.getLogger(__name__)


def merge(
    recipe: Recipe,
    output: str | Path,
    *,
    progress: Progress = silent,
    shard_bytes: int = SHARD_BYTES,
    hash_inputs: bool = False,
) -> Checkpoint:
    """Merge checkpoints into a new folder.

    The folder appears only when it is whole. A merge that was killed goes on where it stopped when
    the same recipe is merged into the same folder again.

    Args:
        recipe: What to merge and how.
        output: The folder to create; must be missing or empty.
        progress: Told after each tensor.
        shard_bytes: The most tensor bytes of one weight file; 5 GB by default. It does not change
            the values.
        hash_inputs: Whether run.json is to hold a hash of every input file in full; that can take
            longer than the merge.

    Returns:
        The merged checkpoint, opened.

    Raises:
        RecipeError: As for `plan`.
        CheckpointError: As for `plan`; for an output folder in use, a full disk, or a value that
            is not finite, naming tensor and model.
    """
    planned = plan(recipe, output, hash_inputs=hash_inputs)
    return execute(planned, output, progress=progress, shard_bytes=shard_bytes)


def execute(
    plan: Plan,
    output: str | Path,
    *,
    progress: Progress = silent,
    shard_bytes: int = SHARD_BYTES,
) -> Checkpoint:
    """Carry out a plan; arguments and errors as for `merge`."""
    target = Path(output).expanduser()
    check_free(target)
    for note in plan.notes:
        logger.warning("%s", note)
    plan.fetch()
    with CheckpointWriter(
        target, plan.specs, digest=f"{plan.digest}/{shard_bytes}", shard_bytes=shard_bytes
    ) as writer:
        try:
            work = _Pipeline(plan, progress, total=len(plan.specs), done=writer.finished)
            writer.write(work.tensor)
            found = [note for note in work.still() if note not in plan.notes]
            for note in found:
                logger.warning("%s", note)
            _write_companions(plan, writer.work, (*plan.notes, *found))
        except OSError as error:
            raise CheckpointError(
                f"{target} cannot be written: {error.strerror}. Finished weight files are kept: "
                "run the same command again when this is mended."
            ) from error
        except (RecipeError, CheckpointError):
            writer.discard()
            raise
        return Checkpoint(writer.publish())


class _Pipeline:
    """Computes the output's tensors one by one, and remembers which models never moved."""

    def __init__(self, plan: Plan, progress: Progress, *, total: int, done: int) -> None:
        self.plan = plan
        self.progress = progress
        self.total = total
        self.done = done
        self.moved = [done > 0] * len(plan.models)
        self.limits = [Thresholds() for _ in range(len(plan.before) + 1)]
        self._measure()

    def tensor(self, spec: TensorSpec) -> Tensor:
        """The finished tensor of a spec, on the CPU, in the spec's type."""
        if spec.name in self.plan.copied:
            result = self.plan.system2.read(spec.name)
        else:
            result = self._merged(spec)
        self.done += 1
        self.progress(self.done, self.total, spec.name)
        return result

    def still(self) -> tuple[str, ...]:
        """A note for each model that equals the base everywhere."""
        if self.plan.base is None:
            return ()
        return tuple(
            equals_base(model.name)
            for model, moved in zip(self.plan.models, self.moved, strict=True)
            if not moved
        )

    def _merged(self, spec: TensorSpec) -> Tensor:
        import torch

        group = self._transformed(self._group(spec.name), len(self.plan.before))
        stages = (self.plan.method, *self.plan.after)
        method, params = stages[0].plugin, stages[0].params_for(spec.name)
        group = replace(group, limits=self.limits[-1].found)
        merged: Tensor = method.function(group, **params)
        for stage in stages[1:]:
            merged = stage.plugin.function(group, merged, **stage.params_for(spec.name))
        stored = merged.to(getattr(torch, FLOATS[spec.dtype]))
        if not bool(torch.isfinite(stored).all()):
            cause = (
                f"its values do not fit {FLOATS[spec.dtype]}; choose another dtype"
                if bool(torch.isfinite(merged).all())
                else f"{method.name} with {dict(params)} made them; look at its parameters"
            )
            raise CheckpointError(f"The merged '{spec.name}' is not finite: {cause}.")
        return stored

    def _group(self, name: str) -> TensorGroup:
        import torch

        values = [read_merged(model, name) for model in self.plan.members]
        for model, value in zip(self.plan.members, values, strict=True):
            if not bool(torch.isfinite(value).all()):
                raise CheckpointError(
                    f"'{name}' of {model.name} holds NaN or Inf: the checkpoint is broken. "
                    "Fetch or train it again."
                )
        base = values[0] if self.plan.base else torch.zeros_like(values[0])
        vectors = torch.stack([v - base for v in values[-len(self.plan.models) :]])
        for i, vector in enumerate(vectors):
            self.moved[i] = self.moved[i] or bool(vector.any())
        return TensorGroup(
            name=name,
            base=base,
            vectors=vectors,
            weights=self.plan.weights_for(name),
            seed=self.plan.recipe.seed,
            layer=layer_of(name),
            layers=self.plan.system2.layers,
            has_base=self.plan.base is not None,
        )

    def _transformed(self, group: TensorGroup, steps: int) -> TensorGroup:
        """The group after the first `steps` transforms."""
        for stage, limits in zip(self.plan.before[:steps], self.limits, strict=False):
            params = stage.params_for(group.name)
            group = stage.plugin.function(replace(group, limits=limits.found), **params)
        return group

    def _measure(self) -> None:
        """Find the thresholds of the steps that trim over the whole model, in streaming passes."""
        names = [spec.name for spec in self.plan.specs if spec.name not in self.plan.copied]
        for step, stage in enumerate((*self.plan.before, self.plan.method)):
            densities = _model_densities(stage, names)
            for _ in Thresholds.PASSES if densities else ():
                for done, name in enumerate(names, start=1):
                    group = self._transformed(self._group(name), step)
                    self.limits[step].count(group.vectors)
                    self.progress(done, len(names), f"threshold: {name}")
                self.limits[step].settle(densities)


def read_merged(model: Checkpoint, name: str) -> Tensor:
    """A tensor in float32; the head of a tied checkpoint is its embedding."""
    return model.read(EMBED if name == HEAD and HEAD not in model.specs else name).float()


def _model_densities(stage: Stage, names: Sequence[str]) -> tuple[float, ...]:
    """The densities at which a stage trims over the whole model."""
    if not stage.plugin.traits.get("trims"):
        return ()
    params = [stage.params_for(name) for name in names]
    return tuple(sorted({p["density"] for p in params if p["scope"] == "model"}))


def _write_companions(plan: Plan, folder: Path, notes: tuple[str, ...]) -> None:
    """Everything beside the weights: config, tokenizer, templates, card, run.json."""
    rows = next((spec.shape[0] for spec in plan.specs if spec.name == EMBED), None)
    plan.inputs.companions.write(folder, rows=rows, tied=not plan.untied, dtype=plan.recipe.dtype)
    record = {
        "schema": 1,
        "kind": "merge",
        "complete": True,
        "recipe": plan.recipe.to_dict(),
        "digest": plan.digest,
        "inputs": plan.identities(),
        "system2": plan.system2.name,
        "seed": plan.recipe.seed,
        "notes": list(notes),
        "device": "cpu",
        "versions": versions("torch", "safetensors"),
        "command": sys.argv,
    }
    write_json(folder / "run.json", record)
    (folder / "README.md").write_text(model_card(plan.recipe, record), encoding="utf-8")
