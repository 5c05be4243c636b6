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
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold some.")],
    baseline: Annotated[
        str | None, typer.Option(help="Compare with this run; default: system2, else the longest.")
    ] = None,
    margin: Margin = 0.02,
    format_: Annotated[
        Literal["text", "json", "html", "md", "csv", "tex"],
        typer.Option("--format", help="For standard output."),
    ] = "text",
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            help="A file: .html, .md, .json, .csv, .tex, .txt, .png or .svg. Repeatable.",
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(help="A folder for every chart as a picture of its own, PNG and SVG."),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="A paper's table instead: l2s, as Tables 1 and 3.")
    ] = None,
    texts: Annotated[
        float, typer.Option(min=0, help="The most MB of answers in a page; more are sampled.")
    ] = 20.0,
    details: Annotated[
        bool,
        typer.Option("--details", help="All tables, with --format text."),
    ] = False,
) -> None:
    """Compare runs: accuracy and length with 95 % intervals, paired differences, the front.

    The page (-o report.html) also has charts and every answer to read side by side.
    Searches and trainings that lie beside the runs are told too.
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
