"""JSON files: read with errors that name the file, written so that no reader sees half of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from laconic.files.atomic import write_file
from laconic.files.text import read_text, refuse_halves

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.errors import LaconicError


def read_json(path: Path, error: type[LaconicError]) -> dict[str, Any]:
    """The JSON object that a file holds.

    Args:
        path: The file.
        error: What to raise where it cannot be read or holds something else.
    """
    text = read_text(path, error)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as reason:
        raise error(f"{path} is damaged: it is not JSON ({reason}).") from reason
    refuse_halves(text, str(path), error)
    if not isinstance(value, dict):
        raise error(f"{path} is damaged: it is not a JSON object.")
    return value


def write_json(path: Path, value: object) -> None:
    """Write JSON whole or not at all: a reader never sees half of it, after a power loss too."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_file(path, text.encode("utf-8"))
