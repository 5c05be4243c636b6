"""The command line: verbs and flags become API calls; only this package prints."""

from __future__ import annotations

import errno
import sys

import typer
from rich.markup import escape

from laconic.cli import calibrate, evaluating, grade, importing, listing, merging, reporting, train
from laconic.cli import search as searching
from laconic.cli.data import data
from laconic.cli.inspect import EXAMPLES, inspect
from laconic.cli.lab import lab
from laconic.cli.terminal import check_arguments, err, set_up
from laconic.errors import LaconicError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    help="Make reasoning models brief: merge a slow thinker with its fast sibling, measure "
    "accuracy and length, and prove the result.",
)
app.command(epilog=EXAMPLES)(inspect)
merging.register(app)
evaluating.register(app)
app.command(epilog=reporting.EPILOG)(reporting.report)
searching.register(app)
app.add_typer(data, name="data")
train.register(app)
calibrate.register(app)
grade.register(app)
importing.register(app)
listing.register(app)
app.add_typer(lab, name="lab", subcommand_metavar="DIR | COMMAND [ARGS]...")


def main() -> None:
    """Run laconic's command line."""
    run(app)


def run(application: typer.Typer) -> None:
    """Run a command line: exit 0 done, 1 a bug, 2 the user can fix it, 130 interrupted."""
    set_up()
    try:
        check_arguments(sys.argv[1:])
        application()
    except LaconicError as error:
        err.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        where = f"{error.filename}: " if error.filename else ""
        err.print(
            f"[bold red]Error:[/] {escape(where)}{error.strerror}. What was finished is kept: make "
            "room, then run the same command again.",
            soft_wrap=True,
        )
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == 130:
            err.print("Interrupted. What was finished is kept: run the same command to go on.")
        raise
