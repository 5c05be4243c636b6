"""Reports: run folders in, the tables and pictures that people decide from out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from laconic.errors import RunError
from laconic.report.data import MARGIN, Comparison, Row, compare
from laconic.report.page import to_html
from laconic.report.picture import to_png, to_svg
from laconic.report.runs import join, load
from laconic.report.text import to_json, to_markdown, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "FORMATS",
    "Comparison",
    "Row",
    "compare",
    "join",
    "load",
    "render",
    "report",
    "to_html",
    "to_json",
    "to_markdown",
    "to_png",
    "to_svg",
    "to_text",
    "write",
]
FORMATS: dict[str, Callable[[Comparison], str | bytes]] = {
    ".html": to_html,
    ".json": to_json,
    ".md": to_markdown,
    ".png": to_png,
    ".svg": to_svg,
    ".txt": lambda comparison: to_text(comparison, width=100, details=True) + "\n",
}


def report(
    paths: Iterable[str | Path],
    *,
    baseline: str | None = None,
    margin: float = MARGIN,
    outputs: Iterable[str | Path] = (),
) -> Comparison:
    """Compare the runs in some folders and write the comparison down.

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
    comparison = compare(load(paths), baseline=baseline, margin=margin)
    for target in targets:
        write(comparison, target)
    return comparison


def render(comparison: Comparison, form: Literal["text", "json", "html", "md"]) -> str:
    """The comparison in one of the forms that are text."""
    forms = {"text": to_text, "json": to_json, "html": to_html, "md": to_markdown}
    return forms[form](comparison)


def write(comparison: Comparison, path: str | Path) -> Path:
    """Write a comparison in the form that the file's suffix names, beside first, then renamed.

    Args:
        comparison: What to write.
        path: A .html, .json, .md, .png, .svg or .txt file; missing folders are made.

    Raises:
        RunError: For another suffix, or where the file cannot be written.
    """
    target = _target(path)
    content = FORMATS[target.suffix.lower()](comparison)
    beside = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            content = content.encode("utf-8", errors="backslashreplace")
        beside.write_bytes(content)
        beside.replace(target)
    except OSError as error:
        raise RunError(f"{target} cannot be written: {error.strerror}.") from error
    return target


def _target(path: str | Path) -> Path:
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise RunError(
            f"{target} has no suffix that says what to write. Known: {', '.join(FORMATS)}."
        )
    return target
