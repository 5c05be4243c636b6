"""Import: another tool's log becomes an ordinary run, graded again, every inference said."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError, TaskError, did_you_mean
from laconic.experiment import Experiment, Sampling
from laconic.importing.counting import count_tokens, open_tokenizer
from laconic.importing.plain import Record, read_plain
from laconic.progress import silent
from laconic.run import Generation, Run, RunWriter, read_run
from laconic.scoring import GRADER, Grader, score_all
from laconic.task import Task, load_task
from laconic.version import versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from laconic.progress import Progress
    from laconic.run import Sample

UNKNOWN: Final = "not recorded"
#: A text that ran to its budget counts a few tokens less when it is tokenized again.
SLACK: Final = 8
#: So many completions that end at the longest length were cut there.
PILE: Final = 3
#: A column that equals the number of words in this share of the completions counts words.
WORDS: Final = 0.9


def import_log(
    path: str | Path,
    task: str,
    output: str | Path,
    *,
    data: str | Path | None = None,
    mapped: Mapping[str, str] | None = None,
    tokenizer: str | Path | None = None,
    progress: Progress = silent,
) -> Run:
    """Make a run of a log: grade every completion, infer what the log does not say.

    Args:
        path: A JSONL file, gzipped or not, one completion a line.
        task: The task's name.
        output: The run folder to create.
        data: A folder that holds ``TASK.jsonl``, or such a file: lines of ``id``, ``problem``,
            ``answer``. By default the task of that name that the package knows.
        mapped: Columns by field: ``id``, ``sample``, ``response``, ``length``, ``cap``,
            ``finish``.
        tokenizer: Counts the tokens instead of a ``length`` column: a Hugging Face folder or a
            ``.tiktoken`` ranks file.
        progress: Told after each completion graded.

    Returns:
        The complete run.

    Raises:
        RunError: For a log, a map, a tokenizer or an output folder that cannot be used.
        TaskError: For problems that cannot be read.
    """
    source, folder = Path(path), Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists. Choose another output folder, or delete this one.")
    problems = _problems(task, data)
    records, columns = read_plain(source, mapped or {})
    records = _numbered(records, problems, source)
    lengths, thought = _lengths(records, columns, tokenizer, source)
    budget = _budget(records, lengths, columns)
    model = _model(records, source)
    asked = tuple(s for s in problems.samples if s.id in {record.id for record in records})
    counts = Counter(record.id for record in records)
    experiment = Experiment(
        model=model,
        model_digest=hashlib.sha256(f"log of {model}".encode()).hexdigest()[:16],
        tasks=(replace(problems, samples=asked).record(budget.cap),),
        sampling=Sampling(max_tokens=budget.cap, repeats=max(counts.values()), recorded=False),
        backend="import",
        dtype=UNKNOWN,
        template=UNKNOWN,
        grader=GRADER,
    )
    completions = list(
        zip(
            _samples(records, asked),
            _generations(records, lengths, thought, budget.cut),
            strict=True,
        )
    )
    provenance: dict[str, Any] = {
        "source": str(source),
        "columns": columns,
        "length": f"tokenizer {tokenizer}" if tokenizer else f"column {columns['length']}",
        "notes": [*budget.notes, *_uneven(counts)],
        "versions": versions("math-verify"),
    }
    with Grader() as grader:
        results = score_all(completions, grader, progress)
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    with RunWriter(beside, experiment, provenance) as writer:
        writer.append(results)
        writer.finish()
    if folder.is_dir():
        folder.rmdir()
    beside.rename(folder)
    return read_run(folder)


def _problems(task: str, data: str | Path | None) -> Task:
    """The problems and golds of the log, under the task's name."""
    if data is None:
        return load_task(task)
    place = Path(data)
    file = place / f"{task}.jsonl" if place.is_dir() else place
    if not file.is_file():
        there = [p.stem for p in place.glob("*.jsonl")] if place.is_dir() else []
        raise TaskError(f"{file} does not exist. {did_you_mean(task, there)}")
    found = load_task(str(file))
    return replace(found, name=task, samples=tuple(replace(s, task=task) for s in found.samples))


def _numbered(records: Sequence[Record], problems: Task, path: Path) -> list[Record]:
    """The records with a sample's number each; they must be of the problems, each once."""
    known = {sample.id for sample in problems.samples}
    seen: Counter[str] = Counter()
    taken: dict[tuple[str, int], int] = {}
    numbered = []
    for record in records:
        where = f"{path}, line {record.line}"
        if record.id not in known:
            raise RunError(
                f"{where}: '{record.id}' is no problem of {problems.source}, whose ids look like "
                f"'{problems.samples[0].id}'. Map another column (--map id=COLUMN) or give other "
                "--data."
            )
        number = seen[record.id] if record.sample is None else record.sample
        seen[record.id] += 1
        if (record.id, number) in taken:
            raise RunError(
                f"{where}: sample {number} of '{record.id}' stands in line "
                f"{taken[record.id, number]} already."
            )
        taken[record.id, number] = record.line
        numbered.append(replace(record, sample=number))
    return numbered


