"""Samples, generations, results, and how a run folder is read: run.json and results.jsonl."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path  # noqa: TC003  # pydantic reads the fields' types
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from laconic.errors import DamagedHeadError, RunError
from laconic.files.append_log import REPAIR, read_lines
from laconic.files.json import read_json
from laconic.runs.experiment import Experiment  # pydantic reads the fields' types

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA = 1
RESULTS = "results.jsonl"
GZIPPED_RESULTS = "results.jsonl.gz"
#: What to do where run.json is lost and the results are not.
AGAIN: Final = (
    "The results beside it are kept: run the command that made them again, with the same options "
    "and output folder. It writes run.json anew and asks only for what is missing. (An imported "
    "log: delete the folder, and import it again.)"
)
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
        kind: What the gold is: an answer, or the exam of a program (`laconic.tasks.contract.exam`).
        raw: Whether `problem` goes to the model as it stands, without a chat template.
        stop: Texts that end the completion, themselves left out.
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
        ids: The token ids of the completion, where the engine returns them; else empty.
        logprobs: The log-probability of each of them, where that was asked for; else empty.
        helper_length: Tokens that other models than the measured one generated for this answer; no
            part of `length`.
    """

    text: str
    length: int
    thinking_length: int
    thinks: bool
    finish: Finish
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    helper_length: int = 0


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
        helper_length: Tokens that helpers of the strategy generated for it, beside `length`.
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
    helper_length: int = 0

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


def is_run(folder: Path) -> bool:
    """Whether a folder holds an evaluation run (a merged checkpoint's run.json is none)."""
    try:
        return bool(read_head(folder).get("kind") == "eval")
    except RunError:
        return False


def read_head(folder: Path) -> dict[str, Any]:
    """What a folder's run.json says, whatever made the folder.

    Raises:
        DamagedHeadError: Where it is missing or damaged, beside results.
        RunError: Where it is so without.
    """
    path = folder / "run.json"
    if path.exists():
        try:
            return read_json(path, RunError)
        except RunError as error:
            reason = str(error)
    else:
        reason = f"{folder} has no run.json."
    if folder.is_dir() and results_file(folder) is not None:
        raise DamagedHeadError(f"{reason} {AGAIN}")
    raise RunError(reason if path.exists() else f"{folder} has no run.json: it is no run folder.")


def results_file(folder: Path) -> Path | None:
    """The file of a run folder's results, plain or gzipped; None where there is none yet.

    Raises:
        RunError: Where there are both.
    """
    there = [path for path in (folder / RESULTS, folder / GZIPPED_RESULTS) if path.exists()]
    if len(there) > 1:
        raise RunError(f"{folder} holds {RESULTS} and {GZIPPED_RESULTS}. Delete the wrong one.")
    return there[0] if there else None


def read_run(folder: Path, name: str | None = None) -> Run:
    """Read a run folder, complete or not.

    Args:
        folder: The folder that holds run.json and results.jsonl.
        name: How reports shall call it; the folder's name by default.

    Raises:
        RunError: Where a file is missing or damaged, naming file and line, and what to do.
    """
    experiment, complete, provenance = read_experiment(folder)
    path = results_file(folder)
    if path is None:
        raise RunError(f"{folder / RESULTS} is missing.")
    results, fault = read_results(path, read_lines(path))
    if fault:
        raise RunError(f"{fault} {REPAIR}")
    return Run(
        name=name or folder.resolve().name,
        experiment=experiment,
        results=results,
        complete=complete,
        folder=folder,
        provenance=provenance,
    )


def read_experiment(folder: Path) -> tuple[Experiment, bool, dict[str, Any]]:
    """What run.json says: the experiment, whether it is complete, and everything else.

    Raises:
        DamagedHeadError: Where it is missing or damaged, beside results.
        RunError: Where it is so without, or the folder is no run.
    """
    from pydantic import TypeAdapter, ValidationError

    path = folder / "run.json"
    head = read_head(folder)
    kind, schema = head.pop("kind", "eval"), head.pop("schema", SCHEMA)
    if kind != "eval" or schema != SCHEMA:
        raise RunError(f"{path} is of kind {kind!r}, schema {schema}; not a run.")
    try:
        complete, written = head.pop("complete"), head.pop("experiment")
        experiment = TypeAdapter(Experiment).validate_python(written)
    except KeyError as error:
        raise DamagedHeadError(f"{path} is damaged: it has no {error}. {AGAIN}") from None
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise DamagedHeadError(f"{path} is damaged ({reason}). {AGAIN}") from None
    return experiment, bool(complete), head


def read_results(path: Path, lines: Iterable[bytes]) -> tuple[tuple[Result, ...], str]:
    """The results that lines hold, each as it is there last, and the first damaged line, if any.

    Args:
        path: Where they are from.
        lines: Those that are damaged are left out.
    """
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(Result)
    results: dict[Key, Result] = {}
    fault = ""
    for number, line in enumerate(lines, start=1):
        try:
            result = adapter.validate_json(line)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            fault = fault or f"{path}, line {number} is damaged ({problem})."
        else:
            results[result.key] = result
    return tuple(results.values()), fault
