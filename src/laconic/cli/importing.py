"""``laconic import``: another tool's log becomes a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laconic.cli.terminal import Json, Output, out, progress_bar
from laconic.errors import RunError

EPILOG = (
    "Examples:\n\nlaconic import log.jsonl.gz --task math500 --data problems --map id=problem_id "
    "--map length=tokens -o runs/mine\n\n"
    "laconic import log.jsonl --task amc23 --data problems --tokenizer checkpoint -o runs/mine"
)


def import_(
    path: Annotated[Path, typer.Argument(help="A log: JSONL, gzipped or not.")],
    task: Annotated[str, typer.Option(help="The task's name.")],
    output: Output,
    data: Annotated[
        Path | None,
        typer.Option(help="The problems: TASK.jsonl or a folder that holds it."),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="FIELD=COLUMN: id, sample, response, length, cap or finish."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Count tokens by it: a Hugging Face folder or a .tiktoken file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a run of another tool's log: graded again, ready for laconic report.

    Budget and truncation are inferred where the log does not tell them, and
    the report says so. Nothing is generated and no model is needed.
    """
    from laconic.importing import import_log
    from laconic.report import compare

    mapped = dict(map(_assignment, map_ or ()))
    with progress_bar("Grading") as progress:
        run = import_log(
            path, task, output, data=data, mapped=mapped, tokenizer=tokenizer, progress=progress
        )
    shown = compare([run], baseline=run.name)
    out.print(shown.to_json() if as_json else shown.to_text(), markup=False, soft_wrap=True)


def _assignment(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not equals or not field or not column:
        raise RunError(f"--map {text}: write FIELD=COLUMN, such as id=problem_id.")
    return field, column


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(name="import", epilog=EPILOG)(import_)