def _lengths(
    records: Sequence[Record], columns: Mapping[str, str], tokenizer: str | Path | None, path: Path
) -> tuple[list[int], list[int]]:
    """The tokens of each completion, and those of its thought."""
    closed = [record.response.rfind("</think>") for record in records]
    thoughts = [
        record.response[: end + len("</think>")] if end >= 0 else ""
        for record, end in zip(records, closed, strict=True)
    ]
    if tokenizer is not None:
        opened = open_tokenizer(Path(tokenizer))
        whole = count_tokens(opened, [record.response for record in records])
        return whole, count_tokens(opened, thoughts)
    if "length" not in columns:
        raise RunError(
            f"{path}: nothing says how many tokens a completion has. Name the column, --map "
            "length=COLUMN, or count them: --tokenizer FOLDER_OR_FILE."
        )
    lengths = []
    for record in records:
        if record.length is None or record.length < 0:
            raise RunError(f"{path}, line {record.line} has no {columns['length']}.")
        lengths.append(record.length)
    words = sum(len(r.response.split()) == n for r, n in zip(records, lengths, strict=True))
    if words >= WORDS * len(records):
        raise RunError(
            f"{path}: the column {columns['length']} counts words, not tokens: it is the number of "
            f"words in {words:,} of {len(records):,} completions. Map another column, or count the "
            "tokens: --tokenizer FOLDER_OR_FILE."
        )
    shares = [len(t) / max(len(r.response), 1) for t, r in zip(thoughts, records, strict=True)]
    return lengths, [round(n * share) for n, share in zip(lengths, shares, strict=True)]


@dataclass(frozen=True)
class _Budget:
    """The budget of a log, which completions it cut, and what of that was inferred."""

    cap: int
    cut: list[bool]
    notes: list[str]


def _budget(
    records: Sequence[Record], lengths: Sequence[int], columns: Mapping[str, str]
) -> _Budget:
    notes = []
    if "length" in columns:
        notes.append("thought tokens are estimated from the thought's share of the characters")
    caps = {record.cap for record in records if record.cap is not None}
    longest = max(lengths)
    ends = sum(length >= longest - SLACK for length in lengths)
    if len(caps) > 1:
        raise RunError(
            f"The log holds completions of different budgets ({', '.join(map(str, sorted(caps)))} "
            "tokens). Split it: runs of different budgets are not comparable."
        )
    if caps:
        cap, visible = caps.pop(), True
    else:
        cap, visible = longest, ends >= PILE
        said = (
            f"the budget is inferred: {ends:,} completions end at {longest:,} tokens"
            if visible
            else f"no budget is visible: the longest completion has {longest:,} tokens"
        )
        notes.append(said)
    inferred = [visible and length >= cap - SLACK for length in lengths]
    if any(record.cut is None for record in records):
        notes.append(f"truncation is inferred: completions within {SLACK} tokens of the budget")
    cut = [
        guess if record.cut is None else record.cut
        for record, guess in zip(records, inferred, strict=True)
    ]
    return _Budget(max(cap, 1), cut, notes)


def _model(records: Sequence[Record], path: Path) -> str:
    """The model that the log names, else the file."""
    names = {record.model for record in records}
    if len(names) > 1:
        raise RunError(
            f"{path} holds completions of several models ({', '.join(sorted(map(str, names)))}). "
            "Split it: a run is of one model."
        )
    return names.pop() or path.name.split(".")[0]


def _samples(records: Sequence[Record], asked: Sequence[Sample]) -> list[Sample]:
    by_id = {sample.id: sample for sample in asked}
    return [replace(by_id[record.id], repeat=record.sample or 0) for record in records]


def _generations(
    records: Sequence[Record], lengths: Sequence[int], thought: Sequence[int], cut: Sequence[bool]
) -> list[Generation]:
    return [
        Generation(
            text=record.response,
            length=length,
            thinking_length=min(thinking, length),
            thinks="</think>" in record.response,
            finish="length" if ended else "stop",
        )
        for record, length, thinking, ended in zip(records, lengths, thought, cut, strict=True)
    ]


def _uneven(counts: Mapping[str, int]) -> list[str]:
    fewest, most = min(counts.values()), max(counts.values())
    return [] if fewest == most else [f"problems have from {fewest} to {most} completions"]
