"""The tensors that several checkpoints have in common, with rows matched by token string."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from laconic.checkpoints.header import FLOATS
from laconic.checkpoints.layout import natural
from laconic.checkpoints.vocabulary import keys, match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from laconic.checkpoints.checkpoint import Checkpoint

#: A checkpoint is compared if it has a counterpart for at least this share of the base's values.
ENOUGH: Final = 0.5


@dataclass(frozen=True)
class SharedTensor:
    """A tensor that every checkpoint has.

    Attributes:
        name: Its name; for a tied head, the name of the head.
        shape: The shape of the values that are compared.
        homes: The name under which each checkpoint stores it.
        places: The rows of each checkpoint's tensor that are compared, [checkpoint, row]; None
            if all rows are compared in order.
    """

    name: str
    shape: tuple[int, ...]
    homes: tuple[str, ...]
    places: NDArray[np.int64] | None = None

    @property
    def elements(self) -> int:
        """The number of values that are compared in each checkpoint."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class CommonTensors:
    """The tensors that can be compared, and those that cannot.

    Attributes:
        tensors: The tensors that all checkpoints have, in the order of the model.
        left_out: The reason for each tensor that cannot be compared, by its name.
        notes: What the user should know of the comparison.
    """

    tensors: tuple[SharedTensor, ...]
    left_out: Mapping[str, str]
    notes: tuple[str, ...] = ()


def comparable(base: Checkpoint, other: Checkpoint) -> float:
    """The share of the base's values that have a counterpart of the same shape in another.

    Embedding and head are left out.
    """
    total = common = 0
    for name, spec in base.specs.items():
        if name in base.layout.by_token or spec.dtype not in FLOATS:
            continue
        size = math.prod(spec.shape)
        total += size
        twin = other.specs.get(name)
        common += size if twin is not None and twin.shape == spec.shape else 0
    return common / total if total else 0.0


def common_tensors(members: Sequence[Checkpoint]) -> CommonTensors:
    """The tensors that all checkpoints have, with rows matched by token string where ids differ.

    Args:
        members: The checkpoints, the base first.
    """
    names = {name for member in members for name in member.specs}
    tensors: list[SharedTensor] = []
    left_out: dict[str, str] = {}
    rows = _MatchedRows(members)
    for name in sorted(names, key=natural):
        homes = [member.home(name) for member in members]
        lacking = [m.name for m, home in zip(members, homes, strict=True) if home not in m.specs]
        if lacking:
            left_out[name] = f"not in {', '.join(lacking)}"
            continue
        specs = [member.specs[home] for member, home in zip(members, homes, strict=True)]
        if odd := sorted({spec.dtype for spec in specs if spec.dtype not in FLOATS}):
            left_out[name] = f"stored as {', '.join(odd)}, which is not merged"
            continue
        by_token = (
            name in members[0].layout.by_token and len({spec.shape[1:] for spec in specs}) == 1
        )
        places = rows.places([spec.shape[0] for spec in specs]) if by_token else None
        if places is not None:
            shape = (places.shape[1], *specs[0].shape[1:])
            tensors.append(SharedTensor(name, shape, tuple(homes), places))
        elif len({spec.shape for spec in specs}) > 1:
            sizes = {str(list(spec.shape)): m.name for m, spec in zip(members, specs, strict=True)}
            left_out[name] = ", ".join(f"{size} in {owner}" for size, owner in sizes.items())
        else:
            tensors.append(SharedTensor(name, specs[0].shape, tuple(homes)))
    return CommonTensors(tuple(tensors), left_out, tuple(rows.notes))


class _MatchedRows:
    """Finds the rows of the same token in every checkpoint."""

    def __init__(self, members: Sequence[Checkpoint]) -> None:
        self._members = members
        self._known: dict[tuple[int, ...], NDArray[np.int64] | None] = {}
        self.notes: list[str] = []

    def places(self, counts: Sequence[int]) -> NDArray[np.int64] | None:
        """The matching rows, [checkpoint, row]; None if they are equal already, or not known."""
        key = tuple(counts)
        if key not in self._known:
            self._known[key] = self._matched(counts)
        return self._known[key]

    def _matched(self, counts: Sequence[int]) -> NDArray[np.int64] | None:
        strings = [member.vocabulary() for member in self._members]
        if not all(strings):
            return None
        if len(set(counts)) == 1 and all(own == strings[0] for own in strings):
            return None
        held = [keys(own, count) for own, count in zip(strings, counts, strict=True)]
        if all(own == held[0] for own in held):
            return None
        found = np.stack([match(held[0], own) for own in held])
        found = found[:, (found >= 0).all(axis=0)]
        said = (
            f"Rows of tokens are compared by token string: {found.shape[1]:,} of the "
            f"{counts[0]:,} rows of {self._members[0].name} are in all."
        )
        if said not in self.notes:
            self.notes.append(said)
        return found
