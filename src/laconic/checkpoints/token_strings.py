"""The tokens of a tokenizer.json: which string each id stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.errors import CheckpointError
from laconic.files.json import read_json

if TYPE_CHECKING:
    from pathlib import Path


def read_tokens(path: Path) -> dict[int, str]:
    """The token string of each id in a tokenizer.json; empty where there is no such file.

    Raises:
        CheckpointError: For a file that is damaged.
    """
    if not path.exists():
        return {}
    tokenizer = read_json(path, CheckpointError)
    try:
        vocabulary = tokenizer.get("model", {}).get("vocab", {})
        pairs = (
            ((token, i) for token, i in vocabulary.items())
            if isinstance(vocabulary, dict)
            else ((row[0], i) for i, row in enumerate(vocabulary))
        )
        strings = {int(i): str(token) for token, i in pairs}
        added = tokenizer.get("added_tokens") or ()
        return strings | {int(token["id"]): str(token["content"]) for token in added}
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path} is damaged: it is no tokenizer ({error!r}).") from error
