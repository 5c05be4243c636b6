"""The model card of a merged checkpoint, in the Hub's format."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.merging.recipe import Recipe


def model_card(recipe: Recipe, record: Mapping[str, Any]) -> str:
    """The text of README.md, written from the recipe and the merge's run.json."""
    names = [m.model for m in recipe.models]
    parents = [name for name in dict.fromkeys([recipe.base, *names]) if name]
    front = {
        "library_name": "transformers",
        "tags": ["merge", "laconic"],
        "base_model": [_line(name) for name in parents],
        "base_model_relation": "merge",
    }
    command = shlex.join(str(part) for part in record["command"])
    notes = "".join(f"* {_plain(note)}\n" for note in record["notes"]) or "None.\n"
    inputs = "".join(
        f"* {_code(name)} ({known.get('commit') or known['fingerprint']})\n"
        for name, known in record["inputs"].items()
    )
    title = " + ".join(Path(name).name for name in parents)
    return f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---

# {_plain(title)}, merged with {recipe.method}

Merged by laconic {record["versions"]["laconic"]}. Config, generation config, tokenizer and chat
template come from {_code(record["system2"])}{
        f", the tokenizer from {_code(recipe.tokenizer)}" if recipe.tokenizer else ""
    }.

## Recipe

{_block(recipe.to_yaml(), "yaml")}

## Checkpoints (commit, or fingerprint of a folder)

{inputs}
## Notes

{notes}
## Made by

{_block(command)}

Digest `{record["digest"]}`, seed {record["seed"]}, versions {json.dumps(record["versions"])}.
"""


def _line(text: str) -> str:
    """A text on one line, whose control characters are spelt out."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def _plain(text: str) -> str:
    """A text of one line that Markdown and HTML leave as it is."""
    return re.sub(r"[\\`*\[\]<>|&~#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", _line(text))


def _code(text: str) -> str:
    """A name as inline code, whatever it holds."""
    line = _line(text)
    fence = "`" * (_longest(line, "`") + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def _block(text: str, language: str = "") -> str:
    """Lines as a block of code, which no line of theirs ends."""
    fence = "`" * max(3, _longest(text, "`") + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _longest(text: str, letter: str) -> int:
    """The longest row of a letter in a text."""
    return max(map(len, re.findall(f"{re.escape(letter)}+", text)), default=0)
