"""The command line in this process, in a folder, with a width and a cache of its own."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

from laconic.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def laconic(*arguments: object, folder: Path) -> str:
    """What a command writes to standard output.

    Args:
        arguments: The words of the command, without ``laconic``.
        folder: The current folder of the command.

    Raises:
        AssertionError: Where the command does not end with 0.
    """
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    own = {"COLUMNS": "200", "XDG_CACHE_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            chdir(folder),
            patch.dict(os.environ, own),
            patch.object(sys, "argv", ["laconic", *map(str, arguments)]),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        torch.set_num_threads(threads)
    assert not code, f"laconic {' '.join(map(str, arguments))}: {out.getvalue()}{err.getvalue()}"
    return out.getvalue()


def laconic_json(*arguments: object, folder: Path) -> Any:
    """What a command prints as JSON."""
    return json.loads(laconic(*arguments, folder=folder))
