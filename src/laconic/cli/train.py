"""``laconic train``: a recipe becomes a shorter model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from laconic.cli.terminal import Json, Output, progress_bar, say
from laconic.errors import RecipeError
from laconic.registry import parse_value

EPILOG = (
    "Examples:\n\n"
    "laconic train recipe.yaml -o short\n\n"
    "laconic train recipe.yaml -o short --resume\n\n"
    "laconic train recipe.yaml --set rate=2e-5 --set select.margin=0.01 --dry-run -o short\n\n"
    "laconic train --preset tldr-7b --dry-run -o short\n\n"
    "accelerate launch --num_processes 8 -m laconic train recipe.yaml -o short"
)


def train(
    output: Output,
    recipe: Annotated[Path | None, typer.Argument(help="A recipe file.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE over the recipe's: rate, or a path, dev.limit."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of a stopped run.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a slow thinker on a steered mixture of short and long answers.

    Every so many steps the dev problems are answered; what they say moves
    the mixture. The shortest checkpoint that keeps System 2's accuracy is
    delivered as a model, and judged by problems that steered nothing.
    """
    from laconic.train import TrainRecipe
    from laconic.train import train as run_training

    values = _values(recipe, set_ or ())
    with progress_bar("Training") as progress:
        trained = run_training(
            TrainRecipe.from_dict(values), output, resume=resume, progress=progress
        )
    say(trained.to_dict(), trained.to_text(), as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog=EPILOG)(train)


def _values(recipe: Path | None, changes: Any) -> dict[str, Any]:
    """The plain values of a recipe with what the command line changes."""
    from laconic.recipe import read_yaml
    from laconic.train.recipe import set_value

    if recipe is None:
        raise RecipeError("Nothing to train: give a recipe file.")
    values = read_yaml(recipe)
    for text in changes:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"--set {text}: write KEY=VALUE.")
        set_value(values, key, parse_value(value))
    return values
