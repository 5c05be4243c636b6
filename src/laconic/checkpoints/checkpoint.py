"""Checkpoints on disk, read lazily: headers at once, tensors memory-mapped when asked for."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.configs import read_config, setting
from laconic.checkpoints.header import (
    INDEX,
    NUMPY,
    Header,
    TensorSpec,
    open_header,
    read_header,
    samples_of,
    weight_files,
)
from laconic.checkpoints.hub import Snapshot, is_id, look_up
from laconic.checkpoints.layout import Layout, find_layout, kept_as_head, tie_flags, with_rows
from laconic.checkpoints.links import check_link, check_links
from laconic.checkpoints.packed_formats import find_packed
from laconic.checkpoints.rotary import WINDOW
from laconic.checkpoints.token_strings import read_tokens
from laconic.checkpoints.untrusted import check_config, check_files
from laconic.errors import CheckpointError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

TOKENIZER_FILES: Final = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
)  # fmt: skip


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
        check_files(folder)
        self.config = read_config(folder, self.name)
        check_config(self.config, folder / "config.json")
        self.tokenizer_folder = folder
        self.notes: tuple[str, ...] = ()
        self._files: dict[str, Any] = {}
        self._maps: dict[Path, NDArray[Any]] = {}
        self._computed: dict[str, Callable[[str], NDArray[Any]]] = {}
        self._origin: Checkpoint | None = None
        self._mark = ""
        self._tied: bool | None = None
        self._head: str | None = None
        self._tokens: Mapping[int, str] | None = None
        self._homes: dict[str, Path] = {}
        self._on_disk: dict[str, str] = {}
        self._headers: dict[Path, Header] = {}
        self.specs: dict[str, TensorSpec] = {}
        names = {p.name for p in folder.iterdir()} | set(snapshot.files if snapshot else ())
        for path, claimed in weight_files(folder, names, self.name).items():
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
        if kept_as_head(self.config, self.specs):
            self._name_embedding()

    def _name_embedding(self) -> None:
        """Give a tied model's one matrix the embedding's name where it is stored as the head."""
        embedding, head = self.layout.embedding, self.layout.head
        if embedding is None or head not in self.specs or embedding in self.specs:
            return
        self.specs[embedding] = replace(self.specs.pop(head), name=embedding)
        self._homes[embedding], self._on_disk[embedding] = self._homes.pop(head), head
        self.notes = (
            f"{self.name} stores its embedding under the name of the head that is tied to it, "
            f"'{head}': it is read, and written, as '{embedding}'.",
        )

    def _header(self, path: Path) -> Header:
        source = self.snapshot
        if source is None or path.exists():
            return open_header(path)
        return read_header(
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
            announced, self._headers[path] = self._headers[path], self._header(path)
            if self._headers[path] != announced:
                raise CheckpointError(
                    f"{path} is not the file that the Hub announced. Delete it and try again."
                )

    @property
    def stamps(self) -> list[Any]:
        """Size, time of change and inode of each weight file that is on this machine."""
        return [self._headers[path].stamp for path in sorted(self._headers)]

    def check_unchanged(self) -> None:
        """Refuse weight files that have changed since they were opened: a CheckpointError."""
        for path, header in self._headers.items():
            header.check(path)

    def stored(self, name: str) -> NDArray[Any]:
        """A tensor's values as they are stored: read-only, memory-mapped, of the spec's shape.

        Numpy has no bfloat16: its values come as their bit patterns, in uint16.
        """
        import numpy as np

        spec = self.specs[name]
        if name in self._computed:
            values = self._computed[name](name).view()
        else:
            self.fetch()
            path = self._homes[name]
            header = self._headers[path]
            header.check(path)
            start = header.starts[self._on_disk.get(name, name)]
            if path not in self._maps:
                self._maps[path] = np.memmap(path, np.uint8, "r")
            held = self._maps[path][start : start + spec.nbytes]
            values = held.view(NUMPY[spec.dtype]).reshape(spec.shape)
        values.flags.writeable = False
        return values

    def read(self, name: str) -> Tensor:
        """A tensor as it is stored, memory-mapped: a view that costs no memory until used."""
        from safetensors import SafetensorError, safe_open

        if name in self._computed:
            import torch

            values = torch.from_numpy(self._computed[name](name))
            return values.view(torch.bfloat16) if self.specs[name].dtype == "BF16" else values
        self.fetch()
        path = self._homes[name]
        try:
            if path.name not in self._files:
                self._files[path.name] = safe_open(path, framework="pt")
            tensor: Tensor = self._files[path.name].get_tensor(self._on_disk.get(name, name))
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"'{name}' cannot be read from {path}: {error}.") from error
        return tensor

    def with_computed(
        self,
        specs: Iterable[TensorSpec],
        values: Callable[[str], NDArray[Any]],
        *,
        mark: str,
        name: str | None = None,
        tied: bool | None = None,
        tokens: Mapping[int, str] | None = None,
        tokenizer_folder: Path | None = None,
        notes: Iterable[str] = (),
    ) -> Checkpoint:
        """The same checkpoint with some tensors that are computed instead of read from disk.

        Args:
            specs: The computed tensors. They replace tensors of the folder, or are new ones.
            values: A function that returns a computed tensor by its name, as `stored` does.
            mark: A text that identifies the computation; it becomes part of the fingerprint.
            name: The name of the result; None keeps the name.
            tied: Whether the head counts as tied; None decides by the tensors and the config.
            tokens: The token string of each id; None keeps them.
            tokenizer_folder: The folder with the tokenizer's files; None keeps the folder.
            notes: What the user should know of the result.
        """
        computed = list(specs)
        twin = copy.copy(self)
        twin.__dict__.pop("fingerprint", None)
        twin.specs = {**self.specs, **{spec.name: spec for spec in computed}}
        twin._computed = {**self._computed, **{spec.name: values for spec in computed}}
        twin._origin = self
        twin._mark = f"{self._mark}{mark};"
        twin.name = name or self.name
        twin._tied = tied
        twin._tokens = self._tokens if tokens is None else tokens
        twin.notes = (*self.notes, *notes)
        embedding = twin.specs.get(self.layout.embedding or "")
        if embedding is not None:
            twin.config = with_rows(self.config, embedding.shape[0])
        if tokenizer_folder is not None:
            twin.tokenizer_folder, twin._tokens = tokenizer_folder, tokens
        return twin

    def check_unpacked(self) -> None:
        """Refuse weights that are packed and no numbers: a CheckpointError naming the way out."""
        if packed := find_packed(self.specs, self.config):
            raise CheckpointError(packed.refusal(self.name, self.config))

    def native(self, name: str) -> str:
        """The type in which the folder stores a tensor, even where a computed one is wider."""
        root = self
        while root._origin is not None:
            root = root._origin
        return root.specs[root.home(name)].dtype

    @cached_property
    def layout(self) -> Layout:
        """Which tensors are embedding, head and layers of the text model."""
        return find_layout(self.config, self.specs, self._head)

    def with_head(self, head: str | None) -> Checkpoint:
        """The same checkpoint with a given tensor as its head; None changes nothing."""
        if head is None or head == self._head:
            return self
        twin = copy.copy(self)
        twin.__dict__.pop("layout", None)
        twin._head = head
        return twin

    def home(self, name: str) -> str:
        """The tensor that holds what a name stands for: a tied head is the embedding."""
        embedding = self.layout.embedding
        tied = name == self.layout.head and name not in self.specs
        return embedding if tied and embedding is not None else name

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding matrix and has no tensor of its own."""
        if self._tied is not None:
            return self._tied
        said = tie_flags(self.config)
        if self.layout.head is None:
            return True in said
        return self.layout.head not in self.specs and said != {False}

    @property
    def window(self) -> int | None:
        """The most tokens that the config allows, prompt and completion together."""
        value = setting(self.config, WINDOW)
        return value if isinstance(value, int) else None

    @property
    def layers(self) -> int:
        """How many layers its text model has."""
        return self.layout.depth.count

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the config, the headers and 64 samples of each weight file.

        It tells apart checkpoints that differ as merges or training steps do, at the cost of a
        few megabytes; it does not prove that every byte is equal. A commit on the Hub needs no
        samples: its hash stands for every byte.
        """
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        if self.snapshot is not None:
            digest.update(f"{self.snapshot.commit}{self._mark}".encode())
            return digest.hexdigest()[:16]
        for path in sorted(set(self._homes.values())):
            for piece in samples_of(path):
                digest.update(piece)
        digest.update(self._mark.encode())
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

    def vocabulary(self) -> Mapping[int, str]:
        """The token string of each id, from tokenizer.json; empty where there is none."""
        if self._tokens is None:
            self._tokens = read_tokens(self.tokenizer_folder / "tokenizer.json")
        return self._tokens


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
        check_links(folder)
        return Checkpoint(folder, name)
    if folder.exists():
        raise CheckpointError(f"{name} is a file; give the folder of the checkpoint.")
    if is_id(name):
        snapshot = look_up(name)
        check_links(snapshot.folder)
        return Checkpoint(snapshot.folder, name, snapshot=snapshot)
    raise CheckpointError(
        f"There is no folder {name}. Give a checkpoint folder, a Hub id such as org/name, "
        "or one of the lab's models such as lab:system2."
    )


def copy_files(source: Path, target: Path, names: Iterable[str]) -> list[str]:
    """Copy those of the named files that the source folder has; returns which.

    Raises:
        CheckpointError: For one that is a link to outside its folder.
    """
    found = [name for name in names if (source / name).is_file()]
    for name in found:
        check_link(source / name, source)
        shutil.copyfile(source / name, target / name)
    return found


def _lab_folder(name: str) -> Path:
    family = Path(str(files("laconic"))) / "lab" / "models"
    known = [f"lab:{p.name}" for p in family.iterdir() if p.is_dir()] if family.is_dir() else []
    if name not in known:
        raise CheckpointError(f"The lab has no model '{name}'. {did_you_mean(name, known)}")
    return family / name.removeprefix("lab:")
