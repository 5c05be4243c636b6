"""Import: another tool's log becomes an ordinary run, graded again, every inference said."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.experiment import Experiment, Sampling
from laconic.importing.counting import count_tokens, open_tokenizer
from laconic.importing.formats import read_log
from laconic.importing.problems import match_problems
from laconic.importing.record import CLOSE, Log
from laconic.progress import silent
from laconic.run import Generation, Run, RunWriter, read_run
from laconic.scoring import GRADER, Grader, score_all
from laconic.version import versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.importing.record import Record
    from laconic.progress import Progress
    from laconic.run import Sample

UNKNOWN: Final = "not recorded"
#: A text that ran to its budget counts a few tokens less when it is tokenized again.
SLACK: Final = 8
#: So many completions that end at the longest length were cut there.
PILE: Final = 3
#: A column that equals the number of words in this share of the completions counts words.
WORDS: Final = 0.9
ESTIMATED: Final = "thought tokens are estimated from the thought's share of the characters"


def import_log(
    path: str | Path | Sequence[str | Path],
    task: str,
    output: str | Path,
    *,
    data: str | Path | None = None,
    mapped: Mapping[str, str] | None = None,
    tokenizer: str | Path | None = None,
    compress: bool = False,
    grades: Path | None = None,
    progress: Progress = silent,
) -> Run:
    """Make a run of a log: grade every completion, infer what the log does not say.

    Args:
        path: A log of SkyThought, lm-eval, lighteval, inspect, evalscope or Qwen2.5-Math, or any
            JSONL file of one completion a line, gzipped or not; several are parts of one.
        task: The task's name.
        output: The run folder to create.
        data: A folder that holds ``TASK.jsonl``, or such a file: lines of ``id``, ``problem``,
            ``answer``. By default the log's own problems and golds, where it holds them, else the
            task of that name that the package knows.
        mapped: Columns of a plain log by field: ``id``, ``sample``, ``response``, ``length``,
            ``cap``, ``finish``.
        tokenizer: Counts the tokens instead of the log: a Hugging Face folder or a ``.tiktoken``
            ranks file.
        compress: Keep the results gzipped.
        grades: A file of verdicts to use and to add to, as `Grader` describes it.
        progress: Told after each completion graded.

    Returns:
        The complete run.

    Raises:
        RunError: For a log, a map, a tokenizer or an output folder that cannot be used.
        TaskError: For problems that cannot be read.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else list(map(Path, path))
    source, folder = ", ".join(map(str, paths)), Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists. Choose another output folder, or delete this one.")
    log = _joined([read_log(part, mapped or {}) for part in paths], paths)
    problems, records = match_problems(log.records, task, data, source)
    lengths, thought = _lengths(records, log, tokenizer, source)
    budget = _budget(records, lengths, 0 if log.exact and tokenizer is None else SLACK)
    model = _model(records, paths)
    asked = tuple(s for s in problems.samples if s.id in {record.id for record in records})
    counts = Counter(record.id or "" for record in records)
    experiment = Experiment(
        model=model,
        model_digest=hashlib.sha256(f"log of {model}".encode()).hexdigest()[:16],
        tasks=(replace(problems, samples=asked).record(budget.cap),),
        sampling=_sampling(log.sampling, budget.cap, max(counts.values())),
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
    estimated = tokenizer is None and any(record.thinking is None for record in records)
    provenance: dict[str, Any] = {
        "source": source,
        "source_sha256": [_digest(part) for part in paths],
        "format": log.format,
        "length": f"tokenizer {tokenizer}" if tokenizer else log.length,
        "notes": [
            *log.notes,
            *([ESTIMATED] if estimated else []),
            *budget.notes,
            *_uneven(counts),
            *_repeated(records),
        ],
        "versions": versions("math-verify"),
    }
    if log.columns:
        provenance["columns"] = dict(log.columns)
    if log.sampling:
        provenance["sampling"] = dict(log.sampling)
    with Grader(grades=grades) as grader:
        results = score_all(completions, grader, progress)
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    with RunWriter(beside, experiment, provenance, compress=compress) as writer:
        writer.append(results)
        writer.finish()
    if folder.is_dir():
        folder.rmdir()
    beside.rename(folder)
    return read_run(folder)


def _joined(logs: Sequence[Log], paths: Sequence[Path]) -> Log:
    """One log of several parts."""
    formats = sorted({log.format for log in logs})
    if len(formats) > 1:
        raise RunError(f"The logs are of several tools ({', '.join(formats)}). Import each alone.")
    if len({tuple(sorted(log.sampling.items())) for log in logs}) > 1:
        raise RunError(
            "The logs were drawn differently (temperature, top-p or seed). Import each alone: a "
            "run is of one sampling."
        )
    if len(logs) == 1:
        return logs[0]
    return replace(
        logs[0],
        records=[
            replace(record, id=record.id if record.problem is None else f"{path.stem}/{record.id}")
            if record.id is not None
            else record
            for log, path in zip(logs, paths, strict=True)
            for record in (replace(r, where=f"{path.name}, {r.where}") for r in log.records)
        ],
        notes=list(dict.fromkeys(note for log in logs for note in log.notes)),
    )


def _sampling(said: Mapping[str, float], cap: int, repeats: int) -> Sampling:
    """How the log says completions were drawn; not recorded where it leaves half of it open."""
    temperature, top_p = said.get("temperature"), said.get("top_p")
    known = temperature is not None and top_p is not None and 0 < top_p <= 1 and temperature >= 0
    if not known or (temperature == 0 and repeats > 1):
        return Sampling(max_tokens=cap, repeats=repeats, recorded=False)
    return Sampling(cap, temperature or 0.0, top_p or 1.0, repeats, int(said.get("seed", 0)))


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _lengths(
    records: Sequence[Record], log: Log, tokenizer: str | Path | None, source: str
) -> tuple[list[int], list[int]]:
    """The tokens of each completion, and those of its thought."""
    closed = [record.response.rfind(CLOSE) for record in records]
    thoughts = [
        record.response[: end + len(CLOSE)] if end >= 0 else ""
        for record, end in zip(records, closed, strict=True)
    ]
    if tokenizer is not None:
        opened = open_tokenizer(Path(tokenizer))
        whole = count_tokens(opened, [record.response for record in records])
        return whole, count_tokens(opened, thoughts)
    lengths = [record.length for record in records if record.length is not None]
    if not lengths:
        named = "Name the column, --map length=COLUMN, or count" if log.columns else "Count"
        raise RunError(
            f"{source}: nothing says how many tokens a completion has. {named} them: "
            "--tokenizer FOLDER_OR_FILE."
        )
    for record in records:
        if record.length is None:
            raise RunError(
                f"{source}, {record.where} has no length ({log.length}). Count the tokens: "
                "--tokenizer FOLDER_OR_FILE."
            )
    words = sum(len(r.response.split()) == n for r, n in zip(records, lengths, strict=True))
    if words >= WORDS * len(records):
        raise RunError(
            f"{source}: {log.length} counts words, not tokens: it is the number of words in "
            f"{words:,} of {len(records):,} completions. Map another column, or count the tokens: "
            "--tokenizer FOLDER_OR_FILE."
        )
    shares = [len(t) / max(len(r.response), 1) for t, r in zip(thoughts, records, strict=True)]
    guesses = [round(n * share) for n, share in zip(lengths, shares, strict=True)]
    stated = [record.thinking for record in records]
    return lengths, [g if s is None else s for s, g in zip(stated, guesses, strict=True)]


@dataclass(frozen=True)
class _Budget:
    """The budget of a log, which completions it cut, and what of that was inferred."""

    cap: int
    cut: list[bool]
    notes: list[str]


def _budget(records: Sequence[Record], lengths: Sequence[int], slack: int) -> _Budget:
    """The budget of a log: what it says, else what its lengths show, to within `slack` tokens."""
    notes = []
    caps = {record.cap for record in records if record.cap is not None}
    longest = max(lengths)
    ends = sum(length >= longest - slack for length in lengths)
    if len(caps) > 1:
        raise RunError(
            f"The log holds completions of different budgets ({', '.join(map(str, sorted(caps)))} "
            "tokens). Split it: runs of different budgets are not comparable."
        )
    stated = caps.pop() if caps else None
    if stated is not None and longest > stated + slack:
        notes.append(
            f"the stated budget of {stated:,} tokens is not believed: a completion has {longest:,}"
        )
        stated = None
    if stated is not None:
        cap, visible = stated, True
    else:
        cap, visible = longest, ends >= PILE
        said = (
            f"the budget is inferred: {ends:,} completions end at {longest:,} tokens"
            if visible
            else f"no budget is visible: the longest completion has {longest:,} tokens"
        )
        notes.append(said)
    inferred = [visible and length >= cap - slack for length in lengths]
    if any(record.cut is None for record in records):
        notes.append(f"truncation is inferred: completions within {slack} tokens of the budget")
    cut = [
        guess if record.cut is None else record.cut
        for record, guess in zip(records, inferred, strict=True)
    ]
    return _Budget(max(cap, 1), cut, notes)


def _model(records: Sequence[Record], paths: Sequence[Path]) -> str:
    """The model that the log names, else the file."""
    names = {record.model for record in records}
    if len(names) > 1:
        raise RunError(
            f"{', '.join(map(str, paths))}: there are completions of several models "
            f"({', '.join(sorted(map(str, names)))}). Split the log: a run is of one model."
        )
    return names.pop() or paths[0].name.split(".")[0]


def _samples(records: Sequence[Record], asked: Sequence[Sample]) -> list[Sample]:
    by_id = {sample.id: sample for sample in asked}
    return [replace(by_id[record.id or ""], repeat=record.sample or 0) for record in records]


def _generations(
    records: Sequence[Record], lengths: Sequence[int], thought: Sequence[int], cut: Sequence[bool]
) -> list[Generation]:
    return [
        Generation(
            text=record.response,
            length=length,
            thinking_length=min(thinking, length),
            thinks=CLOSE in record.response,
            finish="length" if ended else "stop",
        )
        for record, length, thinking, ended in zip(records, lengths, thought, cut, strict=True)
    ]


def _uneven(counts: Mapping[str, int]) -> list[str]:
    fewest, most = min(counts.values()), max(counts.values())
    return [] if fewest == most else [f"problems have from {fewest} to {most} completions"]


def _repeated(records: Sequence[Record]) -> list[str]:
    """Whether every problem has the same completion again and again: no samples of their own."""
    texts: dict[str | None, list[str]] = defaultdict(list)
    for record in records:
        texts[record.id].append(record.response)
    several = [group for group in texts.values() if len(group) > 1]
    if not several or any(len(set(group)) > 1 for group in several):
        return []
    return ["every problem's completions are copies of one: they are no samples of their own"]
