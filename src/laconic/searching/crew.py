"""Who is at work on a search: each worker holds a file for as long as it lives."""

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
    """Be one of the workers of a search; the name is held until the block ends or the process dies.

    Args:
        folder: The folder of the search.

    Raises:
        RunError: Where its file system knows no locks.
    """
    make_folder(folder / CREW)
    path = folder / CREW / uuid.uuid4().hex
    try:
        with path.open("w") as stream:
            lock(stream, _held(path))
            yield path.name
    finally:
        path.unlink(missing_ok=True)


def lives(folder: Path, worker: Any) -> bool:
    """Whether a worker is still at work.

    Args:
        folder: The folder of the search.
        worker: What a trial's record calls it; None where the worker died before it said.
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
    """Put trials whose worker died before their end back into the queue; returns how many."""

    def dead() -> list[FrozenTrial]:
        return [t for t in running(study) if not lives(folder, t.user_attrs.get(WORKER))]

    found = dead()
    if any(WORKER not in trial.user_attrs for trial in found):
        time.sleep(SETTLE)  # a living worker says its name right after it took the trial
        still = {trial.number for trial in found}
        found = [trial for trial in dead() if trial.number in still]
    for trial in found:
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params:
            study.enqueue_trial(guide.place(trial))
    return len(found)


def wait_for_others(study: optuna.Study, folder: Path) -> None:
    """Wait until no living worker has a trial that it has not ended."""
    told = False
    while others := [t for t in running(study) if lives(folder, t.user_attrs.get(WORKER))]:
        if not told:
            LOG.warning("Waiting for %d candidates that other workers measure.", len(others))
        told = True
        time.sleep(1)


def mend(study: optuna.Study, folder: Path, guide: Guide) -> None:
    """Let trials be tried again whose line or run a crash has damaged; whole answers are kept."""
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
