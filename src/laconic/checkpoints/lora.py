"""A LoRA adapter's folder: what it does to each tensor of its base, checked against its shapes."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from laconic.checkpoints.computed_tensors import float32
from laconic.checkpoints.header import FLOATS, NUMPY, TensorSpec, open_header
from laconic.checkpoints.name_map import name_on_disk, short_names
from laconic.errors import CheckpointError, did_you_mean
from laconic.files.json import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from laconic.checkpoints.checkpoint import Checkpoint

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
class TensorChange:
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

    def changes(self, base: Checkpoint) -> dict[str, TensorChange]:
        """What it does to each of a base's tensors, checked against their shapes.

        Raises:
            CheckpointError: For a tensor that the base does not have, or that does not fit it.
        """
        changes: dict[str, TensorChange] = {}
        factors: dict[str, dict[str, str]] = {}
        known = {*base.specs, *filter(None, [base.layout.head])}
        names = short_names(known)
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
                place = name_on_disk(known, names, re.sub(WRAPPED, ".", place))
                if place not in changes or ".modules_to_save." in key:
                    changes[place] = TensorChange(saved=key)
                self._check_saved(base, place, spec)
        for module, pair_of in sorted(factors.items()):
            name = name_on_disk(known, names, f"{module}.weight")
            saved = changes[name].saved if name in changes else None
            own = self.specs[saved] if saved else self._home(base, name)
            change = self._product(base, module, pair_of, own)
            changes[name] = replace(change, saved=saved)
        self._check_rows(base, changes)
        if not changes:
            raise CheckpointError(f"{self.name} changes nothing: {WEIGHTS} holds no tensors.")
        return changes

    def _check_rows(self, base: Checkpoint, changes: Mapping[str, TensorChange]) -> None:
        """Refuse an embedding with more or fewer rows than the head beside it."""
        rows: dict[str, int] = {}
        for name in filter(None, (base.layout.embedding, base.layout.head)):
            saved = changes.get(name, TensorChange()).saved
            spec = self.specs[saved] if saved else base.specs.get(name)
            if spec is not None:
                rows[name] = spec.shape[0]
        if len(set(rows.values())) > 1:
            said = " and ".join(f"'{name}' has {count} rows" for name, count in rows.items())
            raise CheckpointError(
                f"With {self.name}, {said}: the vocabulary was resized, but only one of the two "
                "was saved. Save the adapter again with both in modules_to_save."
            )

    def _check_saved(self, base: Checkpoint, name: str, spec: TensorSpec) -> None:
        own = self._home(base, name)
        resized = name in base.layout.by_token and spec.shape[1:] == own.shape[1:]
        if spec.shape != own.shape and not resized:
            raise CheckpointError(
                f"'{name}' is {list(spec.shape)} in {self.name} and {list(own.shape)} in "
                f"{base.name}: the adapter was trained on another base."
            )

    def _product(
        self, base: Checkpoint, module: str, pair: Mapping[str, str], own: TensorSpec
    ) -> TensorChange:
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
        return TensorChange(left=left, right=right, scale=alpha / root)

    def _home(self, base: Checkpoint, name: str) -> TensorSpec:
        """The base's tensor of a name; the head of a tied base is its embedding."""
        own = base.home(name)
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
