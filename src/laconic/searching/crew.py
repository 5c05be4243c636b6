"""Which workers of a search are alive: each holds the lock of a file as long as it runs."""

from __future__ import annotations

import logging
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from optuna.trial import TrialState

from laconic.errors import RunError
from laconic.files.atomic import lock, make_folder
from laconic.runs.run import read_run
from laconic.searching.study import whole_trials, write_trials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import optuna
    from optuna.trial import FrozenTrial

    from laconic.searching.sampler import Guide

LOG = logging.getLogger(__name__)
#: How long a worker may take from a trial's beginning until it says its name there, in seconds.
SETTLE: Final = 5.0
#: Where the workers' files are, in the folder of the search.
CREW: Final = ".workers"
#: What a trial's record in Optuna calls the worker that took it.
WORKER: Final = "worker"


@contextmanager
def at_work(folder: Path) -> Iterator[str]:
    """Be one of the workers of a search until the block ends or the process dies.

    Args:
        folder: The folder of the search.

    Raises:
        RunError: If its file system knows no locks.
    """
    make_folder(folder / CREW)
    path = folder / CREW / uuid.uuid4().hex
    try:
        with path.open("w") as stream:
            lock(stream, _held(path))
            yield path.name
    finally:
        path.unlink(missing_ok=True)


def is_alive(folder: Path, worker: Any) -> bool:
    """Whether the process of a worker still runs.

    Args:
        folder: The folder of the search.
        worker: Its name in the record of a trial; None if it died before it wrote its name.
    """
    path = folder / CREW / str(worker)
    try:
        with path.open("r+") as stream:
            lock(stream, _held(path))
    except FileNotFoundError:
        return False
    except _HeldError:
        return True
    path.unlink(missing_ok=True)
    return False


class _HeldError(RunError):
    """A file that a process holds."""


def _held(path: Path) -> _HeldError:
    return _HeldError(f"{path} is held by another worker.")


def running(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that some worker has taken and not ended."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def retry(study: optuna.Study, folder: Path, guide: Guide) -> int:
    """Put trials whose worker died back into the queue; returns how many."""

    def dead() -> list[FrozenTrial]:
        return [t for t in running(study) if not is_alive(folder, t.user_attrs.get(WORKER))]

    abandoned = dead()
    if any(WORKER not in trial.user_attrs for trial in abandoned):
        time.sleep(SETTLE)  # a running worker writes its name right after it took the trial
        numbers = {trial.number for trial in abandoned}
        abandoned = [trial for trial in dead() if trial.number in numbers]
    for trial in abandoned:
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(guide.place(trial))
    return len(abandoned)


def wait_for_others(study: optuna.Study, folder: Path) -> None:
    """Wait until no running worker has an unfinished trial."""
    warned = False
    while others := [t for t in running(study) if is_alive(folder, t.user_attrs.get(WORKER))]:
        if not warned:
            LOG.warning("Waiting for %d candidates that other workers measure.", len(others))
        warned = True
        time.sleep(1)


def repair_trials(study: optuna.Study, folder: Path, guide: Guide) -> None:
    """Queue trials again whose line or run a crash has damaged; undamaged answers are kept."""
    lines, damaged = whole_trials(folder)
    kept = [trial for trial in lines if _readable(folder / trial.run)]
    if damaged or len(kept) < len(lines):
        write_trials(folder, kept)
    names = {trial.name for trial in kept}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if (name := trial.user_attrs.get("name")) and name not in names and trial.params:
            LOG.warning("%s is measured again: its trial was damaged. Its answers are kept.", name)
            names.add(name)
            study.enqueue_trial(guide.place(trial), skip_if_exists=False)


def _readable(run: Path) -> bool:
    try:
        read_run(run)
    except RunError:
        return False
    return True
