"""What a checkpoint's folder may hold that would hang its reader, or run a stranger's code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from laconic.errors import CheckpointError
from laconic.files.text import MOST_TEXT, regular, size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The endings of the files that transformers reads, which trusts them all; the texts among them.
TEXTS: Final = (".json", ".jinja", ".txt", ".model")
READ: Final = (*TEXTS, ".safetensors")


def check_files(folder: Path) -> None:
    """Refuse a folder in which a model's file is a pipe or a device, or a text without end.

    Raises:
        CheckpointError: Naming the file.
    """
    for path in sorted(folder.iterdir()):
        if not path.name.endswith(READ) or path.is_dir() or not path.exists():
            continue
        try:
            length = regular(path).stat().st_size
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
        if length > MOST_TEXT and path.name.endswith(TEXTS):
            raise CheckpointError(f"{path} cannot be read: it is larger than {size(MOST_TEXT)}.")


def check_config(config: Mapping[str, Any], path: Path) -> None:
    """Refuse a config that names a kernel of the Hub, which transformers would fetch and run.

    Args:
        config: The content of config.json.
        path: The file, for the error.

    Raises:
        CheckpointError: Naming the key and the kernel.
    """
    for key, value in config.items():
        named = list(value.values()) if isinstance(value, dict) else [value]
        if key.endswith("_implementation"):
            kernel = next((v for v in named if isinstance(v, str) and "/" in v), None)
            if kernel is not None:
                raise CheckpointError(
                    f"{path} names code of the Hub: '{key}' is {kernel!r}. laconic runs no code "
                    "that a checkpoint brings: remove the key."
                )
        elif isinstance(value, dict):
            check_config(value, path)
