"""Samples, generations and results, and the run folder that keeps them: run.json, results.jsonl."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path  # noqa: TC003  # pydantic reads the fields' types
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from laconic.errors import RunError
from laconic.experiment import Experiment, difference
from laconic.jsonfile import read_json, write_json
from laconic.packed import pack, read_lines, sound_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA = 1
RESULTS = "results.jsonl"
PACKED = "results.jsonl.gz"
Finish = Literal["stop", "length"]
Outcome = Literal[
    "correct",
    "wrong",
    "no_answer",
    "truncated_no_answer",
    "truncated_boxed",
    "grader_timeout",
    "grader_error",
]
#: Where an answer was found: in a box, in a box escaped for JSON, or near the end without a box.
Found = Literal["", "box", "escaped", "tail"]
#: What a gold is: an answer to compare with, or the exam that a program must pass.
Kind = Literal["answer", "program"]
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Sample:
    """One question put to a model.

    Attributes:
        task: The task's name.
        id: The problem's name, unique within the task.
        problem: The text of the user's turn.
        gold: The right answer, as the task writes it.
        level: The task's own difficulty, 1 for the easiest; None where it has none.
        repeat: Which of the completions of this problem it is, from 0.
        prefill: How the model's turn begins; it goes on from there.
        kind: What the gold is: an answer, or the exam of a program (`laconic.exam`).
        raw: Whether `problem` goes to the model as it stands, without a chat template.
        stop: Texts that end the completion, themselves left out.
        estimate: A user's turn that is asked first, for the ``{budget}`` of `problem`; or empty.
    """

    task: str
    id: str
    problem: str
    gold: str
    level: int | None = None
    repeat: int = 0
    prefill: str = ""
    kind: Kind = "answer"
    raw: bool = False
    stop: tuple[str, ...] = ()
    estimate: str = ""

    @property
    def key(self) -> Key:
        """What no two samples of a run share."""
        return (self.task, self.id, self.repeat)


@dataclass(frozen=True)
class Generation:
    """One completion, as the engine gave it.

    Attributes:
        text: The completion, special tokens of the turn's end left out.
        length: Completion tokens, thinking included, counted from the engine's token ids.
        thinking_length: The tokens of them up to and including ``</think>``; all of them where a
            thought was opened and never closed; 0 where there was none.
        thinks: Whether a ``</think>`` token closed a thought.
        finish: ``stop`` where the model ended its turn, ``length`` where the budget cut it.
    """

    text: str
    length: int
    thinking_length: int
    thinks: bool
    finish: Finish


@dataclass(frozen=True)
class Result:
    """One scored completion: a line of results.jsonl.

    Attributes:
        task: The task's name.
        id: The problem's name, unique within the task.
        repeat: Which of the problem's completions it is, from 0.
        level: The task's own difficulty; None where it has none.
        problem: The text of the user's turn.
        gold: The right answer.
        text: The completion.
        length: Completion tokens, thinking included.
        thinking_length: The tokens of them that are thought.
        thinks: Whether a ``</think>`` token closed a thought.
        truncated: Whether the budget cut the completion; it is scored as it stands.
        answer: What was extracted and compared with the gold; None where there was nothing.
        outcome: How scoring ended.
        correct: Whether the answer counts as right.
        reflections: How many reflection keywords the completion holds.
        prefill: What the completion goes on from; no part of it.
        found: Where the answer was looked for; empty where a cut completion has no box.
        reason: Why the grader gave up, or a program failed; else empty.
        earlier: How an earlier grading ended, where it said otherwise.
        kind: What the gold is: an answer, or the exam of a program.
    """

    task: str
    id: str
    repeat: int
    level: int | None
    problem: str
    gold: str
    text: str
    length: int
    thinking_length: int
    thinks: bool
    truncated: bool
    answer: str | None
    outcome: Outcome
    correct: bool
    reflections: int
    prefill: str = ""
    found: Found = ""
    reason: str = ""
    earlier: Outcome | None = None
    kind: Kind = "answer"

    @property
    def key(self) -> Key:
        """What no two results of a run share."""
        return (self.task, self.id, self.repeat)


@dataclass(frozen=True)
class Run:
    """A measured model: its experiment and its results.

    Attributes:
        name: How reports call it; the folder's name by default.
        experiment: What was measured and how.
        results: Every scored completion so far: in the order of the tasks and problems as
            `evaluate` returns them, in the order they came as `read_run` does.
        complete: Whether every completion asked for is there.
        folder: Where it is kept; None for a run held in memory only.
        provenance: Versions, device, command and times; no part of the experiment's identity.
    """

    name: str
    experiment: Experiment
    results: tuple[Result, ...]
    complete: bool
    folder: Path | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def renamed(self, name: str) -> Self:
        """The same run under another name."""
        return replace(self, name=name)


class RunWriter:
    """An open run folder: appends results, remembers what is done, and says when it is complete.

    One process at a time may hold it. A line that a crash left half-written is dropped when the
    folder is opened again; everything before it is kept.

    Args:
        folder: The run folder; created if missing.
        experiment: What is measured; must equal that of a run already there.
        provenance: What run.json says beside the experiment.
        compress: Whether a new folder keeps its results gzipped; an old one stays as it is.

    Raises:
        RunError: Where the folder holds something else, another experiment, or is in use.
    """

    def __init__(
        self,
        folder: Path,
        experiment: Experiment,
        provenance: dict[str, Any],
        *,
        compress: bool = False,
    ) -> None:
        self.folder = folder
        self.experiment = experiment
        self.provenance = provenance
        self.results: dict[Key, Result] = {}
        if folder.exists() and (not folder.is_dir() or not is_run(folder)) and not _empty(folder):
            raise RunError(f"{folder} exists and is no run folder. Choose another output folder.")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._path = results_file(folder) or folder / (PACKED if compress else RESULTS)
            self._stream: IO[bytes] = self._path.open("ab")
        except OSError as error:
            raise RunError(f"{folder} cannot be written: {error.strerror}.") from error
        try:
            self._claim()
        except BaseException:
            self._stream.close()
            raise

    def _claim(self) -> None:
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{self.folder} is in use by another evaluation. Wait for it, or choose another "
                "output folder."
            ) from None
        if (self.folder / "run.json").exists():
            before = read_run(self.folder)
            if differs := difference(before.experiment, self.experiment):
                raise RunError(
                    f"{self.folder} holds a run with {differs}. Choose another output folder, or "
                    "delete this one."
                )
            self.results = {result.key: result for result in before.results}
            self._cut_broken_tail()
        self._write_head(complete=False)

    def append(self, results: Iterable[Result]) -> None:
        """Keep results for good: they survive a kill from here on."""
        lines = []
        for result in results:
            self.results[result.key] = result
            lines.append(_line(result))
        self._stream.write(pack("".join(lines), self._path))
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def finish(self) -> None:
        """Say in run.json that every result is there."""
        self._write_head(complete=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _cut_broken_tail(self) -> None:
        end = sound_bytes(self._path)
        if end != self._path.stat().st_size:
            os.truncate(self._path, end)

    def _write_head(self, *, complete: bool) -> None:
        _write_head(self.folder, self.experiment, self.provenance, complete=complete)


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
    beside = path.with_name(f".partial-{path.name}")
    try:
        with path.open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with beside.open("wb") as stream:
                stream.write(pack("".join(map(_line, run.results)), path))
                stream.flush()
                os.fsync(stream.fileno())
            between = replace(run.experiment, grader=f"{run.experiment.grader} (unfinished)")
            _write_head(run.folder, between, run.provenance, complete=run.complete)
            beside.replace(path)
            _write_head(run.folder, run.experiment, run.provenance, complete=run.complete)
    except BlockingIOError:
        raise RunError(f"{run.folder} is in use by an evaluation. Wait for it to end.") from None
    except OSError as error:
        raise RunError(f"{run.folder} cannot be written: {error.strerror}.") from error


def _line(result: Result) -> str:
    return json.dumps(asdict(result), ensure_ascii=False) + "\n"


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


def is_run(folder: Path) -> bool:
    """Whether a folder holds an evaluation run (a merged checkpoint's run.json is none)."""
    try:
        return bool(read_head(folder).get("kind") == "eval")
    except RunError:
        return False


def read_head(folder: Path) -> dict[str, Any]:
    """What a folder's run.json says, whatever made the folder.

    Raises:
        RunError: Where it is missing or damaged.
    """
    if not (folder / "run.json").exists():
        raise RunError(f"{folder} has no run.json: it is no run folder.")
    return read_json(folder / "run.json", RunError)


def results_file(folder: Path) -> Path | None:
    """The file of a run folder's results, plain or gzipped; None where there is none yet.

    Raises:
        RunError: Where there are both.
    """
    there = [path for path in (folder / RESULTS, folder / PACKED) if path.exists()]
    if len(there) > 1:
        raise RunError(f"{folder} holds {RESULTS} and {PACKED}. Delete the one that is not it.")
    return there[0] if there else None


def read_run(folder: Path, name: str | None = None) -> Run:
    """Read a run folder, complete or not.

    Args:
        folder: The folder that holds run.json and results.jsonl.
        name: How reports shall call it; the folder's name by default.

    Raises:
        RunError: Where a file is missing or damaged, naming file and line.
    """
    from pydantic import TypeAdapter, ValidationError

    head = read_head(folder)
    try:
        schema, complete = head.pop("schema"), head.pop("complete")
        kind, written = head.pop("kind"), head.pop("experiment")
    except KeyError as error:
        raise RunError(f"{folder / 'run.json'} is damaged: it has no {error}.") from None
    if kind != "eval" or schema != SCHEMA:
        raise RunError(f"{folder / 'run.json'} is of kind {kind!r}, schema {schema}; not a run.")
    try:
        experiment = TypeAdapter(Experiment).validate_python(written)
    except ValidationError as error:
        raise RunError(f"{folder / 'run.json'} is damaged ({error.errors()[0]['msg']}).") from None
    return Run(
        name=name or folder.resolve().name,
        experiment=experiment,
        results=_read_results(results_file(folder) or folder / RESULTS),
        complete=bool(complete),
        folder=folder,
        provenance=head,
    )


def _read_results(path: Path) -> tuple[Result, ...]:
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(Result)
    try:
        lines = read_lines(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.") from None
    results: dict[Key, Result] = {}
    for number, line in enumerate(lines, start=1):
        try:
            result = adapter.validate_json(line)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise RunError(f"{path}, line {number} is damaged ({problem}).") from None
        results[result.key] = result
    return tuple(results.values())


def _empty(folder: Path) -> bool:
    """Whether nothing is kept in a folder: a run that is killed as it begins leaves empty files."""
    kept = folder.is_dir() and [path for path in folder.iterdir() if path.suffix != ".partial"]
    return kept is not False and not any(path.stat().st_size for path in kept)
