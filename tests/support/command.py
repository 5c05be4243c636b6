"""The command line as a test calls it: in this process, or in one of its own."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING
from unittest.mock import patch

from laconic.cli import main

if TYPE_CHECKING:
    from pathlib import Path

Done = subprocess.CompletedProcess[str]


def laconic(*arguments: object, cwd: Path, code: int = 0, **environment: str) -> Done:
    """Run a command in this process; an exception that reaches the end is a failure.

    Args:
        arguments: The words of the command, without ``laconic``.
        cwd: The current folder of the command.
        code: The exit code that it must end with.
        environment: Further environment variables.
    """
    words = ["laconic", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    status: object = 0
    with (
        chdir(cwd),
        patch.object(sys, "argv", words),
        patch.object(sys, "excepthook", sys.excepthook),
        patch.object(logging.root, "handlers", []),
        patch.dict(os.environ, environment),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
    return _checked(Done(words, int(str(status)), out.getvalue(), err.getvalue()), code)


def laconic_process(*arguments: object, cwd: Path, code: int = 0) -> Done:
    """Run a command in a process of its own; a traceback is a failure whatever the exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "laconic", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return _checked(done, code)


def _checked(done: Done, code: int) -> Done:
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done
