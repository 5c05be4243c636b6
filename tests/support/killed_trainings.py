"""Trainings in fresh processes that die at a chosen moment: when a path is about to be written.

A server process imports what training needs, does nothing else, and forks every one of them: so
none inherits a thread of the tests, and the imports are paid for once.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from laconic.errors import LaconicError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

FRESH: Any = multiprocessing.get_context("forkserver")
FRESH.set_forkserver_preload(
    [
        "laconic.training.loop",
        "laconic.training.trainer",
        "trl.trainer.sft_trainer",
        "laconic.training.export",
        "laconic.backends.transformers",
        "transformers.models.qwen2.modeling_qwen2",
        "numba.typed",
    ]
)
DEADLINE = 300.0
#: A moment: a path below the run's folder, and the how manieth time that it is written.
Moment = tuple[str, int]


def die_at(folder: Path, moment: Moment) -> None:
    """Have this process and its children killed just before a path is made, written or replaced."""
    name, left = moment
    path = str(folder / name)

    def watch(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in {"open", "os.mkdir", "os.rename"}:
            return
        if str(args[1] if event == "os.rename" else args[0]) == path:
            left -= 1
            if not left:
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(watch)


def attempt(values: Mapping[str, Any], folder: Path, *, dies: Moment | None = None) -> None:
    """Train, going on from what is there.

    Args:
        values: The recipe.
        folder: The run.
        dies: The moment at which to be killed.
    """
    import torch

    from laconic.training.train import TrainRecipe, train

    torch.set_num_threads(1)
    if dies is not None:
        die_at(folder, dies)
    train(TrainRecipe.from_dict(values), folder, resume=True)


def fail_by_turns(told: Path) -> None:
    """Write down what this process is told of failures on the first process and on the other."""
    from laconic.errors import RecipeError, TrainError
    from laconic.training.distributed import find_processes

    processes = find_processes()

    def fail() -> None:
        raise TrainError("no room")

    def fail_on_second() -> None:
        if not processes.is_main:
            raise RecipeError("no recipe")

    heard = []
    for work in (
        lambda: processes.on_main_process(fail),
        lambda: processes.on_all(fail_on_second),
        lambda: processes.agree("their seed", processes.index),
    ):
        try:
            work()
        except LaconicError as error:
            heard.append(str(error).split(":")[0])
    (told / str(processes.index)).write_text(json.dumps(heard))


def run(work: Callable[..., None], *args: Any, ranks: int = 1, **more: Any) -> list[int]:
    """Do some work in fresh processes, connected where there are several.

    When one is killed, so are the others.

    Returns:
        Their exit codes; below 0 the signal that ended one.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        FRESH.Process(target=_member, args=(rank, ranks, port, work, args, more))
        for rank in range(ranks)
    ]
    for process in started:
        process.start()
    end = time.monotonic() + DEADLINE
    try:
        while any(process.exitcode is None for process in started):
            if any((process.exitcode or 0) < 0 for process in started):
                break
            assert time.monotonic() < end, "the processes did not end in time"
            time.sleep(0.005)
    finally:
        for process in started:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
    return [process.exitcode for process in started]


def _member(
    rank: int,
    ranks: int,
    port: int,
    work: Callable[..., None],
    args: tuple[Any, ...],
    more: Mapping[str, Any],
) -> None:
    """Be one of several processes, as a launcher would have it."""
    os.setsid()
    if ranks > 1:
        for name, value in (
            ("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", ranks),
            ("LOCAL_WORLD_SIZE", ranks), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port),
            ("ACCELERATE_USE_CPU", "true"),
        ):  # fmt: skip
            os.environ[name] = str(value)
    work(*args, **more)
