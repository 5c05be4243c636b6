"""The command line that merges what a recipe says, for messages that tell the next step."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from laconic.merging.varying import Varying, plain_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from laconic.merging.recipe import Recipe, StepSpec


def merge_command(recipe: Recipe, output: str) -> str:
    """The command line of a merge, ready for a shell.

    Args:
        recipe: What to merge. One that options cannot express is named as a file.
        output: The folder to create.
    """
    without_option = (
        *(recipe.overrides, recipe.head, recipe.layers),
        *(recipe.config, recipe.generation_config, recipe.chat_template),
        *(recipe.towers, recipe.mtp, recipe.carry_code),
    )
    if any(without_option) or any(isinstance(m.weight, Varying) for m in recipe.models):
        return f"laconic merge {output}.yaml -o {output}"
    words = ["laconic", "merge"]
    if recipe.base:
        words += ["--base", recipe.base]
    for model in recipe.models:
        words += ["--model", model.model + (f"={model.weight:g}" if model.weight != 1.0 else "")]
    words += ["--method", recipe.method]
    for key, value in _plain(recipe.params):
        words += ["--set", f"{key}={value}"]
    words += [w for step in recipe.before for w in ("--before", _spec(step))]
    words += [w for step in recipe.after for w in ("--after", _spec(step))]
    for key in ("system2", "tokenizer", "dtype"):
        words += [f"--{key}", getattr(recipe, key)] if getattr(recipe, key) else []
    words += ["--seed", str(recipe.seed)] if recipe.seed else []
    return " ".join(map(shlex.quote, [*words, "-o", output]))


def _spec(step: StepSpec) -> str:
    """A step as ``--before`` and ``--after`` take it."""
    values = ",".join(f"{key}={value}" for key, value in _plain(step.params))
    return f"{step.name}:{values}" if values else step.name


def _plain(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Parameters and their values as the command line reads them."""
    for key, value in params.items():
        plain = plain_value(value)
        yield key, plain if isinstance(plain, str) else json.dumps(plain)
