"""What is printed commands the terminal nothing, whoever wrote it."""

from __future__ import annotations

import io
import logging

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
