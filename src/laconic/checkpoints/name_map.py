"""Which tensors of a checkpoint a loaded model's parameters are made of, and the reverse.

Names on disk and names in an engine differ in four ways, all of which are known here and nowhere
else: a tied head has no tensor of its own, an engine fuses matrices that lie apart on disk
(query, key and value; gate and up), it stacks the experts of a layer, and a model with towers for
images has another order of the words ``model`` and ``language_model``. The names themselves are in
`laconic.checkpoints.architecture_names`.

    pieces = map_names({"model.layers.0.mlp.experts.down_proj": 8 * 16 * 12}, disk_shapes)
    pieces["model.layers.0.mlp.experts.down_proj"][3].tensor
    # 'model.layers.0.mlp.experts.3.down_proj.weight'
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from laconic.checkpoints.architecture_names import (
    EMBEDDINGS,
    FEED_FORWARDS,
    FUSED_WEIGHTS,
    HEADS,
    STACKED_DOWN,
    STACKED_GATE_UP,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from torch import Tensor

    from laconic.checkpoints.architecture_names import FusedWeight

Component = Literal["embedding", "attention", "mlp", "norm", "head", "other"]
#: The parts of a model that tensors belong to, in the order of a forward pass.
COMPONENTS: Final[tuple[Component, ...]] = (
    "embedding", "attention", "mlp", "norm", "head", "other",
)  # fmt: skip
#: Words of names that layouts put in different places, or leave out.
_NESTING: Final = ("model", "language_model", "vision_model")


@dataclass(frozen=True)
class ParameterPiece:
    """A tensor of the checkpoint within a parameter of the engine.

    Attributes:
        tensor: Its name on disk.
        place: The index of its values in the parameter: ``parameter[place]`` has the tensor's
            shape. ``...`` where the parameter is the tensor.
        start: Where its values begin in the flattened parameter, in elements.
        count: How many elements it has; 0 where the checkpoint has no such tensor.
    """

    tensor: str
    place: Any
    start: int
    count: int


@dataclass(frozen=True)
class ExpertNames:
    """The names on disk of one expert's matrices.

    Attributes:
        inputs: The matrices that read the layer's input: gate and up.
        inner: The matrices that read the product of both: down.
    """

    inputs: tuple[str, ...]
    inner: tuple[str, ...]


def map_names(
    parameters: Mapping[str, int],
    disk: Mapping[str, Sequence[int]],
    tied: Mapping[str, str] | None = None,
) -> dict[str, tuple[ParameterPiece, ...]]:
    """The tensors of a checkpoint that each parameter of an engine is made of.

    A parameter that neither the checkpoint nor the table of fused weights knows is mapped to a
    tensor of its own name, with a count of 0: the caller decides what a missing tensor means.

    Args:
        parameters: The number of elements of each parameter, by its name in the engine.
        disk: The shape of each tensor of the checkpoint, by its name on disk.
        tied: Parameters that are other ones under a second name, such as a tied head, and which.

    Returns:
        The pieces of each parameter, in the order in which they follow one another in it; those of
        a tied parameter are those of the other.
    """
    pieces = {name: _pieces(name, size, disk) for name, size in parameters.items()}
    return pieces | {name: pieces[other] for name, other in (tied or {}).items()}


def expert_names(
    pieces: Mapping[str, Sequence[ParameterPiece]], module: str
) -> tuple[ExpertNames, ...] | None:
    """The names on disk of a layer's experts, expert by expert.

    Args:
        pieces: What `map_names` gave.
        module: The engine's module that holds all experts.

    Returns:
        None where the module holds no experts, or the checkpoint stacks them, too.
    """
    both = [pieces.get(f"{module}.{name}", ()) for name in (STACKED_GATE_UP, STACKED_DOWN)]
    if not all(both) or any(piece.place is ... for part in both for piece in part):
        return None
    names: list[dict[int, list[str]]] = []
    for part in both:
        by_expert: dict[int, list[str]] = {}
        for piece in part:
            by_expert.setdefault(piece.place[0], []).append(piece.tensor)
        names.append(by_expert)
    inputs, inner = names
    return tuple(ExpertNames(tuple(inputs[e]), tuple(inner[e])) for e in sorted(inputs))


def split_by_tensor(
    parameters: Mapping[str, Tensor], disk: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """An engine's parameters by the names that their parts have on disk.

    Args:
        parameters: The engine's parameters, flat, ``[element]``; tied ones under both names.
        disk: The shape of each tensor of the checkpoint.

    Returns:
        Views of the parameters, ``[element]``: writing to them changes the parameters. A parameter
        that the checkpoint does not have keeps its name and is given whole.
    """
    sizes = {name: tensor.numel() for name, tensor in parameters.items()}
    return {
        piece.tensor: tensor if piece.place is ... else tensor[piece.start :][: piece.count]
        for (name, tensor), pieces in zip(
            parameters.items(), map_names(sizes, disk).values(), strict=True
        )
        for piece in pieces
    }


def component_of(name: str) -> Component:
    """The part of a model that a tensor belongs to, told by the words of its name."""
    words = name.lower().split(".")
    if any(word in HEADS for word in words) or name == "output.weight":
        return "head"
    if any(word in EMBEDDINGS for word in words):
        return "embedding"
    if any("norm" in word or word.startswith("ln_") for word in words):
        return "norm"
    if any("attn" in word or "attention" in word for word in words):
        return "attention"
    return "mlp" if any(word in FEED_FORWARDS for word in words) else "other"


def short_names(names: Iterable[str]) -> dict[str, str | None]:
    """Tensors by their names without the words that layouts put in different places.

    The Hub writes ``language_model.model.layers.0`` or ``model.layers.0`` where transformers, whose
    module names adapters carry, has ``model.language_model.layers.0``.

    Returns:
        The full name by the short one; None where two tensors share a short name.
    """
    by_short_name: dict[str, str | None] = {}
    for name in names:
        short = _short(name)
        by_short_name[short] = None if short in by_short_name else name
    return by_short_name


def name_on_disk(known: Container[str], by_short_name: Mapping[str, str | None], name: str) -> str:
    """What a checkpoint calls a tensor; the name itself where it has none like it.

    Args:
        known: The checkpoint's tensors.
        by_short_name: The same by `short_names`.
        name: The name in any layout.
    """
    return name if name in known else by_short_name.get(_short(name)) or name


def _pieces(name: str, size: int, disk: Mapping[str, Sequence[int]]) -> tuple[ParameterPiece, ...]:
    """The pieces of one parameter of `size` elements."""
    if name in disk:
        return (ParameterPiece(name, ..., 0, math.prod(disk[name])),)
    for family in FUSED_WEIGHTS.values():
        for fused in family:
            block = name.removesuffix(fused.parameter)
            first = [_on_disk(block, tensor, 0) for tensor in fused.tensors]
            if block != name and all(tensor in disk for tensor in first):
                return _fused_pieces(fused, block, size, disk)
    return (ParameterPiece(name, ..., 0, 0),)


def _fused_pieces(
    fused: FusedWeight, block: str, size: int, disk: Mapping[str, Sequence[int]]
) -> tuple[ParameterPiece, ...]:
    """The pieces of a parameter that holds several tensors, expert by expert, row by row."""
    stacked = any("{expert}" in tensor for tensor in fused.tensors)
    shapes = [disk[_on_disk(block, tensor, 0)] for tensor in fused.tensors]
    experts = max(1, size // sum(map(math.prod, shapes))) if stacked else 1
    pieces: list[ParameterPiece] = []
    start = 0
    for expert in range(experts):
        row = 0
        for tensor, shape in zip(fused.tensors, shapes, strict=True):
            own = _on_disk(block, tensor, expert)
            rows = slice(row, row + shape[0])
            place = (expert, rows) if stacked else rows
            count = math.prod(disk[own]) if own in disk else 0
            pieces.append(
                ParameterPiece(own, ... if len(shapes) + stacked == 1 else place, start, count)
            )
            row, start = row + shape[0], start + math.prod(shape)
    return tuple(pieces)


def _on_disk(block: str, ending: str, expert: int) -> str:
    """The name on disk that an ending of the table stands for."""
    return block + ending.replace("{expert}", str(expert))


def _short(name: str) -> str:
    return ".".join(word for word in name.split(".") if word not in _NESTING)
