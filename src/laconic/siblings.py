"""Whether checkpoints can be merged at all: same tensors, same architecture, same tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoint import FLOATS, Checkpoint, setting
from laconic.errors import CheckpointError, did_you_mean
from laconic.layout import text_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: What two configs must agree on for their weights to mean the same.
ARCHITECTURE: Final = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "rms_norm_eps", "layer_norm_eps",
)  # fmt: skip


def check_siblings(
    members: Sequence[Checkpoint],
    system2: Checkpoint,
    *,
    config: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Compare checkpoints by their headers, configs and vocabularies.

    Args:
        members: Every checkpoint of the merge, the base first.
        system2: The one that gives the output its shape.
        config: The output's config; None means that of `system2`.

    Returns:
        What the user should know though it is no error.

    Raises:
        CheckpointError: For a tensor that is missing, extra, of another shape or of a type that
            cannot be merged, and for configs that disagree, naming checkpoint and tensor.
    """
    others = [m for m in members if m is not system2]
    for model in others:
        check_config(model, system2)
        _check_tensors(model, system2)
    for model in (*others, system2):
        _check_against_own_config(model)
        for spec in model.specs.values():
            if spec.dtype not in FLOATS and not spec.dtype.startswith(("I", "U", "BOOL")):
                raise CheckpointError(
                    f"'{spec.name}' of {model.name} has type {spec.dtype}. Only "
                    f"{', '.join(FLOATS.values())} can be merged: save it in one of them first."
                )
    for model in others:
        for spec in model.specs.values():
            other = system2.specs.get(spec.name, spec)
            if (spec.dtype in FLOATS) != (other.dtype in FLOATS):
                raise CheckpointError(
                    f"'{spec.name}' has type {spec.dtype} in {model.name} and {other.dtype} in "
                    f"{system2.name}: one of them holds numbers to merge, the other does not."
                )
    return tuple(note for model in others for note in _notes(model, system2, config))


def check_config(model: Checkpoint, system2: Checkpoint) -> None:
    """Refuse configs under which the same weights would not mean the same.

    Raises:
        CheckpointError: Naming the key and both values.
    """
    for key in ARCHITECTURE:
        mine, theirs = model.config.get(key), system2.config.get(key)
        if mine is not None and theirs is not None and mine != theirs:
            raise CheckpointError(
                f"{model.name} and {system2.name} are no siblings: {key} is {mine!r} in one "
                f"config and {theirs!r} in the other."
            )
    widths = _head_width(model.config), _head_width(system2.config)
    if None not in widths and widths[0] != widths[1]:
        raise CheckpointError(
            f"{model.name} and {system2.name} are no siblings: an attention head is {widths[0]} "
            f"wide by one config and {widths[1]} by the other."
        )
    mine, theirs = _rope(model.config), _rope(system2.config)
    if None in (mine["rope_theta"], theirs["rope_theta"]):
        mine["rope_theta"] = theirs["rope_theta"] = None
    if mine != theirs:
        raise CheckpointError(
            f"{model.name} and {system2.name} rotate positions differently: {mine} in one config, "
            f"{theirs} in the other. Their attention weights do not mean the same."
        )


def _check_against_own_config(model: Checkpoint) -> None:
    """Refuse a checkpoint whose weights are not those that its config describes."""
    depth = model.config.get("num_hidden_layers")
    if isinstance(depth, int) and model.layers < depth:
        raise CheckpointError(
            f"{model.name} has weights for {model.layers} layers, yet its config says "
            f"num_hidden_layers is {depth}. Fetch it again, or mend config.json."
        )
    rows = text_config(model.config).get("vocab_size")
    embedding = model.specs.get(model.layout.embedding or "")
    if isinstance(rows, int) and embedding is not None and embedding.shape[:1] != (rows,):
        raise CheckpointError(
            f"'{embedding.name}' of {model.name} is {list(embedding.shape)}, yet its config "
            f"says vocab_size is {rows}. Fetch it again, or mend config.json."
        )


def _head_width(config: dict[str, Any]) -> int | None:
    """How wide an attention head is: what the config says, else what follows from it."""
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    said = config.get("head_dim")
    if isinstance(said, int):
        return said
    return width // heads if isinstance(width, int) and isinstance(heads, int) and heads else None


