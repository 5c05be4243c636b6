"""LoRA adapters as checkpoints: base + scale x B A, tensor by tensor, without loading a model.

An adapter's weights name what they belong to, so its files alone say what the model computes.
What is changed stays in float32 until the merge rounds it once.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.checkpoints.checkpoint import TOKENIZER_FILES, Checkpoint, open_checkpoint
from laconic.checkpoints.computed_tensors import float32, row_blocks, spool
from laconic.checkpoints.header import INDEX, SINGLE, TensorSpec
from laconic.checkpoints.hub import fetch_files, is_id
from laconic.checkpoints.links import check_links
from laconic.checkpoints.lora import SETTINGS, WEIGHTS, Adapter, TensorChange
from laconic.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray


def open_model(model: str | Path | Checkpoint) -> Checkpoint:
    """Open a checkpoint as `open_checkpoint` does, or one with adapters: ``base+adapter``.

    A folder that holds an adapter alone stands for the base named in its settings with it.

    Raises:
        CheckpointError: Where there is none, or the adapter does not fit the base.
    """
    if isinstance(model, Checkpoint):
        return model
    name, folder = str(model), Path(model).expanduser()
    if not folder.exists() and "+" in name:
        left, right = _split(name)
        return apply(_open(right), open_model(left), name)
    weights = any((folder / file).exists() for file in (SINGLE, INDEX))
    if not (folder / SETTINGS).exists() or weights:
        return open_checkpoint(model)
    check_links(folder)
    adapter = Adapter(folder, name)
    base, revision = (adapter.settings.get(k) for k in ("base_model_name_or_path", "revision"))
    try:
        if not isinstance(base, str) or not base:
            raise CheckpointError(f"{SETTINGS} names no base.")
        opened = open_model(f"{base}@{revision}" if revision else base)
    except CheckpointError as error:
        raise CheckpointError(
            f"{name} is an adapter whose base cannot be opened: {error} Write BASE+{name}."
        ) from error
    return apply(adapter, opened, name)


def open_weights(model: str | Path | Checkpoint) -> Checkpoint:
    """Open a checkpoint as `open_model` does, for arithmetic on its weights.

    Raises:
        CheckpointError: As for `open_model`, and for weights that are packed.
    """
    opened = open_model(model)
    opened.check_unpacked()
    return opened


def _split(name: str) -> tuple[str, str]:
    """``BASE+ADAPTER`` at the last plus sign before a folder: paths may hold plus signs, too."""
    splits = [(name[:i], name[i + 1 :]) for i in range(len(name) - 1, 0, -1) if name[i] == "+"]
    there = [[bool(s) and Path(s).expanduser().is_dir() for s in split] for split in splits]
    chosen = next((i for side in (1, 0) for i, found in enumerate(there) if found[side]), 0)
    return splits[chosen]


def _open(name: str) -> Adapter:
    """An adapter by its folder or its Hub id."""
    folder = Path(name).expanduser()
    if not folder.is_dir() and is_id(name):
        folder = fetch_files(name, (SETTINGS, WEIGHTS, *TOKENIZER_FILES))
    if not folder.is_dir():
        raise CheckpointError(
            f"There is no folder {name}. After the '+' goes an adapter's folder, or its Hub id."
        )
    check_links(folder)
    return Adapter(folder, name)


def apply(adapter: Adapter, base: Checkpoint, name: str) -> Checkpoint:
    """A base with an adapter on it.

    Args:
        adapter: The adapter.
        base: What it was trained on.
        name: What to call the result.

    Raises:
        CheckpointError: Where they do not fit, or the base's weights are packed.
    """
    base.check_unpacked()
    changes, notes = adapter.changes(base), []
    embedding, head = base.layout.embedding, base.layout.head
    if base.tied and embedding in changes and head is not None:
        embed = changes[embedding]
        resized = embed.saved and adapter.specs[embed.saved].shape != base.specs[embedding].shape
        if adapter.settings.get("ensure_weight_tying") or _same_saved(adapter, base, changes):
            changes.pop(head, None)
        elif head not in changes and (embed.left or not resized):
            changes[head] = TensorChange(saved=embed.saved if resized else None)
            notes.append(
                f"{adapter.name} changes the embedding of {base.name}, but not the head that is "
                "tied to it: the head stays as it was, and becomes a tensor of its own."
            )
    notes += _other_base(adapter, base)
    specs = {key: _changed_spec(adapter, base, key, change) for key, change in changes.items()}

    @lru_cache(maxsize=4)
    def values(key: str) -> NDArray[Any]:
        return spool(specs[key], _blocks(adapter, base, specs[key], changes[key]))

    own_tokens = (adapter.folder / "tokenizer.json").exists()
    return base.with_computed(
        specs.values(),
        values,
        mark=f"adapter {adapter.digest}",
        name=name,
        tied=base.tied and head not in changes,
        tokenizer_folder=adapter.folder if own_tokens else None,
        notes=notes,
    )


def _changed_spec(adapter: Adapter, base: Checkpoint, key: str, change: TensorChange) -> TensorSpec:
    """A changed tensor's header: float32 where something is added."""
    own = base.specs[base.home(key)]
    like = adapter.specs[change.saved] if change.saved else own
    return TensorSpec(key, "F32" if change.left else like.dtype, like.shape)


def _blocks(
    adapter: Adapter, base: Checkpoint, spec: TensorSpec, change: TensorChange
) -> Iterator[NDArray[Any]]:
    """A changed tensor, block by block of its rows."""
    own = base.home(spec.name)
    if change.saved:
        values, dtype = adapter.values(change.saved), adapter.specs[change.saved].dtype
    else:
        values, dtype = base.stored(own), base.specs[own].dtype
    if change.left is None or change.right is None:
        yield values
        return
    left, right = adapter.factor(change.left), adapter.factor(change.right)
    for part in row_blocks(spec.shape):
        yield float32(values[part], dtype) + np.float32(change.scale) * (left[part] @ right)


def _same_saved(adapter: Adapter, base: Checkpoint, changes: Mapping[str, TensorChange]) -> bool:
    """Whether an adapter brings an embedding and a head that are one matrix, saved twice."""
    embed, head = (
        changes.get(name or "", TensorChange())
        for name in (base.layout.embedding, base.layout.head)
    )
    if embed.saved is None or head.saved is None or embed.left or head.left:
        return False
    return np.array_equal(adapter.values(embed.saved), adapter.values(head.saved))


def _other_base(adapter: Adapter, base: Checkpoint) -> list[str]:
    """A note where the settings name another base than the one given."""
    named = adapter.settings.get("base_model_name_or_path")
    given = Path(base.name.partition("@")[0])
    if not isinstance(named, str) or not named or Path(named).name in {given.name, base.name}:
        return []
    if Path(named).expanduser().resolve() == base.folder.resolve():
        return []
    return [
        f"{adapter.name} says that it was trained on {named}; it is applied to {base.name}. On "
        "another base it is noise."
    ]
