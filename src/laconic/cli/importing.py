"""``laconic import``: another tool's log becomes a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laconic.cli.options import Cache, Compress, Json, Output
from laconic.cli.terminal import out, progress_bar, verdicts
from laconic.errors import RunError

EPILOG = (
    "Examples:\n\nlaconic import samples_math500_DATE.jsonl --task math500 --tokenizer checkpoint "
    "-o runs/mine\n\n"
    "laconic import logs/DATE_task.eval --task aime24 -o runs/mine\n\n"
    "laconic import log.jsonl.gz --task math500 --data problems --map id=problem_id "
    "--map length=tokens -o runs/mine\n\n"
    "laconic import log.jsonl --task amc23 --data problems --tokenizer checkpoint -o runs/mine"
)


def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="LOG...",
            help="A log of SkyThought, lm-eval, lighteval, inspect, evalscope or Qwen2.5-Math, or "
            "any JSONL, gzipped or not; several are parts of one.",
        ),
    ],
    task: Annotated[str, typer.Option(help="The task's name.")],
    output: Output,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The problems: TASK.jsonl or a folder that holds it; default: those in the log."
        ),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="FIELD=COLUMN of any JSONL: id, sample, response, length, cap or finish."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Count tokens by it: a Hugging Face folder or a .tiktoken file."),
    ] = None,
    compress: Compress = False,
    cache: Cache = True,
    as_json: Json = False,
) -> None:
    """Make a run of another tool's log: graded again, ready for laconic report.

    Budget and truncation are inferred where the log does not tell them, and
    the report says so. Nothing is generated and no model is needed. The tool
    that wrote the log is found by looking at it.
    """
    from laconic.importing import import_log
    from laconic.report import compare

    mapped = dict(map(_assignment, map_ or ()))
    with progress_bar("Grading") as progress:
        run = import_log(
            paths,
            task,
            output,
            data=data,
            mapped=mapped,
            tokenizer=tokenizer,
            compress=compress,
            grades=verdicts(use=cache),
            progress=progress,
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
