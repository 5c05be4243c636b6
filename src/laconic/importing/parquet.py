"""The rows of a parquet file that a stranger may have made, read by a process with little memory.

A damaged file can make the library crash, and a small one can unpack to anything: the reader is a
process of its own, which the caller outlives.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.importing.files import MOST_BYTES, MOST_LINE, optional, parse, too_much

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAGIC: Final = b"PAR1"
#: Bytes of address space that the reader may take; the library itself maps half a gigabyte.
MEMORY: Final = 2**32
#: Rows in memory at a time.
BATCH: Final = 16
FAILED: Final = 3


def parquet_rows(path: Path, columns: tuple[str, ...] = ()) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a parquet file as JSON holds them, numbered from 1.

    Args:
        path: The file.
        columns: What to read of it, dots between the parts of a nested name; what is not there is
            left out. By default everything.

    Raises:
        RunError: For a file that is damaged or unpacks to too much, or without pyarrow.
    """
    optional("pyarrow", path)
    code = "import sys; from laconic.importing.parquet import serve; serve(*sys.argv[1:])"
    search = os.pathsep.join(entry for entry in sys.path if entry)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(path), *columns],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert process.stdout is not None
    total = number = 0
    try:
        while line := process.stdout.readline(MOST_LINE + 1):
            total += len(line)
            if len(line) > MOST_LINE or total > MOST_BYTES:
                raise too_much(path, f"row {number + 1}")
            value = parse(line, f"{path}, row {number + 1}")
            if "failed" in value:
                raise RunError(f"{path} cannot be read: {value['failed']}.")
            number += 1
            yield number, value["row"]
        if process.wait():
            raise RunError(
                f"{path} is damaged, or unpacks to more than {MEMORY / 2**30:.0f} GiB: its reader "
                "did not survive it."
            )
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def serve(path: str, *columns: str) -> None:
    """Write a file's rows to standard output, a JSON object a line: the reader's whole life."""
    import resource

    import pyarrow
    from pyarrow.parquet import ParquetFile

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
    pyarrow.set_cpu_count(1)
    try:
        with ParquetFile(path) as file:
            there = [leaf.path for leaf in map(file.schema.column, range(len(file.schema)))]
            wanted = [n for n in there if any(n == c or n.startswith(f"{c}.") for c in columns)]
            wanted = wanted if columns else there
            for batch in file.iter_batches(BATCH, columns=wanted, use_threads=False):
                for row in batch.to_pylist():
                    _tell({"row": row})
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        _tell({"failed": " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__})
        sys.exit(FAILED)


def _tell(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, default=str) + "\n")
