"""``laconic train``: a recipe becomes a shorter model."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laconic.cli.options import Json, Output
from laconic.cli.terminal import err, progress_bar, say
from laconic.errors import RecipeError
from laconic.files.atomic import write_file
from laconic.registry import parse_value

if TYPE_CHECKING:
    from laconic.training.recipe import TrainRecipe

EPILOG = (
    "Examples:\n\n"
    "laconic train recipe.yaml -o short\n\n"
    "laconic train recipe.yaml -o short --resume\n\n"
    "laconic train recipe.yaml --set rate=2e-5 --set select.margin=0.01 --dry-run -o short\n\n"
    "laconic train --preset tldr-7b --dry-run -o short\n\n"
    "laconic train --preset tldr-7b --set pools.folder=mine --write recipe -o recipe.yaml\n\n"
    "accelerate launch --num_processes 8 -m laconic train recipe.yaml -o short"
)


def train(
    output: Output,
    recipe: Annotated[Path | None, typer.Argument(help="A recipe file.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="KEY=VALUE over the recipe's: rate, or a path, dev.limit. Values are YAML.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a stopped run from its last checkpoint.")
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A preset to start from: lab, or a paper's settings (tldr-7b, tldr-14b)."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe and show the cost; write nothing.")
    ] = False,
    gpus: Annotated[int, typer.Option(min=1, help="For --dry-run: how many GPUs.")] = 1,
    train_rate: Annotated[
        float, typer.Option(help="For --dry-run: trained tokens per second on one GPU.")
    ] = 5000.0,
    generate_rate: Annotated[
        float, typer.Option(help="For --dry-run: generated tokens per second on one GPU.")
    ] = 2500.0,
    write: Annotated[
        str | None,
        typer.Option(
            metavar="recipe|fsdp2|zero3",
            help="Write the recipe, or a configuration for accelerate launch, to -o, and stop.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fine-tune a slow thinker on a steered mixture of short and long answers.

    Every so many steps the dev problems are answered; what they say moves
    the mixture. The shortest checkpoint that keeps System 2's accuracy is
    delivered as a model, and judged by problems that steered nothing.
    """
    import yaml

    from laconic.training.presets.load import read_launch
    from laconic.training.recipe import TrainRecipe

    if write not in (None, "recipe"):
        _write(output, read_launch(write))
        return
    checked = TrainRecipe.from_dict(_values(recipe, preset, set_ or ()))
    if write:
        _write(output, yaml.safe_dump(checked.to_dict(), sort_keys=False, allow_unicode=True))
        return
    if dry_run:
        _show_cost(checked, preset, gpus, (train_rate, generate_rate), as_json=as_json)
        return
    from laconic.training.distributed import find_processes
    from laconic.training.train import train as run_training

    processes = find_processes()
    if processes.is_main:
        err.print(_processes(checked, processes.count), markup=False, soft_wrap=True)
    with progress_bar("Training") as progress:
        trained = run_training(checked, output, resume=resume, progress=progress)
    if processes.is_main:
        say(trained.to_dict(), trained.to_text(), as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog=EPILOG)(train)


def _values(recipe: Path | None, preset: str | None, changes: Sequence[str]) -> dict[str, Any]:
    """The plain values of a recipe or a preset with what the command line changes."""
    from laconic.files.yaml import read_yaml_mapping
    from laconic.training.presets.load import PRESETS
    from laconic.training.recipe import set_value

    if (recipe is None) == (preset is None):
        raise RecipeError("Give one of a recipe file and --preset.")
    values = (
        read_yaml_mapping(recipe, f"The recipe {recipe}", RecipeError)
        if recipe
        else deepcopy(dict(PRESETS.get(str(preset)).recipe))
    )
    for text in changes:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(f"--set {text}: write KEY=VALUE.")
        set_value(values, key, parse_value(value))
    return values


def _show_cost(
    recipe: TrainRecipe,
    preset: str | None,
    gpus: int,
    rates: tuple[float, float],
    *,
    as_json: bool,
) -> None:
    """Print what a training would cost, and what is known of a preset."""
    from laconic.training.cost import Rates, preview, to_text
    from laconic.training.presets.load import PRESETS

    known = PRESETS.get(preset) if preset else None
    facts = preview(recipe, processes=gpus, rates=Rates(*rates), preset=known)
    text = to_text(facts)
    if known:
        facts |= {"source": known.source, "figures": dict(known.figures), "notes": known.notes}
        text += f"\n\n{known.summary} ({known.source})."
        if known.figures:
            text += "\nIts figures, accuracy in % and mean tokens:"
        for name, figures in known.figures.items():
            shown = figures if isinstance(figures, dict) else {"": figures}
            cells = (f"{task} {a:g} / {n:,.0f}".strip() for task, (a, n) in shown.items())
            text += f"\n  {name}: {', '.join(cells)}"
        text += "".join(f"\n- {note}" for note in known.notes)
    say(facts, text, as_json=as_json)


def _processes(recipe: TrainRecipe, count: int) -> str:
    """How many processes train, and what they make of a step."""
    each, times = recipe.batch.per_device, recipe.batch.accumulation
    return (
        f"Training in {count} process{'es' * (count > 1)}: a step has {each * times * count:,} "
        f"{recipe.objective.unit} (batch.per_device {each} x batch.accumulation {times} x {count})."
    )


def _write(path: Path, text: str) -> None:
    """Write a file that is not there yet."""
    if path.exists():
        raise RecipeError(f"{path} exists. Choose another name.")
    try:
        write_file(path, text.encode("utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be written: {error.strerror}.") from error
    err.print(f"Wrote {path}.")
