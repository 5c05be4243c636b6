"""Reports: run folders in, the tables and pictures that people decide from out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from laconic.errors import RunError, did_you_mean
from laconic.files.atomic import make_folder, write_file
from laconic.reporting.comparison import MARGIN, ReportRow, RunComparison, compare
from laconic.reporting.history import find_histories
from laconic.reporting.page.build import to_html
from laconic.reporting.run_folders import join, load
from laconic.reporting.tables.layouts import LAYOUTS
from laconic.reporting.tables.main import main_tables
from laconic.reporting.writers.csv import tables_to_csv, to_csv
from laconic.reporting.writers.json import to_json
from laconic.reporting.writers.latex import to_latex
from laconic.reporting.writers.markdown import tables_to_markdown, to_markdown
from laconic.reporting.writers.stills.draw import figures, picture, to_png, to_svg
from laconic.reporting.writers.terminal import set_lines
from laconic.reporting.writers.text import to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "FORMATS",
    "ReportRow",
    "RunComparison",
    "compare",
    "join",
    "load",
    "render",
    "report",
    "to_csv",
    "to_html",
    "to_json",
    "to_latex",
    "to_markdown",
    "to_png",
    "to_svg",
    "to_text",
    "write",
    "write_figures",
]
Form = Literal["text", "json", "html", "md", "csv", "tex"]
FORMATS: dict[str, Callable[[RunComparison], str | bytes]] = {
    ".html": to_html,
    ".json": to_json,
    ".md": to_markdown,
    ".csv": to_csv,
    ".tex": lambda comparison: to_latex(main_tables(comparison)),
    ".png": to_png,
    ".svg": to_svg,
    ".txt": lambda comparison: to_text(comparison, width=100, details=True) + "\n",
}


#: The forms that a paper's table can be written in, by suffix.
_LAID_OUT = {".md": "md", ".csv": "csv", ".tex": "tex", ".txt": "text"}


def report(
    paths: Iterable[str | Path],
    *,
    baseline: str | None = None,
    margin: float = MARGIN,
    outputs: Iterable[str | Path] = (),
) -> RunComparison:
    """Compare the runs in some folders and write the comparison down.

    Searches and trainings that lie beside the runs are part of it.

    Args:
        paths: Run folders, or folders that hold run folders at any depth.
        baseline: The run to compare with; by default the one called ``system2``, else the one
            with the longest answers.
        margin: The loss of accuracy that counts as none, as a fraction: 0.02 is two points.
        outputs: Files to write; each one's suffix says what it is.

    Raises:
        RunError: Where no run is found, a run is damaged, or an argument cannot be used.
    """
    targets = [_target(output) for output in outputs]
    places = list(paths)
    comparison = compare(load(places), baseline=baseline, margin=margin)
    comparison = replace(comparison, histories=find_histories(places))
    for target in targets:
        write(comparison, target)
    return comparison


def check_outputs(outputs: Iterable[str | Path], layout: str | None = None) -> None:
    """Refuse what cannot be written before anything is read.

    Args:
        outputs: Files to write.
        layout: A paper's table instead of the report's own.

    Raises:
        RunError: For an unknown suffix or layout, or a layout in a form that has none.
    """
    suffixes = [_target(output).suffix.lower() for output in outputs]
    if layout is None:
        return
    if layout not in LAYOUTS:
        raise RunError(f"There is no layout '{layout}'. {did_you_mean(layout, LAYOUTS)}")
    for suffix in suffixes:
        if suffix not in _LAID_OUT:
            raise _no_layout(layout, suffix)


def render(comparison: RunComparison, form: Form, *, layout: str | None = None) -> str:
    """The comparison in one of the forms that are text.

    Args:
        comparison: What to show.
        form: How.
        layout: A paper's table instead of the report's own, by its name in `LAYOUTS`.

    Raises:
        RunError: For an unknown layout, or one in a form that has none.
    """
    if layout is not None:
        return _laid_out(comparison, form, layout)
    forms: dict[str, Callable[[RunComparison], str]] = {
        "text": to_text,
        "json": to_json,
        "html": to_html,
        "md": to_markdown,
        "csv": to_csv,
        "tex": lambda c: to_latex(main_tables(c)),
    }
    return forms[form](comparison)


def write(
    comparison: RunComparison,
    path: str | Path,
    *,
    texts: float | None = None,
    layout: str | None = None,
) -> Path:
    """Write a comparison in the form that the file's suffix names, beside first, then renamed.

    Args:
        comparison: What to write.
        path: A .html, .json, .md, .csv, .tex, .png, .svg or .txt file; missing folders are made.
        texts: The most megabytes of packed answers in a page; by default its own.
        layout: A paper's table instead of the report's own.

    Raises:
        RunError: For another suffix, or where the file cannot be written.
    """
    target = _target(path)
    suffix = target.suffix.lower()
    if layout is not None:
        check_outputs([target], layout)
        _put(target, _laid_out(comparison, _LAID_OUT[suffix], layout))
    elif suffix == ".html" and texts is not None:
        _put(target, to_html(comparison, texts=texts))
    else:
        _put(target, FORMATS[suffix](comparison))
    return target


def write_figures(comparison: RunComparison, folder: str | Path) -> list[Path]:
    """Write every chart as a still picture, PNG and SVG, named by its task and what it shows.

    Raises:
        RunError: Where one cannot be written.
    """
    written = []
    for name, figure, chart in figures(comparison):
        for kind in ("png", "svg"):
            target = Path(folder) / f"{name}.{kind}"
            _put(target, picture(name, figure, chart, kind))
            written.append(target)
    return written


def _laid_out(comparison: RunComparison, form: str, layout: str) -> str:
    check_outputs((), layout)
    table = LAYOUTS[layout](comparison)
    match form:
        case "text":
            return set_lines([table])
        case "md":
            return tables_to_markdown([table])
        case "csv":
            return tables_to_csv([table])
        case "tex":
            return to_latex([table])
    raise _no_layout(layout, form)


def _no_layout(layout: str, form: str) -> RunError:
    return RunError(
        f"The layout {layout} is a table: write it as text, .md, .csv or .tex, not as {form}."
    )


def _put(target: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    if isinstance(content, str):
        content = content.encode("utf-8", errors="backslashreplace")
    try:
        make_folder(target.parent)
        write_file(target, content)
    except OSError as error:
        raise RunError(f"{target} cannot be written: {error.strerror}.") from error


def _target(path: str | Path) -> Path:
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise RunError(
            f"{target} has no suffix that says what to write. Known: {', '.join(FORMATS)}."
        )
    return target
