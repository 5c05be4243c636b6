"""The output's tensors: which there are, of what type, and which of them are copied unmerged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from laconic.checkpoints.header import FLOATS, TensorSpec
from laconic.checkpoints.layout import natural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.checkpoints.parts import Parts
    from laconic.merging.recipe import Recipe


def output_specs(
    recipe: Recipe, members: Sequence[Checkpoint], system2: Checkpoint, parts: Parts
) -> tuple[tuple[TensorSpec, ...], frozenset[str]]:
    """The tensors of the output, and which of them are copied.

    Args:
        recipe: Says the type.
        members: Every checkpoint of the merge, the base first.
        system2: The one that gives the output its shape.
        parts: What becomes of towers and multi-token prediction layers.
    """
    names, head = set(system2.specs) - parts.apart | parts.donors.keys(), system2.layout.head
    if head is not None and any(head in model.specs for model in members):
        names.add(head)
    dtypes = {name: safe for safe, name in FLOATS.items()}
    specs, copied = [], set()
    for name in sorted(names, key=natural):
        donor = parts.donors.get(name, system2)
        spec = replace(donor.specs[donor.home(name)], name=name)
        if spec.dtype not in FLOATS or name.endswith("inv_freq") or name in parts.donors:
            copied.add(name)
        if spec.dtype in FLOATS and not name.endswith("inv_freq"):
            kept = donor.native(name)
            spec = replace(spec, dtype=dtypes[recipe.dtype] if recipe.dtype else kept)
        specs.append(spec)
    return parts.written(specs), frozenset(copied)


def output_notes(specs: Sequence[TensorSpec], system2: Checkpoint, parts: Parts) -> tuple[str, ...]:
    """Notes on what is copied for want of arithmetic, and on blocks that are no layers.

    Args:
        specs: The tensors of the output.
        system2: The one that gives the output its shape.
        parts: What is copied from elsewhere, which has notes of its own.
    """
    merged = [spec for spec in specs if spec.name not in parts.donors]
    return (*_copied_notes(merged, system2), *_depth_notes(merged, system2))


def _copied_notes(specs: Sequence[TensorSpec], system2: Checkpoint) -> list[str]:
    """A note on integers and truth values, which no arithmetic of a merge is meant for."""
    whole = [spec for spec in specs if spec.dtype not in FLOATS]
    if not whole:
        return []
    count = "A tensor holds" if len(whole) == 1 else f"{len(whole)} tensors hold"
    shown = ", ".join(f"'{spec.name}' ({spec.dtype})" for spec in whole[:3])
    return [
        f"{count} integers or truth values and no weights: {shown}"
        f"{', ...' if len(whole) > 3 else ''}. They are copied from {system2.name} unmerged."
    ]


def _depth_notes(specs: Sequence[TensorSpec], system2: Checkpoint) -> list[str]:
    """A note on numbered blocks that are no layers of the text model."""
    depth = system2.layout.depth
    others = depth.outside(spec.name for spec in specs)
    if not others:
        return []
    most = sorted(others, key=lambda stack: (-others[stack], stack))[:3]
    shown = ", ".join(f"{others[stack]} of '{stack}'" for stack in most)
    return [
        f"Layers are the {depth.count} of '{depth.prefix}', the text model's. Numbered blocks "
        f"elsewhere ({shown}) are merged, too, but have no layer: a gradient gives them its first "
        "value, lines its last, and 'layers' of an override does not mean them."
    ]
