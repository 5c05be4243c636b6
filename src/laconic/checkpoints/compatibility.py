"""Whether checkpoints can be merged: equal tensors, architectures and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from laconic.checkpoints.configs import compare_configs, setting, text_config
from laconic.checkpoints.header import FLOATS
from laconic.errors import CheckpointError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from laconic.checkpoints.checkpoint import Checkpoint


def check_compatible(
    members: Sequence[Checkpoint],
    system2: Checkpoint,
    *,
    config: Mapping[str, Any] | None = None,
    rope: str | None = None,
    apart: Set[str] = frozenset(),
) -> tuple[str, ...]:
    """Check by headers, configs and vocabularies whether checkpoints can be merged.

    Args:
        members: Every checkpoint of the merge, the base first.
        system2: The checkpoint that gives the output its shape.
        config: The output's config; None means that of `system2`.
        rope: The checkpoint whose rotary settings the recipe chose; None if it chose none.
        apart: Tensors that are not merged; the checkpoints may differ in them.

    Returns:
        Notes on differences that do not prevent a merge.

    Raises:
        CheckpointError: For a tensor that is missing, extra, of another shape or of a type that
            cannot be merged, and for configs that disagree, naming checkpoint and tensor.
    """
    others = [m for m in members if m is not system2]
    notes: list[str] = []
    for model in others:
        notes += check_config(model, system2, rope=rope)
        _check_tensors(model, system2, apart)
    for model in (*others, system2):
        _check_against_own_config(model)
        for spec in model.specs.values():
            known = spec.dtype in FLOATS or spec.dtype.startswith(("I", "U", "BOOL"))
            if not known and spec.name not in apart:
                raise CheckpointError(
                    f"'{spec.name}' of {model.name} has type {spec.dtype}. Only "
                    f"{', '.join(FLOATS.values())} can be merged: save it in one of them first."
                )
    for model in others:
        for spec in model.specs.values():
            other = system2.specs.get(spec.name, spec)
            if spec.name not in apart and (spec.dtype in FLOATS) != (other.dtype in FLOATS):
                raise CheckpointError(
                    f"'{spec.name}' has type {spec.dtype} in {model.name} and {other.dtype} in "
                    f"{system2.name}: one of them holds numbers to merge, the other does not."
                )
    return (*notes, *(note for model in others for note in _notes(model, system2, config)))


def check_config(
    model: Checkpoint, system2: Checkpoint, *, rope: str | None = None
) -> tuple[str, ...]:
    """Refuse two configs with which the same weights would compute different things.

    Args:
        model: A checkpoint.
        system2: The checkpoint that gives the output its shape.
        rope: The checkpoint whose rotary settings the recipe chose; None if it chose none.

    Returns:
        A note if the rotary settings differ and the recipe chose one of them.

    Raises:
        CheckpointError: Naming the key and both values.
    """
    comparison = compare_configs(model.config, system2.config)
    for key, (mine, theirs) in comparison.architecture.items():
        raise CheckpointError(
            f"{model.name} and {system2.name} cannot be merged: {key} is {mine!r} in one config "
            f"and {theirs!r} in the other. If both were trained with the same value, correct the "
            "config.json that is wrong."
        )
    if not comparison.rotation:
        return ()
    differing = ", ".join(
        f"{key} is {_said(mine)} and {_said(theirs)}"
        for key, (mine, theirs) in comparison.rotation.items()
    )
    if rope is None:
        raise CheckpointError(
            f"{model.name} and {system2.name} rotate positions differently: {differing}. Their "
            "attention weights do not mean the same. To merge them anyway, choose the rotary "
            "settings and context window of the result: config: {rope: NAME} (--set "
            "config.rope=NAME; base, system2 or a model)."
        )
    return (
        f"{model.name} and {system2.name} rotate positions differently: {differing}. Their "
        "attention weights do not mean the same; the result takes the settings of "
        f"{rope} (config: rope).",
    )


def _said(value: object) -> str:
    return "not set" if value is None else repr(value)


def _check_against_own_config(model: Checkpoint) -> None:
    """Refuse a checkpoint whose weights do not fit its own config."""
    # ALBERT's layers share the weights of so many groups.
    depth = model.config.get("num_hidden_groups", model.config.get("num_hidden_layers"))
    if isinstance(depth, int) and model.layers < depth:
        raise CheckpointError(
            f"{model.name} has weights for {model.layers} layers, yet its config says "
            f"num_hidden_layers is {depth}. Fetch it again, or correct config.json."
        )
    rows = text_config(model.config).get("vocab_size")
    embedding = model.specs.get(model.layout.embedding or "")
    if isinstance(rows, int) and embedding is not None and embedding.shape[:1] != (rows,):
        raise CheckpointError(
            f"'{embedding.name}' of {model.name} is {list(embedding.shape)}, yet its config "
            f"says vocab_size is {rows}. Fetch it again, or correct config.json."
        )


def _sliding(config: Mapping[str, Any]) -> Any:
    """The sliding window that a config uses; None for none."""
    used = setting(config, "use_sliding_window", True)
    return setting(config, "sliding_window") if used else None


def _check_tensors(model: Checkpoint, system2: Checkpoint, apart: Set[str]) -> None:
    heads = {model.layout.head, system2.layout.head} - {None}
    if len(heads) == 1:
        _check_head(model, system2)
    mine, theirs = (set(m.specs) - heads - apart for m in (model, system2))
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
        if name in apart:
            continue
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
                "the embedding. Fetch it again, or correct tie_word_embeddings."
            )


def _head_hint(names: Sequence[str], owner: Checkpoint) -> str:
    """A hint for a model unknown to transformers: the one extra tensor may be its head."""
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
        ("stop token", *(setting(c, "eos_token_id") for c in (model.config, system2.config, made))),
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
    """Notes on ids that stand for different tokens, or for a token in one model only."""
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
