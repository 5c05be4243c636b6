"""The terminal: where the command line prints, and how it shows progress."""

from __future__ import annotations

import codecs
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console, RenderHook
from rich.markup import escape
from rich.segment import Segment

from laconic.errors import LaconicError

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import ConsoleOptions, ConsoleRenderable, RenderResult

    from laconic.runtime import Progress

#: Characters that move the cursor, colour, retitle or reorder what a terminal shows.
COMMANDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

#: Those of them that have no place in a word of a command.
CONTROLS: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

#: What stands for the letters of tables and intervals where a stream is ASCII.
STAND_INS: Final = {
    **dict.fromkeys("\N{EN DASH}\N{MINUS SIGN}\N{BOX DRAWINGS LIGHT HORIZONTAL}", "-"),
    "\N{HORIZONTAL ELLIPSIS}": "~",
    "\N{NO-BREAK SPACE}": " ",
    "\N{MIDDLE DOT}": ".",
    "\N{FULL BLOCK}": "#",
    "\N{BOX DRAWINGS LIGHT VERTICAL}": "|",
    "\N{REPLACEMENT CHARACTER}": "?",
    **dict.fromkeys("\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}", '"'),
}


def visible(text: str) -> str:
    """A text whose control characters, a server's or a file's, are spelt out as escapes."""
    return COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


@dataclass(frozen=True)
class _Visible:
    """Something printed whose text commands the terminal nothing; styles of our own do."""

    shown: ConsoleRenderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.shown, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


class _Hook(RenderHook):
    """What rich lets a program do to everything that a console prints."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Visible(shown) for shown in renderables]


class _Lines(logging.Formatter):
    """Log lines whose text commands the terminal nothing."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    console.push_render_hook(_Hook())
    return console


out = _console(stderr=False)
err = _console(stderr=True)


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """What a stream writes for letters that its encoding lacks: as wide, where there is such."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    spelt = (
        STAND_INS.get(letter) or letter.encode("ascii", "backslashreplace").decode("ascii")
        for letter in letters
    )
    return "".join(spelt), error.end


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse words of a command that no file of ours can hold or that would command the terminal.

    Raises:
        LaconicError: Naming the first.
    """
    for word in arguments:
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            what = "is not UTF-8 text"
        elif CONTROLS.search(word):
            what = "holds control characters"
        else:
            continue
        raise LaconicError(f"The argument {word!a} {what}. Rename the file, or write it anew.")


def _say_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a bug's traceback, whose message may quote what a stranger wrote."""
    lines = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(visible(lines))


def set_up() -> None:
    """Prepare the process's streams: log lines, bugs, and letters that a stream cannot write."""
    sys.excepthook = _say_bug
    codecs.register_error("laconic", _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="laconic")
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


def verdicts(*, use: bool) -> Path | None:
    """The file of the grader's verdicts in the user's cache folder; None where it is not used."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "laconic" / "verdicts.sqlite" if use else None


@contextmanager
def progress_bar(what: str) -> Iterator[Progress]:
    """A progress bar on stderr, shown on a terminal only."""
    import rich.progress as rich

    columns = (
        rich.TextColumn(escape(visible(what))),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.description}"),
    )
    with rich.Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)

        def update(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, description=escape(visible(note)))

        yield update


def say(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print facts as JSON, or their text."""
    if as_json:
        out.print_json(json.dumps(facts))
    else:
        out.print(text, markup=False, soft_wrap=True)
