"""``laconic merge``: a recipe file or flags become a merged checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from laconic.cli.list_presets import preset_values
from laconic.cli.options import Json, Output
from laconic.cli.terminal import progress_bar, say
from laconic.errors import RecipeError
from laconic.registry import parse_spec, parse_value

if TYPE_CHECKING:
    from laconic.merging.plan import Plan

EPILOG = (
    "Examples:\n\n"
    "laconic merge recipe.yaml -o merged\n\n"
    "laconic merge --base lab:base --model lab:system2 --method ties --set density=0.2 "
    "-o merged\n\n"
    "laconic merge --base A --model B=0.7 --method task_arithmetic --before dare:density=0.7 "
    "--dry-run -o merged\n\n"
    "laconic merge --preset l2s-7b-ties --base Qwen/Qwen2.5-Math-7B "
    "--model deepseek-ai/DeepSeek-R1-Distill-Qwen-7B -o merged"
)


def merge(
    output: Output,
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe file, in laconic's or mergekit's format.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A recipe from the paper; see laconic list presets.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base checkpoint, which task vectors are measured from.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A checkpoint to merge: NAME or NAME=WEIGHT. Repeatable."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="The merge method; see laconic list methods.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="KEY=VALUE: set a parameter; KEY may be a path such as before.0.density.",
        ),
    ] = None,
    before: Annotated[
        list[str] | None,
        typer.Option(help="A transform before the method: NAME or NAME:key=value,..."),
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(help="An adjustment after the method: NAME or NAME:key=value,..."),
    ] = None,
    system2: Annotated[
        str | None,
        typer.Option(
            help="The checkpoint that config, tokenizer and chat template are taken from."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="base, system2, union or a model: match embedding rows by token string."),
    ] = None,
    carry_code: Annotated[
        bool, typer.Option("--carry-code", help="Copy Python files that lie beside the weights.")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option(help="The dtype of the output: bfloat16, float16 or float32.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The random seed.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the recipe and show the plan; download no weights."),
    ] = False,
    hash_: Annotated[
        bool,
        typer.Option(
            "--hash", help="Hash every input file completely and store the hashes in run.json."
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="The device that computes: cpu or cuda.")] = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(help="Blocks to compute at the same time; default: one per processor."),
    ] = None,
    shard_size: Annotated[
        float, typer.Option(min=0.001, help="The largest size of one weight file, in GB.")
    ] = 5.0,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Distribute the work over a Ray cluster: auto, HOST:PORT or local (this machine).",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Merge checkpoints into a new one, without training.

    Give a recipe file, or say it all in flags; flags win over the file.
    Everything is checked before the first byte is written, and the output
    folder appears only when it is whole.
    """
    from laconic.merging.engine.options import ExecutionOptions
    from laconic.merging.merge import execute
    from laconic.merging.plan import plan
    from laconic.merging.recipe import Recipe, read_recipe, set_value

    values = read_recipe(recipe) if recipe else {}
    flags: dict[str, Any] = {"base": base, "method": method, "system2": system2}
    flags |= {"tokenizer": tokenizer, "dtype": dtype, "seed": seed}
    flags["carry_code"] = carry_code or None
    flags["models"] = [_weighted(text) for text in model or ()]
    flags["before"] = [_step(text) for text in before or ()]
    flags["after"] = [_step(text) for text in after or ()]
    if preset:
        values = preset_values(preset, flags, recipe=recipe)
    values |= {key: value for key, value in flags.items() if value not in (None, [])}
    if not values:
        raise RecipeError("Nothing to merge: give a recipe file, or --model, --method and --base.")
    for text in set_ or ():
        set_value(values, *_assignment(text))
    options = ExecutionOptions(device, threads, ray=ray)
    planned = plan(Recipe.from_dict(values), output, hash_inputs=hash_)
    if dry_run:
        _show_plan(planned, as_json=as_json)
        return
    with progress_bar("Merging") as progress:
        merged = execute(
            planned, output, progress=progress, shard_bytes=round(shard_size * 1e9), options=options
        )
    done = {"folder": str(merged.folder), "tensors": len(merged.specs), "digest": planned.digest}
    say(done, f"Merged {len(merged.specs)} tensors into {output}.", as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog=EPILOG)(merge)


def _weighted(text: str) -> Any:
    """``NAME`` or ``NAME=WEIGHT`` as a recipe writes it."""
    name, equals, weight = text.rpartition("=")
    if not equals:
        return text
    value = parse_value(weight)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecipeError(f"--model {text}: the weight '{weight}' is not a number.")
    return {"model": name, "weight": value}


def _assignment(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` as a key and its value."""
    key, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text}: write KEY=VALUE.")
    return key, parse_value(value)


def _step(text: str) -> Any:
    name, params = parse_spec(text)
    return {name: params} if params else name


def _show_plan(planned: Plan, *, as_json: bool) -> None:
    facts = planned.describe()
    say(facts, "\n".join(_lines(facts)), as_json=as_json)


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """A plan for people: a line a fact, bytes in units, a list's entries below one another."""
    from laconic.checkpoints.resources import human

    for key, value in facts.items():
        name = key.removeprefix("bytes_").replace("_", " ")
        if value is None or value in ([], {}):
            continue
        match value:
            case int() if key.startswith("bytes_"):
                yield f"{name}: {human(value)}"
            case [_, _, *_]:
                yield f"{name}:"
                yield from (f"  {item}" for item in value)
            case [item]:
                yield f"{name}: {item}"
            case dict():
                yield f"{name}: " + ", ".join(f"{k} {v}" for k, v in value.items())
            case _:
                yield f"{name}: {value}"
