"""The command line: verbs and flags become API calls; only this package prints.

- A module for each verb: `inspect`, `merge`, `evaluate` (eval), `report`, `search`, `data` with
  `data_pack`, `train`, `calibrate`, `grade`, `import_log` (import), `list_show` (list and show),
  `lab`.
- `list_presets`: what ``list``, ``show`` and ``merge --preset`` say of presets.
- `options`: options that several verbs have. `terminal`: output and progress.
"""

from __future__ import annotations

import errno
import sys

import typer
from rich.markup import escape

from laconic.cli import (
    calibrate,
    data,
    evaluate,
    grade,
    import_log,
    inspect,
    lab,
    list_show,
    merge,
    report,
    search,
    train,
)
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
#: Each module adds its verbs, in the order of ``laconic --help``.
VERBS = (
    *(inspect, merge, evaluate, report, search, data),
    *(train, calibrate, grade, import_log, list_show, lab),
)
for verb in VERBS:
    verb.register(app)


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
