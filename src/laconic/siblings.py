"""Whether checkpoints can be merged at all: same tensors, same architecture, same tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoint import EMBED, FLOATS, HEAD, Checkpoint
from laconic.errors import CheckpointError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What two configs must agree on for their weights to mean the same.
ARCHITECTURE: Final = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "layer_norm_eps",
)  # fmt: skip


def check_siblings(members: Sequence[Checkpoint], system2: Checkpoint) -> tuple[str, ...]:
    """Compare checkpoints by their headers, configs and vocabularies.

    Args:
        members: Every checkpoint of the merge, the base first.
        system2: The one that gives the output its shape.

    Returns:
        What the user should know though it is no error.

    Raises:
        CheckpointError: For a tensor that is missing, extra, of another shape or of a type that
            cannot be merged, and for configs that disagree, naming checkpoint and tensor.
    """
    others = [m for m in members if m is not system2]
    for model in others:
        _check_config(model, system2)
        _check_tensors(model, system2)
    for model in members:
        for spec in model.specs.values():
            if spec.dtype not in FLOATS and not spec.dtype.startswith(("I", "U", "BOOL")):
                raise CheckpointError(
                    f"'{spec.name}' of {model.name} has type {spec.dtype}. Only "
                    f"{', '.join(FLOATS.values())} can be merged: save it in one of them first."
                )
    return tuple(note for model in others for note in _notes(model, system2))


def _check_config(model: Checkpoint, system2: Checkpoint) -> None:
    for key in ARCHITECTURE:
        mine, theirs = model.config.get(key), system2.config.get(key)
        if mine is not None and theirs is not None and mine != theirs:
            raise CheckpointError(
                f"{model.name} and {system2.name} are no siblings: {key} is {mine!r} in one "
                f"config and {theirs!r} in the other."
            )
    mine, theirs = _rope(model.config), _rope(system2.config)
    if mine != theirs:
        raise CheckpointError(
            f"{model.name} and {system2.name} rotate positions differently: {mine} in one config, "
            f"{theirs} in the other. Their attention weights do not mean the same."
        )


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary settings, whichever way a transformers version has written them."""
    nested = config.get("rope_parameters") or config.get("rope_scaling") or {}
    settings = {"rope_theta": config.get("rope_theta"), **nested}
    kind = settings.pop("type", None) or settings.pop("rope_type", None)
    return {**settings, "rope_type": kind or "default"}


def _check_tensors(model: Checkpoint, system2: Checkpoint) -> None:
    mine, theirs = set(model.specs) | {HEAD}, set(system2.specs) | {HEAD}
    if missing := sorted(theirs - mine):
        raise CheckpointError(
            f"{model.name} has no tensor '{missing[0]}' ({len(missing)} missing), "
            f"which {system2.name} has. {did_you_mean(missing[0], mine - theirs or mine)}"
        )
    if extra := sorted(mine - theirs):
        raise CheckpointError(
            f"{model.name} has a tensor '{extra[0]}' ({len(extra)} extra) that {system2.name} "
            "has not. Are they of one family?"
        )
    for checkpoint in (model, system2):
        if HEAD not in checkpoint.specs and not checkpoint.tied and EMBED in checkpoint.specs:
            raise CheckpointError(
                f"{checkpoint.name} has no '{HEAD}', yet its config says the head is not tied to "
                "the embedding. Fetch it again, or mend tie_word_embeddings."
            )
    for name, spec in model.specs.items():
        other = system2.specs.get(name) or system2.specs[EMBED]
        if spec.shape != other.shape:
            raise CheckpointError(
                f"'{name}' is {list(spec.shape)} in {model.name} and {list(other.shape)} in "
                f"{system2.name}. Tensors must have one shape to be merged."
            )


def _notes(model: Checkpoint, system2: Checkpoint) -> list[str]:
    notes = []
    if model.tied != system2.tied:
        notes.append(
            f"The output head is {'tied' if model.tied else 'its own'} in {model.name} and "
            f"{'tied' if system2.tied else 'its own'} in {system2.name}: the tied one's embedding "
            "stands in for its head, and the result has a head of its own."
        )
    if model.window != system2.window:
        notes.append(
            f"The context window is {model.window} in {model.name} and {system2.window} in "
            f"{system2.name}: the result takes {system2.window}."
        )
    mine, theirs = model.vocabulary(), system2.vocabulary()
    differing = [i for i in sorted(mine.keys() & theirs.keys()) if mine[i] != theirs[i]]
    if differing:
        shown = ", ".join(f"{i} ({mine[i]!r}, {theirs[i]!r})" for i in differing[:3])
        notes.append(
            f"{len(differing)} token ids stand for different strings in {model.name} and "
            f"{system2.name}, such as {shown}: their embedding rows are merged all the same."
        )
    return notes
