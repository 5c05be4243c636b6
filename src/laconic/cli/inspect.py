"""``laconic inspect``: what to know of a pair before merging it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laconic.cli.terminal import err, out, progress_bar

EPILOG = (
    "Examples:\n\n"
    "laconic inspect lab:base lab:system1 lab:system2\n\n"
    "laconic inspect Qwen/Qwen2.5-Math-7B deepseek-ai/DeepSeek-R1-Distill-Qwen-7B "
    "--candidate Qwen/Qwen2.5-7B --picture pair.png\n\n"
    "laconic inspect BASE BASE+ADAPTER --json pair.json --layers"
)


def inspect(
    base: Annotated[
        str, typer.Argument(help="The base checkpoint, which task vectors would be measured from.")
    ],
    models: Annotated[
        list[str],
        typer.Argument(help="The checkpoints to merge: folders, Hub ids or BASE+ADAPTER."),
    ],
    candidate: Annotated[
        list[str] | None,
        typer.Option(help="Another checkpoint that may be the models' base. Repeatable."),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show a row for every layer.")] = False,
    json_: Annotated[
        str | None, typer.Option("--json", help="Write everything as JSON: a file, or - to print.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the change by layer and part: a .png or .svg file.")
    ] = None,
) -> None:
    """Compare models with their base before a merge.

    Are they siblings, does the base fit, how far is each model from it and
    where, do the models agree, and what beside the weights differs. Nothing is
    merged, and finding a misfit is no failure: the exit code is 2 only for
    checkpoints that cannot be opened or read.
    """
    from laconic.inspection.files import check, write
    from laconic.inspection.inspect import inspect as look
    from laconic.inspection.record import to_json
    from laconic.inspection.text import to_text

    file = None if json_ in (None, "-") else Path(str(json_))
    check(json=file, picture=picture)
    with progress_bar("Inspecting") as progress:
        found = look(base, models, candidates=candidate or (), progress=progress)
    if json_ == "-":
        out.print(to_json(found), end="", markup=False, soft_wrap=True)
    else:
        out.print(to_text(found, layers=layers), end="", markup=False, soft_wrap=True)
    for path in write(found, json=file, picture=picture):
        err.print(f"Wrote {path}.", markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog=EPILOG)(inspect)
