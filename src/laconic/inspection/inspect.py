"""The comparison of a base with its models: compatible, right base, distances, agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from laconic.checkpoints.adapter import open_weights
from laconic.checkpoints.name_map import COMPONENTS, component_of
from laconic.inspection.config_diff import Difference, differences
from laconic.inspection.shared import (
    ENOUGH,
    CommonTensors,
    SharedTensor,
    common_tensors,
    comparable,
)
from laconic.inspection.sums import DistanceSums, NonFiniteValues, measure, total
from laconic.inspection.verdict import (
    BaseVerdict,
    ModelCompatibility,
    check_compatibility,
    choose_base,
    warnings,
)
from laconic.runtime import silent

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.checkpoints.layout import Depth
    from laconic.runtime import Progress

__all__ = ["Inspection", "inspect"]


@dataclass(frozen=True)
class Inspection:
    """The comparison of a base, its models, and other candidates for the base.

    Attributes:
        base: The base's name.
        models: The models' names.
        candidates: The names of other checkpoints that might be the base.
        used: The checkpoints that `sums` covers, by their places in `names`; the base is first.
        compatibility: For each model, whether it can be merged with the base.
        base_verdict: What the distances between the checkpoints say of the base.
        warnings: Reasons why a merge would be wrong or useless, in sentences.
        notes: The notes that a merge would print, and notes on the comparison.
        differences: Differences of config, tokenizer and template, with one value for each name.
        common_tensors: Which tensors were compared, and which were not.
        broken: NaN and infinite values, by checkpoint and tensor.
        sums: The sums over each tensor that was compared, by the tensor's name.
        depth: The layers of the base's text model.
    """

    base: str
    models: tuple[str, ...]
    candidates: tuple[str, ...]
    used: tuple[int, ...]
    compatibility: tuple[ModelCompatibility, ...]
    base_verdict: BaseVerdict
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    differences: tuple[Difference, ...]
    common_tensors: CommonTensors
    broken: tuple[NonFiniteValues, ...]
    sums: Mapping[str, DistanceSums]
    depth: Depth

    @property
    def names(self) -> tuple[str, ...]:
        """The base, the models and the candidates, in this order."""
        return (self.base, *self.models, *self.candidates)

    @property
    def compared(self) -> dict[int, str]:
        """The names of the models that `sums` covers, by their places in `used`."""
        return {i: self.names[n] for i, n in enumerate(self.used) if 1 <= n <= len(self.models)}

    @cached_property
    def layers(self) -> int:
        """The number of layers that were compared."""
        return 1 + max((i for i in map(self.depth.of, self.sums) if i is not None), default=-1)

    @cached_property
    def matrices(self) -> DistanceSums:
        """The sums over the attention and MLP matrices, from which the base is judged."""
        return _matrices(
            self.sums, self.common_tensors, len(self.used), len(self.compared), self.depth
        )

    @cached_property
    def whole(self) -> DistanceSums:
        """The sums over everything."""
        return self._total(self.sums)

    @cached_property
    def parts(self) -> dict[str, DistanceSums]:
        """The sums over each part that the model has, in the order of a forward pass."""
        by_part = {part: [n for n in self.sums if component_of(n) == part] for part in COMPONENTS}
        return {part: self._total(names) for part, names in by_part.items() if names}

    def layer(self, first: int, last: int | None = None, part: str | None = None) -> DistanceSums:
        """The sums over some layers.

        Args:
            first: The first of them.
            last: The last of them; None means the first only.
            part: Restrict the sums to this part; None means all parts.
        """
        end = first if last is None else last
        return self._total(
            name
            for name in self.sums
            if (layer := self.depth.of(name)) is not None
            and first <= layer <= end
            and part in (None, component_of(name))
        )

    def _total(self, names: Iterable[str]) -> DistanceSums:
        return total((self.sums[n] for n in names), len(self.used), len(self.compared))


def inspect(
    base: str | Path | Checkpoint,
    models: Sequence[str | Path | Checkpoint],
    *,
    candidates: Sequence[str | Path | Checkpoint] = (),
    progress: Progress = silent,
) -> Inspection:
    """Compare models with their base, value by value, in one pass over the weights.

    Weights are read in blocks, so memory does not grow with the size of the checkpoints.

    Args:
        base: The start of the task vectors: a folder, a Hub id, ``lab:NAME`` or BASE+ADAPTER.
        models: The models to merge.
        candidates: Other checkpoints that may be the models' base.
        progress: Called after each tensor.

    Raises:
        CheckpointError: For a checkpoint that is missing, damaged, packed, or cannot be read.
    """
    members = [open_weights(member) for member in (base, *models, *candidates)]
    fits, notes = check_compatibility(members[: 1 + len(models)])
    used, aside = _used(members)
    chosen = [members[i] for i in used]
    counted = sum(1 <= i <= len(models) for i in used)
    common = common_tensors(chosen)
    sums: dict[str, DistanceSums] = {}
    broken: tuple[NonFiniteValues, ...] = ()
    if len(used) > 1:
        sums, broken = measure(chosen, common.tensors, models=counted, progress=progress)
    depth = members[0].layout.depth
    core = _matrices(sums, common, len(used), counted, depth)
    said = warnings(
        members,
        len(models),
        numbers=total(sums.values(), len(used), counted),
        used=used,
        broken=broken,
    )
    return Inspection(
        base=members[0].name,
        models=tuple(m.name for m in members[1 : 1 + len(models)]),
        candidates=tuple(m.name for m in members[1 + len(models) :]),
        used=tuple(used),
        compatibility=fits,
        base_verdict=choose_base(chosen, counted, core),
        warnings=said,
        notes=tuple(
            dict.fromkeys((*notes, *(n for m in members for n in m.notes), *common.notes, *aside))
        ),
        differences=differences(members),
        common_tensors=common,
        broken=broken,
        sums=sums,
        depth=depth,
    )


def _used(members: Sequence[Checkpoint]) -> tuple[list[int], list[str]]:
    """The checkpoints that have enough in common with the base, and notes on the others."""
    used, notes = [0], []
    for i, member in enumerate(members[1:], 1):
        share = comparable(members[0], member)
        if share >= ENOUGH:
            used.append(i)
        else:
            notes.append(
                f"{member.name} is left out of the numbers: {share:.0%} of the values of "
                f"{members[0].name} have a counterpart in it.".replace("%", " %")
            )
    return used, notes


def _matrices(
    sums: Mapping[str, DistanceSums], common: CommonTensors, members: int, models: int, depth: Depth
) -> DistanceSums:
    """The sums over the attention and MLP matrices; if there are none, over everything."""

    def core(tensor: SharedTensor) -> bool:
        inside = depth.of(tensor.name) is not None and len(tensor.shape) > 1
        return inside and component_of(tensor.name) in ("attention", "mlp")

    chosen = [sums[t.name] for t in common.tensors if t.name in sums and core(t)]
    return total(chosen or sums.values(), members, models)
