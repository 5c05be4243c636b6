"""Checkpoints on disk, written as a stream: atomic, resumable, one tensor in memory."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from typing import IO, TYPE_CHECKING, Any, Final, Self

from laconic.checkpoint import INDEX, SINGLE, TensorSpec
from laconic.errors import CheckpointError
from laconic.jsonfile import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

SHARD_BYTES: Final = 5_000_000_000


class CheckpointWriter:
    """Writes a checkpoint beside its place and moves it there when it is whole.

    Tensors are streamed: nothing but the one at hand is in memory. A killed job that is started
    again with the same `digest` goes on after the last finished shard.

    Args:
        target: The folder to appear; must be missing or empty.
        specs: Every tensor to come, in the order in which it will be asked for.
        digest: Of all that decides the bytes; work of another digest is thrown away.
        shard_bytes: The most tensor bytes of one file.

    Raises:
        CheckpointError: Where the folder is in use or cannot be written.
    """

    def __init__(
        self,
        target: Path,
        specs: Sequence[TensorSpec],
        *,
        digest: str,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.target = target
        self.shards = _shards(specs, shard_bytes)
        self.work = target.parent / f".{target.name}.partial"
        check_free(target)
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] = (self.work / ".lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"{target} cannot be written: {error.strerror}.") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise CheckpointError(
                f"Another merge is writing {target}. Wait for it, or choose another folder."
            ) from None
        self._keep_or_clear(digest)

    def _keep_or_clear(self, digest: str) -> None:
        journal = self.work / "journal.json"
        if not journal.exists() or read_json(journal, CheckpointError).get("digest") != digest:
            for path in self.work.iterdir():
                if path.name != ".lock":
                    path.unlink()
            write_json(journal, {"digest": digest})

    @property
    def finished(self) -> int:
        """How many tensors are in the shards that an earlier attempt has finished."""
        return sum(len(s) for name, s in self.shards.items() if (self.work / name).exists())

    def write(self, tensors: Callable[[TensorSpec], Tensor]) -> None:
        """Ask for each pending tensor, in order, and write it.

        Args:
            tensors: Gives the tensor of a spec, with the spec's type and shape, on the CPU.
        """
        for name, specs in self.shards.items():
            path = self.work / name
            if path.exists():
                continue
            beside = self.work / f"{name}.partial"
            with beside.open("wb") as stream:
                stream.write(_header(specs))
                for spec in specs:
                    tensor = tensors(spec).contiguous()
                    _write_bytes(stream, tensor)
                stream.flush()
                os.fsync(stream.fileno())
            beside.replace(path)
        if len(self.shards) > 1:
            homes = {spec.name: file for file, specs in self.shards.items() for spec in specs}
            total = sum(spec.nbytes for specs in self.shards.values() for spec in specs)
            index = {"metadata": {"total_size": total}, "weight_map": homes}
            write_json(self.work / INDEX, index)

    def publish(self) -> Path:
        """Move the finished folder to its place."""
        (self.work / "journal.json").unlink()
        (self.work / ".lock").unlink()
        check_free(self.target)
        self.work.replace(self.target)
        return self.target

    def discard(self) -> None:
        """Throw the work away: what it would become must not exist."""
        shutil.rmtree(self.work, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()


def check_free(target: Path) -> None:
    """Refuse an output folder that holds something.

    Raises:
        CheckpointError: Where it does, or where a file has its name.
    """
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists():
        raise CheckpointError(
            f"{target} already exists and is not empty. Choose another output folder or delete it."
        )


def _shards(specs: Sequence[TensorSpec], limit: int) -> dict[str, list[TensorSpec]]:
    """Distribute tensors over files in order; a file is full when the next one exceeds it."""
    shards: list[list[TensorSpec]] = [[]]
    for spec in specs:
        if shards[-1] and sum(s.nbytes for s in shards[-1]) + spec.nbytes > limit:
            shards.append([])
        shards[-1].append(spec)
    if len(shards) == 1:
        return {SINGLE: shards[0]}
    count = len(shards)
    return {f"model-{i:05}-of-{count:05}.safetensors": s for i, s in enumerate(shards, start=1)}


def _header(specs: Sequence[TensorSpec]) -> bytes:
    """The head of a safetensors file that holds these tensors in this order."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for spec in specs:
        end = start + spec.nbytes
        entries[spec.name] = {
            "dtype": spec.dtype,
            "shape": spec.shape,
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_bytes(stream: IO[bytes], tensor: Tensor) -> None:
    import torch

    stream.write(tensor.flatten().view(torch.uint8).numpy().data)
