"""What is printed commands the terminal nothing, whoever wrote it."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys

import pytest
from rich.console import Console
from rich.table import Table

from laconic.cli import terminal

ATTACKS = {
    "colour": "\x1b[31mred",
    "title": "\x1b]0;pwned\x07",
    "clear": "\x1b[2J",
    "C1": "\x9b31m",
    "return": "right\rwrong",
    "backspace": "wrong\b\b\b\b\bright",
    "order": "\u202egnp.exe",
}


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_texts_tables_and_log_lines_show_what_they_hold(text: str) -> None:
    file = io.StringIO()
    console = Console(file=file, width=200)
    console.push_render_hook(terminal._Hook())
    table = Table()
    table.add_column(text)
    table.add_row(text)
    console.print(text, markup=False)
    console.print(table)
    record = logging.LogRecord("laconic", logging.WARNING, "", 0, "%s", (text,), None)
    printed = file.getvalue() + terminal._Lines("%(message)s").format(record)
    assert not terminal.COMMANDS.search(printed.replace("\n", ""))
    assert printed.count(terminal.visible(text.replace("\x07", "").replace("\b", ""))[-4:]) >= 3


def test_styles_of_our_own_still_colour() -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="standard", highlight=False)
    console.push_render_hook(terminal._Hook())
    console.print("[bold red]Error:[/] \x1b[2J")
    assert file.getvalue().startswith("\x1b[1;31mError:")
    assert "\\x1b[2J" in file.getvalue()


def test_both_consoles_are_guarded() -> None:
    for console in (terminal.out, terminal.err):
        with console.capture() as caught:
            console.print("a\x1b[2Jb", markup=False)
        assert caught.get() == "a\\x1b[2Jb\n"


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_progress_and_bugs_show_what_they_hold(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = io.StringIO()
    console = Console(file=file, width=200, force_terminal=True, color_system=None)
    monkeypatch.setattr(terminal, "err", console)
    with terminal.progress_bar(f"what {text}") as progress:
        progress(1, 2, f"note {text}")
    terminal._say_bug(ValueError, ValueError(text), None)
    shown = file.getvalue() + capsys.readouterr().err
    assert shown.count(terminal.visible(text)[-4:]) >= 3
    assert text not in shown


def test_a_stream_that_is_ascii_gets_tables_of_the_same_width() -> None:
    terminal.set_up()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="laconic")
    stream.write("\N{MINUS SIGN}1\N{EN DASH}2 \N{BOX DRAWINGS LIGHT HORIZONTAL}")
    stream.write("\N{GREEK CAPITAL LETTER DELTA} \udcff")
    stream.flush()
    assert stream.buffer.getvalue() == rb"-1-2 -\u0394 \udcff"


@pytest.mark.parametrize("arguments", [["--help"], ["nosuchverb"], ["data"], ["merge", "--no"]])
def test_help_and_errors_fit_an_ascii_stream(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "laconic", *arguments],
        capture_output=True,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
    )
    assert (done.stdout + done.stderr).isascii()
    assert b"Traceback" not in done.stderr
