"""``laconic import``: another tool's log becomes a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laconic.cli.options import Cache, Compress, Json, Output
from laconic.cli.terminal import err, out, progress_bar, verdicts
from laconic.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from laconic.runs.run import Run

EPILOG = (
    "Examples:\n\nlaconic import samples_math500_DATE.jsonl --task math500 --tokenizer checkpoint "
    "-o runs/mine\n\n"
    "laconic import logs/DATE_task.eval -o runs/mine\n\n"
    "laconic import log.jsonl.gz --task math500 --data problems --map id=problem_id "
    "--map length=tokens -o runs/mine\n\n"
    "laconic import log.jsonl --task amc23 --data problems --tokenizer checkpoint -o runs/mine"
)


def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="LOG...",
            help="A log of a known tool, or rows with one completion each: JSONL, a JSON array or "
            "Parquet, gzipped or not. Several files, or a folder's files, are parts of one.",
        ),
    ],
    output: Output,
    task: Annotated[
        str | None,
        typer.Option(help="The task's name; needed unless the log or --data holds its problems."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The problems: TASK.jsonl or a folder that holds it; default: those in the log."
        ),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="FIELD=COLUMN of a log of rows: id, sample, problem, gold, response, thought, "
            "length, thinking, cap or finish.",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Count tokens with this tokenizer: a Hugging Face folder or a .tiktoken file."
        ),
    ] = None,
    cap: Annotated[
        int | None,
        typer.Option(help="The most tokens of a completion, if the log does not say it."),
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
    from laconic.importing.import_log import import_log
    from laconic.reporting.report import compare

    mapped = dict(map(_assignment, map_ or ()))
    with progress_bar("Grading") as progress:
        run = import_log(
            paths,
            task,
            output,
            data=data,
            mapped=mapped,
            tokenizer=tokenizer,
            cap=cap,
            compress=compress,
            grades=verdicts(use=cache),
            progress=progress,
        )
    for line in _summary(run):
        err.print(line, markup=False, soft_wrap=True)
    shown = compare([run], baseline=run.name)
    out.print(shown.to_json() if as_json else shown.to_text(), markup=False, soft_wrap=True)


def _summary(run: Run) -> Iterator[str]:
    """What was read, left out, inferred and missing, a line each."""
    said = run.provenance["import"]
    yield (
        f"Read {said['rows']:,} rows of {run.provenance['format']}: {said['completions']:,} "
        f"completions of {said['problems']:,} problems."
    )
    left_out = [f"{number:,} {what}" for what, number in said["skipped"].items()]
    columns = [f"{f} from {c}" for f, c in run.provenance.get("columns", {}).items()]
    for head, parts in (
        ("Columns", columns),
        ("Left out", left_out),
        ("Inferred", said["inferred"]),
        ("Missing", said["missing"]),
    ):
        if parts or head != "Columns":
            yield f"{head}: {'; '.join(parts) or 'nothing'}."


def _assignment(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not equals or not field or not column:
        raise RunError(f"--map {text}: write FIELD=COLUMN, such as id=problem_id.")
    return field, column


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(name="import", epilog=EPILOG)(import_)
