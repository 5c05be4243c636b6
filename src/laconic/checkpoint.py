"""Checkpoints on disk, read lazily: headers at once, tensors memory-mapped when asked for."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import CheckpointError, did_you_mean
from laconic.hub import Snapshot, look_up
from laconic.jsonfile import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
EMBED: Final = "model.embed_tokens.weight"
HEAD: Final = "lm_head.weight"
#: As much of a weight file is read at once to find its header; nearly all headers are shorter.
HEAD_BYTES: Final = 100_000
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
        snapshot: Where the weights can be fetched from; they need not be in the folder yet.

    Raises:
        CheckpointError: Where the folder is no whole checkpoint, naming the file and what to do.
    """

    def __init__(
        self, folder: Path, name: str | None = None, *, snapshot: Snapshot | None = None
    ) -> None:
        self.folder = folder
        self.name = name or str(folder)
        self.snapshot = snapshot
        self.config = _read_config(folder, self.name)
        self._files: dict[str, Any] = {}
        self._homes: dict[str, Path] = {}
        self._headers: dict[Path, _Header] = {}
        self.specs: dict[str, TensorSpec] = {}
        names = {p.name for p in folder.iterdir()} | set(snapshot.files if snapshot else ())
        for path, claimed in _weight_files(folder, names, self.name).items():
            self._headers[path] = self._header(path)
            found = self._headers[path].specs
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

    def _header(self, path: Path) -> _Header:
        if path.exists():
            return _read_header(lambda count: _head(path, count), str(path))
        assert self.snapshot is not None
        source = self.snapshot
        return _read_header(
            lambda count: source.head(path.name, count), f"{path.name} of {self.name}"
        )

    @property
    def missing(self) -> dict[Path, int]:
        """The weight files that are not on this machine yet, and their sizes in bytes."""
        return {path: head.size for path, head in self._headers.items() if not path.exists()}

    def fetch(self) -> None:
        """Bring the weights that are not on this machine yet.

        Raises:
            CheckpointError: Where they cannot be had, or are not what their headers promised.
        """
        missing = self.missing
        if self.snapshot is None or not missing:
            return
        self.snapshot.fetch(path.name for path in missing)
        for path in missing:
            if self._header(path) != self._headers[path]:
                raise CheckpointError(
                    f"{path} is not the file that the Hub announced. Delete it and try again."
                )

    def read(self, name: str) -> Tensor:
        """A tensor as it is stored, memory-mapped: a view that costs no memory until used."""
        from safetensors import SafetensorError, safe_open

        self.fetch()
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
        few megabytes; it does not prove that every byte is equal. A commit on the Hub needs no
        samples: its hash stands for every byte.
        """
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        if self.snapshot is not None:
            digest.update(self.snapshot.commit.encode())
            return digest.hexdigest()[:16]
        for path in sorted(set(self._homes.values())):
            size = path.stat().st_size
            digest.update(f"{path.name} {size}".encode())
            with path.open("rb") as stream:
                for step in range(64):
                    stream.seek(step * size // 64)
                    digest.update(stream.read(16_384))
        return digest.hexdigest()[:16]

    def identity(self, *, hashed: bool = False) -> dict[str, Any]:
        """What says which bytes these are, for a record of what was merged.

        Args:
            hashed: Whether every weight file is read and hashed in full, too.

        Returns:
            The fingerprint and, for a model of the Hub, its commit; for a folder, each weight
            file's size in bytes, time of change and header digest. With `hashed`, each file's
            SHA-256.
        """
        known: dict[str, Any] = {"fingerprint": self.fingerprint}
        if self.snapshot is not None:
            known |= {"repo": self.snapshot.repo, "commit": self.snapshot.commit}
        files: dict[str, dict[str, Any]] = {path.name: {} for path in sorted(self._headers)}
        for path, head in self._headers.items():
            if self.snapshot is None:
                changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                facts = {"bytes": head.size, "changed": changed.isoformat(), "header": head.digest}
                files[path.name] |= facts
            if hashed:
                with path.open("rb") as stream:
                    files[path.name]["sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
        return known | ({"files": files} if any(files.values()) else {})

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
        snapshot = look_up(name)
        return Checkpoint(snapshot.folder, name, snapshot=snapshot)
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


def _weight_files(folder: Path, names: set[str], name: str) -> dict[Path, set[str]]:
    """Each weight file of a folder with the tensors that the index says it holds.

    Args:
        folder: The checkpoint.
        names: The files that are in it or can be fetched into it.
        name: How the user named it.
    """
    single, index = folder / SINGLE, folder / INDEX
    if {SINGLE, INDEX} <= names:
        raise CheckpointError(
            f"{name} holds both {SINGLE} and {INDEX}: two saves lie over each other. "
            "Delete the older one."
        )
    if SINGLE in names:
        return {single: set()}
    if INDEX not in names:
        other = sorted(n for n in names if n.endswith((".bin", ".pt", ".pth")))
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
        if path.name not in names:
            raise CheckpointError(
                f"{path.name}, which {INDEX} names, is missing from {folder}. Fetch it."
            )
    return claimed


@dataclass(frozen=True)
class _Header:
    """What a weight file says of itself: its tensors, its size in bytes, its header's digest."""

    specs: dict[str, TensorSpec]
    size: int
    digest: str


def _head(path: Path, count: int) -> tuple[bytes, int]:
    """The first bytes of a file, and its size."""
    with path.open("rb") as stream:
        return stream.read(count), path.stat().st_size


def _read_header(head: Callable[[int], tuple[bytes, int]], where: str) -> _Header:
    """The header of a safetensors file, checked against its size.

    Args:
        head: Gives as many first bytes as asked for, and the file's size in bytes.
        where: The file, for an error.
    """
    start, size = head(HEAD_BYTES)
    length = int.from_bytes(start[:8], "little")
    if not 2 <= length <= min(size - 8, 100_000_000):
        raise CheckpointError(f"{where} is damaged: it has no safetensors header.")
    if len(start) < 8 + length:
        start, size = head(8 + length)
    text = start[8 : 8 + length]
    try:
        header: Mapping[str, Any] = json.loads(text)
        specs = {
            name: TensorSpec(name, entry["dtype"], tuple(entry["shape"]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
        needed = 8 + length + max((header[n]["data_offsets"][1] for n in specs), default=0)
        unknown = [s for s in specs.values() if s.dtype not in WIDTH]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{where} is damaged: its header is broken ({error}).") from error
    if needed != size:
        raise CheckpointError(
            f"{where} is damaged: it has {size} bytes, its header needs {needed}. Fetch it again."
        )
    if unknown:
        raise CheckpointError(f"'{unknown[0].name}' in {where} has type {unknown[0].dtype}.")
    for spec in specs.values():
        first, last = header[spec.name]["data_offsets"]
        if last - first != spec.nbytes:
            raise CheckpointError(
                f"{where} is damaged: '{spec.name}' has {last - first} bytes, its shape needs "
                f"{spec.nbytes}. Fetch it again."
            )
    return _Header(specs, size, hashlib.sha256(text).hexdigest()[:16])


def _lab_folder(name: str) -> Path:
    family = Path(str(files("laconic"))) / "lab" / "models"
    known = [f"lab:{p.name}" for p in family.iterdir() if p.is_dir()] if family.is_dir() else []
    if name not in known:
        raise CheckpointError(f"The lab has no model '{name}'. {did_you_mean(name, known)}")
    return family / name.removeprefix("lab:")
