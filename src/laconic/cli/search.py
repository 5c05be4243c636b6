"""``laconic search``: find the front of accuracy and length over a recipe's ranges."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from laconic.cli.options import (
    AllowCode,
    Backend,
    Json,
    Limit,
    MaxTokens,
    Output,
    Prompt,
    TaskData,
    Tasks,
    Temperature,
    TopP,
)
from laconic.cli.terminal import out, progress_bar
from laconic.errors import LaconicError

EPILOG = (
    "Examples:\n\n"
    "laconic search recipe.yaml --task math.jsonl -o study\n\n"
    "laconic search recipe.yaml --task math.jsonl --constraint 'accuracy>=system2-0.01' "
    "--trials 30 --budget 20M -o study\n\n"
    "laconic search recipe.yaml --task lab:split=dev,size=200 --prove-on lab:size=200 -o study\n\n"
    "In the recipe, a number under params, models, before, after or overrides may be a range: "
    "scale: {low: 0.3, high: 0.9}, with a step if you like."
)
_UNITS = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def search(
    recipe: Annotated[Path, typer.Argument(help="A recipe file in which numbers are ranges.")],
    output: Output,
    task: Tasks = None,
    prove_on: Annotated[
        list[str] | None,
        typer.Option(help="Tasks to test the winner on; default: half of each task's problems."),
    ] = None,
    constraint: Annotated[
        str | None,
        typer.Option(
            help="accuracy>=system2-0.01 (the shortest wins), accuracy>=0.8, "
            "length<=system2*0.5 (the most accurate wins) or length<=900; default: the whole front."
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="The most candidates to try; default: 12 for each range.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="The most tokens to generate in total, such as 500k or 20M."),
    ] = None,
    system1: Annotated[
        str | None, typer.Option(help="The fast model to compare with; default: the base.")
    ] = None,
    data: TaskData = None,
    limit: Limit = None,
    max_tokens: MaxTokens = None,
    repeats: Annotated[int, typer.Option(help="Completions per problem.")] = 1,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    seed: Annotated[
        int,
        typer.Option(help="The random seed for sampling, candidates and the order of problems."),
    ] = 0,
    prompt: Prompt = None,
    backend: Backend = "transformers",
    allow_code: AllowCode = False,
    workers: Annotated[
        int, typer.Option(help="How many processes try candidates; each holds a model of its own.")
    ] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Where Optuna keeps the trials: a database's URL or a journal file; default: a "
            "journal in the folder."
        ),
    ] = None,
    join: Annotated[
        bool,
        typer.Option(
            "--join",
            help="Join a search that runs in another process or on another machine and shares this "
            "folder.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Find the front of accuracy and length over a recipe's ranges, and prove the best of it.

    System 2 and System 1 are measured first; candidates then see the
    problems in growing subsets, and those that cannot be the best are dropped. The winner is
    measured on held-out problems. The same command goes on after an
    interruption; with more trials or tokens it goes further.
    """
    from laconic.evaluation.evaluate import PLAIN
    from laconic.runs.experiment import Sampling
    from laconic.searching.explore import search as run_search
    from laconic.searching.summary import summary_text

    with progress_bar("Searching") as progress:
        study = run_search(
            recipe,
            output,
            task or (),
            prove_on=prove_on or (),
            constraint=constraint,
            trials=trials,
            budget=_tokens(budget),
            system1=system1,
            sampling=Sampling(max_tokens, temperature, top_p, repeats, seed),
            backend=backend,
            limit=limit,
            prompt=PLAIN if prompt is None else prompt,
            data=data,
            allow_code=allow_code,
            workers=workers,
            storage=storage,
            join=join,
            progress=progress,
        )
    if as_json:
        out.print_json(json.dumps(dict(study.facts)))
        return
    out.print(summary_text(study), markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog=EPILOG)(search)


def _tokens(text: str | None) -> int | None:
    """A number of tokens such as 200000, 200k or 1.5M."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?)", text.replace(",", "").replace("_", ""))
    if found is None:
        raise LaconicError(f"--budget {text}: write a number of tokens, such as 500k or 20M.")
    return round(float(found[1]) * _UNITS[found[2]])
