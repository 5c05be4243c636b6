"""LoRA adapters as checkpoints: base + scale x B A, tensor by tensor, without loading a model.

An adapter's weights name what they belong to, so its files alone say what the model computes.
What is changed stays in float32 until the merge rounds it once.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from laconic.checkpoint import (
    EMBED,
    FLOATS,
    HEAD,
    INDEX,
    SINGLE,
    TOKENIZER_FILES,
    Checkpoint,
    TensorSpec,
    open_checkpoint,
)
from laconic.derived import float32, row_blocks, spool
from laconic.errors import CheckpointError, did_you_mean
from laconic.header import NUMPY, open_header
from laconic.hub import fetch_files, is_id
from laconic.jsonfile import read_json
from laconic.links import check_links
from laconic.nesting import name_in, short_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SETTINGS: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
PREFIX: Final = "base_model.model."
#: How peft names the inside of a module that it wraps.
WRAPPED: Final = r"\.(?:base_layer|modules_to_save(?:\.default)?)\."
#: Kinds of adapter that say more than W + scale x B A, by the setting that asks for them.
OTHERS: Final = {
    "use_dora": "DoRA", "use_qalora": "QALoRA", "use_bdlora": "block-diagonal LoRA",
    "lora_bias": "LoRA with a bias", "layer_replication": "layer replication",
    "target_parameters": "LoRA on bare parameters", "trainable_token_indices": "trained tokens",
    "alora_invocation_tokens": "activated LoRA", "arrow_config": "Arrow routing",
    "kasa_config": "KaSA", "monteclora_config": "MonteCLoRA",
}  # fmt: skip
#: The ways of starting an adapter that leave the base's weights as they are.
STARTS: Final = (True, False, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Change:
    """What an adapter does to one tensor: perhaps another value, then ``+ scale * left @ right``.

    Attributes:
        saved: The adapter's tensor that stands in for the base's; None keeps the base's.
        left: The factor with a row for each row of the tensor, as (name, transposed).
        right: The factor with a column for each of its columns, as (name, transposed).
        scale: What their product is multiplied with.
    """

    saved: str | None = None
    left: tuple[str, bool] | None = None
    right: tuple[str, bool] | None = None
    scale: float = 1.0


class Adapter:
    """An adapter's folder, opened: its settings, and its tensors memory-mapped.

    Args:
        folder: Holds adapter_config.json and adapter_model.safetensors.
        name: How the user named it.

    Raises:
        CheckpointError: Where the folder is none, or a kind that is no plain LoRA.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        if not (folder / SETTINGS).exists():
            raise CheckpointError(f"{name} is no adapter: it has no {SETTINGS}.")
        self.settings = read_json(folder / SETTINGS, CheckpointError)
        path = folder / WEIGHTS
        if not path.exists():
            if (folder / "adapter_model.bin").exists():
                raise CheckpointError(
                    f"{name} has its weights as adapter_model.bin only, a format that can run code "
                    'when read. If you trust it: python -c "import torch; from safetensors.torch '
                    "import save_file; save_file(torch.load('adapter_model.bin', "
                    "weights_only=True), 'adapter_model.safetensors')\" in its folder."
                )
            raise CheckpointError(f"{name} holds no weights: it has no {WEIGHTS}.")
        self._check_kind()
        self._path, self._header = path, open_header(path)
        self.specs = self._header.specs
        self._bytes = np.memmap(path, np.uint8, "r")

    def _check_kind(self) -> None:
        kind = self.settings.get("peft_type")
        other = next((what for key, what in OTHERS.items() if self.settings.get(key)), None)
        if kind != "LORA" or other:
            raise CheckpointError(
                f"{self.name} is {other or f'an adapter of type {kind!r}'}; only plain LoRA can be "
                "merged as it is. Merge it into its base with peft (merge_and_unload), save that, "
                "and name the saved folder."
            )
        start = self.settings.get("init_lora_weights", True)
        if start not in STARTS:
            raise CheckpointError(
                f"{self.name} was started with init_lora_weights: {start!r}, which changes the "
                "base's weights, too. Convert it to a plain LoRA with peft (save_pretrained with "
                "path_initial_model_for_weight_conversion), or merge it with merge_and_unload."
            )

    @property
    def digest(self) -> str:
        """Of its settings and its weights."""
        digest = hashlib.sha256(repr(sorted(self.settings.items())).encode())
        digest.update(self._bytes.data)
        return digest.hexdigest()[:16]

    def values(self, name: str) -> NDArray[Any]:
        """One of its tensors as stored."""
        self._header.check(self._path)
        spec, start = self.specs[name], self._header.starts[name]
        held = self._bytes[start : start + spec.nbytes]
        return held.view(NUMPY[spec.dtype]).reshape(spec.shape)

    def factor(self, place: tuple[str, bool]) -> NDArray[np.float32]:
        """A factor in float32, transposed if it says so."""
        values = float32(self.values(place[0]), self.specs[place[0]].dtype)
        return np.ascontiguousarray(values.T) if place[1] else values

    def changes(self, base: Checkpoint) -> dict[str, Change]:
        """What it does to each of a base's tensors, checked against their shapes.

        Raises:
            CheckpointError: For a tensor that the base does not have, or that does not fit it.
        """
        changes: dict[str, Change] = {}
        factors: dict[str, dict[str, str]] = {}
        names = short_names(base.specs)
        for key, spec in self.specs.items():
            if spec.dtype not in FLOATS:
                raise CheckpointError(f"'{key}' of {self.name} has type {spec.dtype}.")
            place = key.removeprefix(PREFIX)
            if ".original_module." in place:
                continue  # peft writes what a saved module was before, too
            pair = re.fullmatch(r"(.+)\.(lora_(?:embedding_)?[AB])(?:\.default)?(\.weight)?", place)
            if pair:
                factors.setdefault(pair[1], {})[pair[2]] = key
            else:
                place = name_in(base.specs, names, re.sub(WRAPPED, ".", place))
                if place not in changes or ".modules_to_save." in key:
                    changes[place] = Change(saved=key)
                self._check_saved(base, place, spec)
        for module, pair_of in sorted(factors.items()):
            name = name_in(base.specs, names, f"{module}.weight")
            saved = changes[name].saved if name in changes else None
            own = self.specs[saved] if saved else self._home(base, name)
            change = self._product(base, module, pair_of, own)
            changes[name] = replace(change, saved=saved)
        self._check_rows(base, changes)
        if not changes:
            raise CheckpointError(f"{self.name} changes nothing: {WEIGHTS} holds no tensors.")
        return changes

    def _check_rows(self, base: Checkpoint, changes: Mapping[str, Change]) -> None:
        """Refuse an embedding with more or fewer rows than the head beside it."""
        saved = [changes.get(name, Change()).saved for name in (EMBED, HEAD)]
        own = [base.specs.get(name) for name in (EMBED, HEAD)]
        made = [self.specs[s] if s else spec for s, spec in zip(saved, own, strict=True)]
        rows = [spec.shape[0] for spec in made if spec is not None]
        if len(set(rows)) > 1:
            raise CheckpointError(
                f"With {self.name}, '{EMBED}' has {rows[0]} rows and '{HEAD}' has {rows[1]}: the "
                "vocabulary was resized, but only one of the two was saved. Save the adapter again "
                "with both in modules_to_save."
            )

    def _check_saved(self, base: Checkpoint, name: str, spec: TensorSpec) -> None:
        own = self._home(base, name)
        resized = name in (EMBED, HEAD) and spec.shape[1:] == own.shape[1:]
        if spec.shape != own.shape and not resized:
            raise CheckpointError(
                f"'{name}' is {list(spec.shape)} in {self.name} and {list(own.shape)} in "
                f"{base.name}: the adapter was trained on another base."
            )

    def _product(
        self, base: Checkpoint, module: str, pair: Mapping[str, str], own: TensorSpec
    ) -> Change:
        """The change of a module that has the two factors."""
        embedding = "lora_embedding_A" in pair or "lora_embedding_B" in pair
        names = [f"lora_{'embedding_' if embedding else ''}{part}" for part in "AB"]
        if missing := [name for name in names if name not in pair]:
            raise CheckpointError(
                f"{self.name} has one half of the LoRA of '{module}', but not {missing[0]}: the "
                "save was cut off. Save the adapter again."
            )
        first, second = (self.specs[pair[name]] for name in names)
        rank, alpha = self._number("r", module), self._number("lora_alpha", module)
        turned = embedding or bool(self.settings.get("fan_in_fan_out"))
        wanted = own.shape[::-1] if turned else own.shape
        made = (*second.shape[:1], *first.shape[1:])
        inner = (*first.shape[:1], *second.shape[1:])
        if len(first.shape) != 2 or len(second.shape) != 2 or made != wanted:
            raise CheckpointError(
                f"The LoRA of '{module}' in {self.name} ({list(second.shape)} x "
                f"{list(first.shape)}) does not fit {base.name}, whose '{own.name}' is "
                f"{list(own.shape)}: the adapter was trained on another base."
            )
        if inner != (rank, rank):
            raise CheckpointError(
                f"The LoRA of '{module}' in {self.name} has rank {first.shape[0]}, but {SETTINGS} "
                f"says {rank:g}: the two files are of different adapters."
            )
        low, high = (pair[names[0]], turned), (pair[names[1]], turned)
        root = math.sqrt(rank) if self.settings.get("use_rslora") else rank
        left, right = (low, high) if turned else (high, low)
        return Change(left=left, right=right, scale=alpha / root)

    def _home(self, base: Checkpoint, name: str) -> TensorSpec:
        """The base's tensor of a name; the head of a tied base is its embedding."""
        own = EMBED if name == HEAD and HEAD not in base.specs else name
        if own not in base.specs:
            raise CheckpointError(
                f"{self.name} changes '{name}', which {base.name} does not have. "
                f"{did_you_mean(name, base.specs)}"
            )
        return base.specs[own]

    def _number(self, key: str, module: str) -> float:
        """The rank or the alpha of a module; patterns speak before the general setting."""
        pattern_key = {"r": "rank_pattern", "lora_alpha": "alpha_pattern"}[key]
        patterns = self.settings.get(pattern_key) or {}
        try:
            hits = (v for p, v in patterns.items() if re.match(rf"(.*\.)?({p})$", module))
            value = next(hits, self.settings.get(key))
        except (re.error, AttributeError) as error:
            raise CheckpointError(
                f"{SETTINGS} of {self.name} is damaged: {pattern_key} {patterns!r} ({error})."
            ) from error
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise CheckpointError(
                f"{SETTINGS} of {self.name} is damaged: {key} of '{module}' is {value!r}."
            )
        return value


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
        CheckpointError: Where they do not fit.
    """
    changes, notes = adapter.changes(base), []
    if base.tied and EMBED in changes:
        embed = changes[EMBED]
        resized = embed.saved and adapter.specs[embed.saved].shape != base.specs[EMBED].shape
        if adapter.settings.get("ensure_weight_tying") or _same_saved(adapter, changes):
            changes.pop(HEAD, None)
        elif HEAD not in changes and (embed.left or not resized):
            changes[HEAD] = Change(saved=embed.saved if resized else None)
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
    return base.derive(
        specs.values(),
        values,
        mark=f"adapter {adapter.digest}",
        name=name,
        tied=base.tied and HEAD not in changes,
        tokenizer_folder=adapter.folder if own_tokens else None,
        notes=notes,
    )


def _changed_spec(adapter: Adapter, base: Checkpoint, key: str, change: Change) -> TensorSpec:
    """A changed tensor's header: float32 where something is added."""
    own = base.specs[EMBED if key == HEAD and HEAD not in base.specs else key]
    like = adapter.specs[change.saved] if change.saved else own
    return TensorSpec(key, "F32" if change.left else like.dtype, like.shape)


def _blocks(
    adapter: Adapter, base: Checkpoint, spec: TensorSpec, change: Change
) -> Iterator[NDArray[Any]]:
    """A changed tensor, block by block of its rows."""
    own = EMBED if spec.name == HEAD and HEAD not in base.specs else spec.name
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


def _same_saved(adapter: Adapter, changes: Mapping[str, Change]) -> bool:
    """Whether an adapter brings an embedding and a head that are one matrix, saved twice."""
    embed, head = changes.get(EMBED, Change()), changes.get(HEAD, Change())
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
