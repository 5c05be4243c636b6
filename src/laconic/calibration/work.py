"""The folder in which a calibration keeps its finished steps until the output is complete."""

from __future__ import annotations

import errno
import json
import os
import shutil
from typing import IO, TYPE_CHECKING, Any, Final, Self

from laconic.errors import CalibrationError
from laconic.files.atomic import lock, make_folder, sync, writing
from laconic.files.json import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

STATE: Final = "state.json"
LOCK: Final = ".lock"


class WorkFolder:
    """A folder next to the output file; one process at a time may use it.

    Args:
        output: The file that the calibration will write.
        digest: A digest of everything that decides its bytes; work of another digest is deleted.

    Attributes:
        done: The number of finished steps, including those of an earlier attempt.

    Raises:
        CalibrationError: If the folder is in use or cannot be written.
    """

    def __init__(self, output: Path, digest: str) -> None:
        self.output = output
        self.folder = output.with_name(f".{output.name}.partial")
        self._digest = digest
        self.done = 0
        try:
            make_folder(self.folder)
            self._lock: IO[str] = (self.folder / LOCK).open("a")
        except OSError as error:
            raise CalibrationError(f"{output} cannot be written: {error.strerror}.") from error
        busy = f"Another calibration is writing {output}. Wait for it, or choose another file."
        try:
            lock(self._lock, CalibrationError(busy))
        except BaseException:
            self._lock.close()
            raise
        self._take_over()

    def _take_over(self) -> None:
        """Continue an earlier attempt with the same digest; delete any other."""
        if (self.folder / STATE).exists():
            try:
                state = read_json(self.folder / STATE, CalibrationError)
            except CalibrationError:
                state = {}
            if state.get("digest") == self._digest:
                self.done = int(state["done"])
                return
        for path in self.folder.iterdir():
            if path.name != LOCK:
                path.unlink()

    def finish(self, done: int) -> None:
        """Record that `done` steps are finished; their files are on the disk."""
        write_json(self.folder / STATE, {"digest": self._digest, "done": done})
        self.done = done

    def save(self, name: str, tensors: Mapping[str, Tensor], **facts: Any) -> None:
        """Save tensors, and facts about them, in a file of the folder.

        Raises:
            OSError: Where it cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        path = self.folder / name
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        try:
            with writing(path) as partial:
                save_file(contiguous, partial, metadata={"facts": json.dumps(facts)})
        except SafetensorError as error:
            raise OSError(errno.EIO, str(error)) from error

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors that `save` wrote, memory-mapped, and the facts about them."""
        from safetensors import safe_open

        handle: Any = safe_open(self.folder / name, framework="pt")
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
        return tensors, json.loads(handle.metadata()["facts"])

    def states(self, name: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        """A tensor that is memory-mapped from a file of the folder; the file is created if missing.

        Args:
            name: The file.
            shape: The tensor's shape, ``[token, channel]``.
            dtype: Its type.

        Raises:
            OSError: Where the disk has no room for it.
        """
        import torch

        path = self.folder / name
        size = shape[0] * shape[1]
        with path.open("ab") as stream:
            os.posix_fallocate(stream.fileno(), 0, size * dtype.itemsize)
        flat = torch.from_file(str(path), shared=True, size=size, dtype=dtype)
        return flat.view(shape)

    def sync(self, name: str) -> None:
        """Bring a file of the folder to the disk."""
        sync(self.folder / name)

    def drop(self, name: str) -> None:
        """Delete a file of the folder that is no longer needed."""
        (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete the folder: the output is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()
        if self.folder.is_dir() and not self.done:
            self.clear()
