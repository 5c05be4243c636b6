"""The model card of a merged checkpoint, in the Hub's format."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.recipe import Recipe


def model_card(recipe: Recipe, record: Mapping[str, Any]) -> str:
    """The text of README.md, written from the recipe and the merge's run.json."""
    names = [m.model for m in recipe.models]
    parents = [name for name in dict.fromkeys([recipe.base, *names]) if name]
    front = {
        "library_name": "transformers",
        "tags": ["merge", "laconic"],
        "base_model": parents,
        "base_model_relation": "merge",
    }
    command = shlex.join(str(part) for part in record["command"])
    notes = "".join(f"* {note}\n" for note in record["notes"]) or "None.\n"
    inputs = "".join(
        f"* `{name}` ({known.get('commit') or known['fingerprint']})\n"
        for name, known in record["inputs"].items()
    )
    return f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---

# {" + ".join(Path(name).name for name in parents)}, merged with {recipe.method}

Merged by laconic {record["versions"]["laconic"]}. Config, generation config, tokenizer and chat
template come from `{record["system2"]}`{
        f", the tokenizer from `{recipe.tokenizer}`" if recipe.tokenizer else ""
    }.

## Recipe

```yaml
{recipe.to_yaml()}```

## Checkpoints (commit, or fingerprint of a folder)

{inputs}
## Notes

{notes}
## Made by

```
{command}
```

Digest `{record["digest"]}`, seed {record["seed"]}, versions {json.dumps(record["versions"])}.
"""
