"""Checkpoints on disk, read lazily: headers at once, tensors memory-mapped when asked for."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import CheckpointError, did_you_mean
from laconic.jsonfile import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
EMBED: Final = "model.embed_tokens.weight"
HEAD: Final = "lm_head.weight"
#: The bytes of one element, by the name that safetensors headers use.
WIDTH: Final = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "U16": 2, "I16": 2, "F16": 2,
    "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
#: The types that can be merged, as recipes and configs write them.
FLOATS: Final = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
TOKENIZER_FILES: Final = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
)  # fmt: skip


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's header: what is known of it before a byte of it is read.

    Attributes:
        name: Its name in the file.
        dtype: Its type, as safetensors headers write it, such as ``BF16``.
        shape: Its shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size on disk in bytes."""
        return WIDTH[self.dtype] * math.prod(self.shape)


class Checkpoint:
    """A folder in the Hugging Face layout, opened: headers are read, tensors only when asked for.

    Args:
        folder: Holds config.json and either model.safetensors or shards with their index.
        name: How the user named it.

    Raises:
        CheckpointError: Where the folder is no whole checkpoint, naming the file and what to do.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.folder = folder
        self.name = name or str(folder)
        self.config = _read_config(folder, self.name)
        self._files: dict[str, Any] = {}
        self._homes: dict[str, Path] = {}
        self.specs: dict[str, TensorSpec] = {}
        for path, claimed in _weight_files(folder, self.name).items():
            found = _read_header(path)
            for tensor in claimed - set(found):
                raise CheckpointError(
                    f"{folder / INDEX} says that {path.name} holds '{tensor}', but it does not. "
                    "The shards are of another save: fetch or save the checkpoint again."
                )
            for tensor, spec in found.items():
                if tensor in self._homes:
                    raise CheckpointError(
                        f"'{tensor}' is in {self._homes[tensor].name} and in {path.name} of "
                        f"{folder}. Fetch or save the checkpoint again."
                    )
                self._homes[tensor] = path
                self.specs[tensor] = spec

    def read(self, name: str) -> Tensor:
        """A tensor as it is stored, memory-mapped: a view that costs no memory until used."""
        from safetensors import SafetensorError, safe_open

        path = self._homes[name]
        try:
            if path.name not in self._files:
                self._files[path.name] = safe_open(path, framework="pt")
            tensor: Tensor = self._files[path.name].get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"'{name}' cannot be read from {path}: {error}.") from error
        return tensor

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding matrix and has no tensor of its own."""
        return HEAD not in self.specs and bool(self.config.get("tie_word_embeddings", True))

    @property
    def window(self) -> int | None:
        """The most tokens that the config allows, prompt and completion together."""
        value = self.config.get("max_position_embeddings")
        return value if isinstance(value, int) else None

    @cached_property
    def layers(self) -> int:
        """How many numbered layers the tensor names speak of."""
        return 1 + max((i for i in map(layer_of, self.specs) if i is not None), default=-1)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the config, the headers and 64 samples of each weight file.

        It tells apart checkpoints that differ as merges or training steps do, at the cost of a
        few megabytes; it does not prove that every byte is equal.
        """
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for path in sorted(set(self._homes.values())):
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with path.open("rb") as stream:
                for step in range(64):
                    stream.seek(step * size // 64)
                    digest.update(stream.read(16_384))
        return digest.hexdigest()[:16]

    def vocabulary(self) -> dict[int, str]:
        """The token string of each id, from tokenizer.json; empty where there is none."""
        path = self.folder / "tokenizer.json"
        if not path.exists():
            return {}
        tokenizer = read_json(path, CheckpointError)
        vocabulary = tokenizer.get("model", {}).get("vocab", {})
        pairs = (
            ((token, i) for token, i in vocabulary.items())
            if isinstance(vocabulary, dict)
            else ((row[0], i) for i, row in enumerate(vocabulary))
        )
        strings = {i: token for token, i in pairs}
        strings |= {token["id"]: token["content"] for token in tokenizer.get("added_tokens", ())}
        return strings


def open_checkpoint(model: str | Path | Checkpoint) -> Checkpoint:
    """Open a checkpoint by folder, by ``lab:NAME``, or by Hub id (``org/name`` or with @revision).

    Raises:
        CheckpointError: Where there is none, saying what was looked for.
    """
    if isinstance(model, Checkpoint):
        return model
    name = str(model)
    if name.startswith("lab:"):
        return Checkpoint(_lab_folder(name), name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return Checkpoint(folder, name)
    if folder.exists():
        raise CheckpointError(f"{name} is a file; give the folder of the checkpoint.")
    if re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name) and not name.startswith("."):
        return Checkpoint(_download(name), name)
    raise CheckpointError(
        f"There is no folder {name}. Give a checkpoint folder, a Hub id such as org/name, "
        "or one of the lab's models such as lab:system2."
    )


def layer_of(name: str) -> int | None:
    """The layer that a tensor's name speaks of: its first number; None outside the layers."""
    number = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return int(number.group(1)) if number else None


def natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """A sorting key that puts layer 2 before layer 10."""
    parts = re.split(r"(\d+)", name)
    return tuple((p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts)


def copy_files(source: Path, target: Path, names: Iterable[str]) -> list[str]:
    """Copy those of the named files that the source folder has; returns which."""
    found = [name for name in names if (source / name).is_file()]
    for name in found:
        shutil.copyfile(source / name, target / name)
    return found


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        inside = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise CheckpointError(f"{name} is no checkpoint: it has no config.json (it has {inside}).")
    return read_json(path, CheckpointError)


def _weight_files(folder: Path, name: str) -> dict[Path, set[str]]:
    """Each weight file of a folder with the tensors that the index says it holds."""
    single, index = folder / SINGLE, folder / INDEX
    if single.exists() and index.exists():
        raise CheckpointError(
            f"{name} holds both {SINGLE} and {INDEX}: two saves lie over each other. "
            "Delete the older one."
        )
    if single.exists():
        return {single: set()}
    if not index.exists():
        other = sorted(p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth"})
        if other:
            raise CheckpointError(
                f"{name} has its weights as {other[0]} only, a format that can run code when "
                "read. Load it with transformers and save_pretrained it once as safetensors."
            )
        raise CheckpointError(f"{name} holds no weights: neither {SINGLE} nor {INDEX}.")
    claimed: dict[Path, set[str]] = {}
    homes = read_json(index, CheckpointError).get("weight_map")
    if not isinstance(homes, dict) or not homes:
        raise CheckpointError(f"{index} is damaged: it has no weight_map.")
    for tensor, file in homes.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointError(f"{index} is damaged: '{tensor}' is in {file!r}.")
        claimed.setdefault(folder / file, set()).add(tensor)
    for path in claimed:
        if not path.exists():
            raise CheckpointError(
                f"{path.name}, which {INDEX} names, is missing from {folder}. Fetch it."
            )
    return claimed


def _read_header(path: Path) -> dict[str, TensorSpec]:
    """The headers of a safetensors file, checked against its size."""
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(size - 8, 100_000_000):
                raise CheckpointError(f"{path} is damaged: it has no safetensors header.")
            header: Mapping[str, Any] = json.loads(stream.read(length))
        specs = {
            name: TensorSpec(name, entry["dtype"], tuple(entry["shape"]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
        needed = 8 + length + max((header[n]["data_offsets"][1] for n in specs), default=0)
        unknown = [s for s in specs.values() if s.dtype not in WIDTH]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: its header is broken ({error}).") from error
    if needed != size:
        raise CheckpointError(
            f"{path} is damaged: it has {size} bytes, its header needs {needed}. Fetch it again."
        )
    if unknown:
        raise CheckpointError(f"'{unknown[0].name}' in {path} has type {unknown[0].dtype}.")
    return specs


def _lab_folder(name: str) -> Path:
    family = Path(str(files("laconic"))) / "lab" / "models"
    known = [f"lab:{p.name}" for p in family.iterdir() if p.is_dir()] if family.is_dir() else []
    if name not in known:
        raise CheckpointError(f"The lab has no model '{name}'. {did_you_mean(name, known)}")
    return family / name.removeprefix("lab:")


def _download(name: str) -> Path:
    """Fetch a checkpoint's weights, config and tokenizer from the Hub into its cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    model, _, revision = name.partition("@")
    try:
        fetched = snapshot_download(
            model,
            revision=revision or None,
            allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model"],
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise CheckpointError(
            f"There is no folder {name}, and the Hub did not give a model of that name ({reason})."
        ) from error
    return Path(fetched)
