"""Writing checkpoints: by many threads at once, resumable, and complete or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from laconic.checkpoints.header import INDEX, SINGLE, TensorSpec, encode_header
from laconic.errors import CheckpointError
from laconic.files.append_log import read_lines
from laconic.files.atomic import lock, make_folder, publish
from laconic.files.json import write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

SHARD_BYTES: Final = 5_000_000_000
JOURNAL: Final = "journal.jsonl"
LOCK: Final = ".lock"


class CheckpointWriter:
    """Writes a checkpoint to a work folder and moves it to its place when it is complete.

    The weight files have their full size from the start, and any thread may `put` any part of any
    tensor at any time. A journal lists the finished tensors: a killed job that is started again
    with the same `digest` continues with the others. The journal is valid until the computer is
    restarted, because data are not synced to the disk in between; after a restart the work begins
    anew. `publish` syncs everything before the folder appears.

    Args:
        target: The folder to create; must be missing or empty.
        specs: Every tensor to write, in the order of the files.
        digest: A digest of everything that decides the bytes; work of another digest is deleted.
        shard_bytes: The most tensor bytes of one file.

    Attributes:
        work: The work folder.
        finished: The tensors that an earlier attempt has finished, with the facts it recorded.

    Raises:
        CheckpointError: If the folder is in use or cannot be written.
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
        self.finished: dict[str, dict[str, Any]] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._files: dict[str, int] = {}
        # The system lets one thread at a time write to a file; others would wait for it spinning.
        self._turns = {name: threading.Lock() for name in self.shards}
        check_free(target)
        try:
            make_folder(self.work)
            self._lock: IO[str] = (self.work / LOCK).open("a+", encoding="utf-8")
            self._take()
            self._identity = {"digest": digest, "boot": _boot()}
            self._keep_or_clear()
        except OSError as error:
            raise CheckpointError(f"{target} cannot be written: {error.strerror}.") from error

    def _take(self) -> None:
        """Lock the work, so that no other process writes there."""
        busy = f"Another merge is writing {self.target}. Wait for it, or choose another folder."
        try:
            lock(self._lock, CheckpointError(busy))
        except BaseException:
            self._lock.close()
            raise

    def _keep_or_clear(self) -> None:
        """Keep the finished tensors of an earlier attempt, or delete its work."""
        lines = _journal(self.work / JOURNAL)
        sizes = {name: _size(specs) for name, specs in self.shards.items()}
        kept = [self.work / name for name in sizes]
        whole = all(p.is_file() and p.stat().st_size == sizes[p.name] for p in kept)
        if lines and lines[0] == self._identity and whole:
            self.finished = {line.pop("tensor"): line for line in lines[1:]}
            return
        for path in self.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()

    def open(self) -> None:
        """Create the weight files in their full size, with their headers, ready for `put`.

        Raises:
            OSError: If the disk has no room for them.
        """
        for name, specs in self.shards.items():
            file = os.open(self.work / name, os.O_RDWR | os.O_CREAT, 0o666)
            self._files[name] = file
            _reserve(file, _size(specs))
            _write_at(file, memoryview(_header(specs)), 0)
            for tensor, start in _starts(specs).items():
                self._places[tensor] = (name, start)
        if not (self.work / JOURNAL).exists():
            self._note(self._identity)

    def put(self, name: str, start: int, values: np.ndarray[Any, Any]) -> None:
        """Write a part of a tensor; safe to call from many threads.

        Args:
            name: The tensor.
            start: The first byte of the part within the tensor.
            values: The part, contiguous, in the tensor's type.
        """
        file, offset = self._places[name]
        data = values.reshape(-1).view("u1").data
        with self._turns[file]:
            _write_at(self._files[file], data, offset + start)

    def finish(self, name: str, **facts: Any) -> None:
        """Record that a tensor is written completely, with facts for a resumed job."""
        self._note({"tensor": name, **facts})

    def _note(self, line: dict[str, Any]) -> None:
        with (self.work / JOURNAL).open("ab", buffering=0) as stream:
            stream.write(json.dumps(line).encode() + b"\n")

    def publish(self) -> Path:
        """Sync the finished folder to the disk and move it to its place.

        Raises:
            OSError: If the disk fails. The work is deleted then, because its data may be lost.
        """
        if len(self.shards) > 1:
            homes = {
                s.stored_as or s.name: file for file, specs in self.shards.items() for s in specs
            }
            total = sum(spec.nbytes for specs in self.shards.values() for spec in specs)
            index = {"metadata": {"total_size": total}, "weight_map": homes}
            write_json(self.work / INDEX, index)
        self.close()
        (self.work / JOURNAL).unlink()
        check_free(self.target)
        (self.work / LOCK).unlink()
        try:
            publish(self.work, self.target)
        except OSError:
            self.discard()
            raise
        return self.target

    def stands(self) -> bool:
        """Whether the work folder still exists."""
        return self.work.is_dir()

    def discard(self) -> None:
        """Delete the work folder."""
        shutil.rmtree(self.work, ignore_errors=True)

    def close(self) -> None:
        """Close the weight files; other processes may fill them from now on."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._lock.close()


class WeightFile:
    """A weight file that a `CheckpointWriter` created, opened by another process to fill a part.

    It has no lock and no journal; the process with the `CheckpointWriter` has both.

    Args:
        path: The file.
        specs: The tensors of the file, in its order.
        finished: The tensors of the checkpoint that are not to be written here.

    Attributes:
        finished: The same, and what has been finished here.
        facts: What was noted of each tensor finished here.

    Raises:
        OSError: Where the file is not there.
        CheckpointError: Where it is not the file that holds these tensors.
    """

    def __init__(self, path: Path, specs: Sequence[TensorSpec], finished: Iterable[str]) -> None:
        self.finished: dict[str, dict[str, Any]] = {name: {} for name in finished}
        self.facts: dict[str, dict[str, Any]] = {}
        self._starts = _starts(specs)
        self._turn = threading.Lock()
        self._file = os.open(path, os.O_WRONLY)
        if (size := os.fstat(self._file).st_size) != _size(specs):
            os.close(self._file)
            raise CheckpointError(f"{path} has {size} bytes and not {_size(specs)}: it is in use.")

    def put(self, name: str, start: int, values: np.ndarray[Any, Any]) -> None:
        """Write a part of a tensor, as `CheckpointWriter.put` does."""
        data = values.reshape(-1).view("u1").data
        with self._turn:
            _write_at(self._file, data, self._starts[name] + start)

    def finish(self, name: str, **facts: Any) -> None:
        """Bring a tensor to the disk: the journal outlives this machine, whose cache does not."""
        os.fsync(self._file)
        self.facts[name] = facts

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def check_free(target: Path) -> None:
    """Refuse an output folder that is not empty.

    Raises:
        CheckpointError: If it is not empty, or if a file has its name.
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
    """The header of a weight file that holds these tensors in this order."""
    return encode_header(specs, {"format": "pt"})


def _starts(specs: Sequence[TensorSpec]) -> dict[str, int]:
    """Where each tensor begins in a file that holds them in this order, in bytes."""
    starts, start = {}, len(_header(specs))
    for spec in specs:
        starts[spec.name] = start
        start += spec.nbytes
    return starts


def _size(specs: Sequence[TensorSpec]) -> int:
    """The bytes of a file that holds these tensors."""
    return len(_header(specs)) + sum(spec.nbytes for spec in specs)


def _reserve(file: int, size: int) -> None:
    """Give a file its size, and its room on the disk where the file system can tell at once."""
    if os.fstat(file).st_size != size:
        os.ftruncate(file, size)
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)


def _write_at(file: int, data: memoryview, offset: int) -> None:
    """Write all of it: one call may write less than it was given."""
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written


def _journal(path: Path) -> list[dict[str, Any]]:
    """The complete lines of the journal, without a last line that a kill has cut."""
    if not path.exists():
        return []
    lines = []
    for line in read_lines(path):
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def _boot() -> str:
    """The id of the computer's current start; empty if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
