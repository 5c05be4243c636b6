"""The terminal: where the command line prints, and how it shows progress."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from laconic.progress import Progress

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def verdicts(*, use: bool) -> Path | None:
    """The file of the grader's verdicts in the user's cache folder; None where it is not used."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "laconic" / "verdicts.sqlite" if use else None


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A progress bar on stderr, shown on a terminal only."""
    import rich.progress as rich

    columns = (
        rich.TextColumn(what),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.description}"),
    )
    with rich.Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, description=escape(note))

        yield update


def say(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print facts as JSON, or their text."""
    if as_json:
        out.print_json(json.dumps(facts))
    else:
        out.print(text, markup=False, soft_wrap=True)
