"""``laconic report``: runs side by side, in the terminal, as files, as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from laconic.cli.options import Margin
from laconic.cli.terminal import err, out

EPILOG = (
    "Examples:\n\n"
    "laconic report runs --baseline system2\n\n"
    "laconic report runs/system2 runs/merged --margin 0.01 -o report.html -o report.tex\n\n"
    "laconic report runs --layout l2s\n\n"
    "laconic report study --figures figures\n\n"
    "laconic report runs --format json"
)


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, or folders that contain run folders.")
    ],
    baseline: Annotated[
        str | None,
        typer.Option(
            help="The run to compare with; default: system2, else the run with the longest answers."
        ),
    ] = None,
    margin: Margin = 0.02,
    format_: Annotated[
        Literal["text", "json", "html", "md", "csv", "tex"],
        typer.Option("--format", help="The format of standard output."),
    ] = "text",
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="A file to write: .html, .md, .json, .csv, .tex, .txt, .png or .svg. Repeatable.",
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="A folder to write every chart to, as PNG and SVG."),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="A table in a paper's layout instead: l2s, as in arXiv 2503.20641."),
    ] = None,
    texts: Annotated[
        float,
        typer.Option(min=0, help="The most MB of answers in a page; of more, a sample is kept."),
    ] = 20.0,
    details: Annotated[
        bool,
        typer.Option("--details", help="Show all tables; with --format text."),
    ] = False,
) -> None:
    """Compare runs: accuracy and length with 95 % intervals, paired differences, the front.

    The page (-o report.html) also has charts and every answer to read side by side.
    Searches and trainings in the same folders are shown too.
    """
    from laconic.reporting.report import check_outputs, render, write, write_figures
    from laconic.reporting.report import report as compare

    outputs = output or []
    check_outputs(outputs, layout)
    comparison = compare(runs, baseline=baseline, margin=margin)
    for path in outputs:
        write(comparison, path, texts=texts, layout=layout)
        err.print(f"Wrote {path}.")
    if figures is not None:
        written = write_figures(comparison, figures)
        err.print(f"Wrote {len(written)} pictures to {figures}.")
    if not outputs and figures is None:
        text = (
            comparison.to_text(details=details)
            if format_ == "text" and layout is None
            else render(comparison, format_, layout=layout)
        )
        out.print(text, markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog=EPILOG)(report)
