"""How a run folder is written: results appended for good, run.json whole, damage put right."""

from __future__ import annotations

import json
import logging
import os
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from typing import IO, TYPE_CHECKING, Any, Self

from laconic.errors import DamagedHeadError, RunError
from laconic.files.append_log import encode_lines, salvage
from laconic.files.atomic import lock, make_folder, write_file, writing
from laconic.files.json import write_json
from laconic.runs.experiment import difference
from laconic.runs.run import (
    GZIPPED_RESULTS,
    RESULTS,
    SCHEMA,
    is_run,
    read_experiment,
    read_results,
    results_file,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from laconic.runs.experiment import Experiment
    from laconic.runs.run import Key, Result, Run, Sample

LOG = logging.getLogger(__name__)


class RunWriter:
    """An open run folder: appends results, remembers what is done, and says when it is complete.

    One process at a time may hold it. What was appended is on the disk. Lines that a crash has
    left half-written or damaged are dropped when the folder is opened again; all others are kept.
    A run.json that is lost or damaged is written anew, where the results answer what is asked.

    Args:
        folder: The run folder; created if missing.
        experiment: What is measured; must equal that of a run already there.
        provenance: What run.json says beside the experiment.
        compress: Whether a new folder keeps its results gzipped; an old one stays as it is.
        asked: Every sample of the experiment, to compare with where run.json is lost.

    Raises:
        RunError: Where the folder holds something else, another experiment, is in use, or cannot
            be written.
    """

    def __init__(
        self,
        folder: Path,
        experiment: Experiment,
        provenance: dict[str, Any],
        *,
        compress: bool = False,
        asked: Iterable[Sample] = (),
    ) -> None:
        self.folder = folder
        self.experiment = experiment
        self.provenance = dict(provenance)
        self.results: dict[Key, Result] = {}
        if folder.exists() and not _may_be_run(folder):
            raise RunError(f"{folder} exists and is no run folder. Choose another output folder.")
        with ExitStack() as stack:
            stack.enter_context(self._explained())
            make_folder(folder)
            self._path = results_file(folder) or folder / (GZIPPED_RESULTS if compress else RESULTS)
            self._stream = self._open()
            stack.callback(self._stream.close)
            if (folder / "run.json").exists() or self._path.stat().st_size:
                self._go_on(asked)
            self._write_head(complete=False)
            stack.pop_all()

    def append(self, results: Iterable[Result]) -> None:
        """Keep results for good: from here on they survive a kill, and a loss of power.

        Raises:
            RunError: Where they cannot be written; those before are kept.
        """
        new = list(results)
        data = memoryview(encode_lines("".join(map(_line, new)), self._path))
        with self._explained():
            before = os.fstat(self._stream.fileno()).st_size
            try:
                while data:
                    data = data[self._stream.write(data) :]
                os.fsync(self._stream.fileno())
            except OSError:
                with suppress(OSError):
                    self._stream.truncate(before)
                raise
        self.results.update((result.key, result) for result in new)

    def finish(self, **facts: Any) -> None:
        """Say in run.json that every result is there.

        Args:
            facts: What it is to say beside.

        Raises:
            RunError: Where it cannot be written.
        """
        self.provenance |= facts
        with self._explained():
            self._write_head(complete=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _open(self) -> IO[bytes]:
        """The results, open for appending and held against other processes."""
        stream = self._path.open("ab", buffering=0)
        try:
            lock(
                stream,
                RunError(
                    f"{self.folder} is in use by another evaluation. Wait for it, or choose "
                    "another output folder."
                ),
            )
        except BaseException:
            stream.close()
            raise
        return stream

    def _go_on(self, asked: Iterable[Sample]) -> None:
        """Take over what an earlier attempt has kept, and put right what is damaged."""
        found = salvage(self._path)
        kept, fault = read_results(self._path, found.lines)
        try:
            before, _, said = read_experiment(self.folder)
        except DamagedHeadError as error:
            self._take_over(kept, asked, str(error).split(" The results", 1)[0])
        else:
            if differs := difference(before, self.experiment):
                raise RunError(
                    f"{self.folder} holds a run with {differs}. Choose another output folder, or "
                    "delete this one."
                )
            if notes := said.get("notes"):
                self.provenance.setdefault("notes", notes)
        self.results = {result.key: result for result in kept}
        self._put_right(found.fault or fault, found.end)

    def _take_over(self, kept: tuple[Result, ...], asked: Iterable[Sample], reason: str) -> None:
        """Accept results whose run.json is lost, where they answer what is asked."""
        if not kept and self._path.stat().st_size:
            strange = "not one of the results beside it can be read"
        else:
            strange = _strange(kept, asked, self.experiment)
        if strange:
            raise RunError(
                f"{reason} And {strange}. Give the options that they were made with, choose "
                "another output folder, or delete this one."
            )
        if kept:
            note = (
                f"The run.json was lost, and was written anew from the command: the {len(kept):,} "
                "results that were there answer the same problems, but whether the same model and "
                "sampling made them could not be checked"
            )
            LOG.warning("%s: %s.", self.folder, note)
            self.provenance["notes"] = [note]

    def _put_right(self, fault: str, end: int) -> None:
        """Leave nothing in the file but the results that are whole."""
        if not fault:
            os.truncate(self._path, end)
            return
        LOG.warning(
            "%s The %s results that are whole are kept, the others are asked again.",
            fault,
            f"{len(self.results):,}",
        )
        lines = "".join(map(_line, self.results.values()))
        write_file(self._path, encode_lines(lines, self._path))
        new = self._open()
        self._stream.close()
        self._stream = new

    def _write_head(self, *, complete: bool) -> None:
        _write_head(self.folder, self.experiment, self.provenance, complete=complete)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn a disk that is full, or fails, into a sentence."""
        try:
            yield
        except OSError as error:
            kept = f"The {len(self.results):,} results there are kept. " if self.results else ""
            raise RunError(
                f"{self.folder} cannot be written: {error.strerror or error}. {kept}Mend this, "
                "then run the same command again."
            ) from error


def rewrite(run: Run) -> None:
    """Put a run's results and grader in place of those its folder holds, and nothing else.

    A reader sees the old results or the new. One who comes between the two files, or after a crash
    there, finds a grader of another name in run.json; the same call again sets that right.

    Raises:
        RunError: Where the run has no folder, or the folder is in use or cannot be written.
    """
    if run.folder is None:
        raise RunError(f"The run '{run.name}' is kept in no folder: nothing to write to.")
    path = results_file(run.folder) or run.folder / RESULTS
    busy = RunError(f"{run.folder} is in use by an evaluation. Wait for it to end.")
    between = replace(run.experiment, grader=f"{run.experiment.grader} (unfinished)")
    try:
        with path.open("a") as held:
            lock(held, busy)
            with writing(path) as beside:
                beside.write_bytes(encode_lines("".join(map(_line, run.results)), path))
                _write_head(run.folder, between, run.provenance, complete=run.complete)
            _write_head(run.folder, run.experiment, run.provenance, complete=run.complete)
    except OSError as error:
        raise RunError(
            f"{run.folder} cannot be written: {error.strerror}. Its results are whole: mend this, "
            "then run the same command again."
        ) from error


def _line(result: Result) -> str:
    fields = asdict(result)
    if not result.helper_length:  # as it was before there were helpers
        del fields["helper_length"]
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _write_head(
    folder: Path, experiment: Experiment, provenance: dict[str, Any], *, complete: bool
) -> None:
    head = {
        "schema": SCHEMA,
        "kind": "eval",
        "complete": complete,
        "experiment": asdict(experiment),
        **provenance,
    }
    write_json(folder / "run.json", head)


def _may_be_run(folder: Path) -> bool:
    """Whether a folder holds a run, results whose run.json is lost, or nothing.

    A run that is killed as it begins leaves empty files.
    """
    if not folder.is_dir():
        return False
    kept = [path for path in folder.iterdir() if path.suffix != ".partial"]
    return (
        is_run(folder)
        or results_file(folder) is not None
        or not any(path.stat().st_size for path in kept)
    )


def _strange(kept: Iterable[Result], asked: Iterable[Sample], experiment: Experiment) -> str:
    """Why results cannot be those of an experiment, as far as they tell; else empty."""
    wanted = {sample.key: sample for sample in asked}
    budgets = {task.name: task.max_tokens for task in experiment.tasks}
    one_call = experiment.strategy == "single"
    for result in kept:
        named = f"its result for problem '{result.id}' of {result.task}, repeat {result.repeat},"
        sample = wanted.get(result.key)
        if sample is None:
            return f"{named} is not asked for now"
        if (one_call and result.problem != sample.problem) or (result.gold, result.kind) != (
            sample.gold,
            sample.kind,
        ):
            return f"{named} answers another problem or gold than is asked now"
        budget = budgets.get(result.task)
        if budget and one_call and result.length > budget:
            return f"{named} has {result.length:,} tokens, and the budget is {budget:,} now"
    return ""