def _sliding(config: Mapping[str, Any]) -> Any:
    """The sliding window that is in use, or None."""
    return config.get("sliding_window") if config.get("use_sliding_window", True) else None


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary settings, whichever way a transformers version has written them."""
    nested = config.get("rope_parameters") or config.get("rope_scaling") or {}
    settings = {"rope_theta": config.get("rope_theta"), **nested}
    kind = settings.pop("type", None) or settings.pop("rope_type", None)
    return {**settings, "rope_type": kind or "default"}


def _check_tensors(model: Checkpoint, system2: Checkpoint) -> None:
    heads = {model.layout.head, system2.layout.head} - {None}
    if len(heads) == 1:
        _check_head(model, system2)
    mine, theirs = set(model.specs) - heads, set(system2.specs) - heads
    if missing := sorted(theirs - mine):
        raise CheckpointError(
            f"{model.name} has no tensor '{missing[0]}' ({len(missing)} missing), "
            f"which {system2.name} has. {did_you_mean(missing[0], mine - theirs or mine)}"
            f"{_head_hint(missing, system2)}"
        )
    if extra := sorted(mine - theirs):
        raise CheckpointError(
            f"{model.name} has a tensor '{extra[0]}' ({len(extra)} extra) that {system2.name} "
            f"has not. Are they of one family?{_head_hint(extra, model)}"
        )
    for name, spec in model.specs.items():
        other = system2.specs[system2.home(name)]
        if (
            name in model.layout.by_token
            and spec.shape != other.shape
            and spec.shape[1:] == other.shape[1:]
        ):
            raise CheckpointError(
                f"'{name}' is {list(spec.shape)} in {model.name} and {list(other.shape)} in "
                f"{system2.name}: their vocabularies differ. Add 'tokenizer: system2' (--tokenizer "
                "system2; also base, union or a model's name) to match the rows by token string."
            )
        if spec.shape != other.shape:
            raise CheckpointError(
                f"'{name}' is {list(spec.shape)} in {model.name} and {list(other.shape)} in "
                f"{system2.name}. Tensors must have one shape to be merged."
            )


def _check_head(model: Checkpoint, system2: Checkpoint) -> None:
    """Refuse a checkpoint without the head that its config says it has."""
    for checkpoint in (model, system2):
        head, specs = checkpoint.layout.head, checkpoint.specs
        if head not in specs and checkpoint.layout.embedding in specs and not checkpoint.tied:
            raise CheckpointError(
                f"{checkpoint.name} has no '{head}', yet its config says the head is not tied to "
                "the embedding. Fetch it again, or mend tie_word_embeddings."
            )


def _head_hint(names: Sequence[str], owner: Checkpoint) -> str:
    """What to add where one checkpoint of an unknown model has a tensor more: perhaps its head."""
    shape = owner.specs[names[0]].shape
    if len(names) > 1 or len(shape) != 2 or owner.layout.head is not None:
        return ""
    return (
        f" transformers does not know this model's output head: if it is '{names[0]}', tied to the "
        f"embedding in the other, add 'head: {names[0]}' to the recipe."
    )


def _notes(model: Checkpoint, system2: Checkpoint, config: Mapping[str, Any] | None) -> list[str]:
    notes = []
    made = system2.config if config is None else config
    if model.tied != system2.tied:
        notes.append(
            f"The output head is {'tied' if model.tied else 'its own'} in {model.name} and "
            f"{'tied' if system2.tied else 'its own'} in {system2.name}: the tied one's embedding "
            "stands in for its head, and the result has a head of its own."
        )
    window, stored = "max_position_embeddings", _stored_type(system2)
    for what, mine, theirs, takes in (
        ("context window", model.window, system2.window, setting(made, window)),
        ("sliding window", *(_sliding(c) for c in (model.config, system2.config, made))),
        ("stop token", *(c.get("eos_token_id") for c in (model.config, system2.config, made))),
        ("stored type", _stored_type(model), stored, stored),
    ):
        if mine != theirs and (what != "stop token" or None not in (mine, theirs)):
            notes.append(
                f"The {what} is {mine} in {model.name} and {theirs} in {system2.name}: "
                f"the result takes {takes}."
            )
    return [*notes, *_token_notes(model, system2)]


def _stored_type(model: Checkpoint) -> str:
    """The type of most of a checkpoint's bytes."""
    sizes: dict[str, int] = {}
    for spec in model.specs.values():
        dtype = model.native(spec.name)
        sizes[dtype] = sizes.get(dtype, 0) + spec.nbytes
    most = max(sizes, key=lambda dtype: sizes[dtype])
    return FLOATS.get(most, most)


def _token_notes(model: Checkpoint, system2: Checkpoint) -> list[str]:
    """Where equal ids mean different tokens, or a token in one model only."""
    mine, theirs = model.vocabulary(), system2.vocabulary()
    for known, checkpoint in ((mine, model), (theirs, system2)):
        if not known:
            return [
                f"{checkpoint.name} has no tokenizer.json: whether token ids mean the same in it "
                "cannot be checked."
            ]
    notes = []
    differing = [i for i in sorted(mine.keys() & theirs.keys()) if mine[i] != theirs[i]]
    if differing:
        shown = ", ".join(f"{i} ({mine[i]!r}, {theirs[i]!r})" for i in differing[:3])
        notes.append(
            f"{len(differing)} token ids stand for different strings in {model.name} and "
            f"{system2.name}, such as {shown}: their embedding rows are merged all the same. "
            "'tokenizer: system2' (or base, or union) would match them by string."
        )
    for ours, others, owner, other in (
        (mine, theirs, model, system2),
        (theirs, mine, system2, model),
    ):
        if only := sorted(ours.keys() - others.keys()):
            shown = ", ".join(f"{i} ({ours[i]!r})" for i in only[:3])
            notes.append(
                f"{len(only)} token ids are tokens in {owner.name} and unused in {other.name}, "
                f"such as {shown}: their embedding rows are merged all the same."
            )
    return notes
