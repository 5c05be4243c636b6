"""Import: another tool's log becomes an ordinary run, graded again, every inference said."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.files.atomic import writing_folder
from laconic.files.text import open_binary
from laconic.importing.budgets import find_budget
from laconic.importing.contract import CLOSE
from laconic.importing.formats import find_logs, read_log
from laconic.importing.lengths import measure
from laconic.importing.problems import match_problems
from laconic.runs.experiment import Experiment, Sampling
from laconic.runs.run import Generation, Run, read_run
from laconic.runs.writer import RunWriter
from laconic.runtime import silent, versions
from laconic.scoring.score import GRADER, Grader, score_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.importing.budgets import LogBudget
    from laconic.importing.contract import Log, Record
    from laconic.importing.lengths import Lengths
    from laconic.runs.experiment import TaskRecord
    from laconic.runs.run import Sample
    from laconic.runtime import Progress
    from laconic.tasks.contract.task import Task

UNKNOWN: Final = "not recorded"
UNDRAWN: Final = "the log does not say how completions were drawn (temperature and top-p)"


def import_log(
    path: str | Path | Sequence[str | Path],
    task: str | None,
    output: str | Path,
    *,
    data: str | Path | None = None,
    mapped: Mapping[str, str] | None = None,
    tokenizer: str | Path | None = None,
    cap: int | None = None,
    compress: bool = False,
    grades: Path | None = None,
    progress: Progress = silent,
) -> Run:
    """Make a run of a log: grade every completion, infer what the log does not say.

    Args:
        path: A log of a known tool (``importing.readers``), or a file of one completion a row:
            JSONL, a JSON array or parquet. Several are parts of one; a folder is its files.
        task: The task's name; None takes that of the data's file, or of the log where it holds its
            own problems and golds.
        output: The run folder to create.
        data: A folder that holds ``TASK.jsonl``, or such a file: lines of ``id``, ``problem``,
            ``answer``. By default the log's own problems and golds, where it holds them, else the
            task of that name that the package knows.
        mapped: Columns of a plain log by field: ``id``, ``sample``, ``problem``, ``gold``,
            ``response``, ``thought``, ``length``, ``thinking``, ``cap``, ``finish``.
        tokenizer: Counts the tokens instead of the log: a Hugging Face folder or a ``.tiktoken``
            ranks file.
        cap: The budget in tokens, where the log does not say.
        compress: Keep the results gzipped.
        grades: A file of verdicts to use and to add to, as `Grader` describes it.
        progress: Told after each completion graded.

    Returns:
        The complete run. Its provenance says under ``import`` how many rows were read, which were
        left out and why, what was inferred and what is missing.

    Raises:
        RunError: For a log, a map, a tokenizer or an output folder that cannot be used.
        TaskError: For problems that cannot be read.
    """
    given = [Path(path)] if isinstance(path, str | Path) else list(map(Path, path))
    paths, passed_over = find_logs(given)
    source, folder = ", ".join(map(str, paths)), Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists. Choose another output folder, or delete this one.")
    if cap is not None and cap < 1:
        raise RunError(f"--cap must be at least 1, got {cap}.")
    log = _joined([read_log(part, mapped or {}) for part in paths], paths)
    log = replace(log, notes=[*log.notes, *passed_over])
    problems, records = match_problems(
        log.records, task, data, source, named=log.named, title=given[0].name.split(".")[0]
    )
    lengths = measure(records, log, tokenizer, source)
    budget = find_budget(
        records, lengths.whole, exact=lengths.exact, given=cap, answers_only=lengths.answers_only
    )
    asked = _asked(problems, records, budget.cap)
    experiment = _experiment(log, records, paths, asked, budget.cap)
    completions = list(
        zip(_samples(records, problems), _generations(records, lengths, budget), strict=True)
    )
    provenance = _provenance(log, records, lengths, budget)
    provenance |= {
        "source": source,
        "source_sha256": [_digest(part) for part in paths],
        "length": f"tokenizer {tokenizer}" if tokenizer else log.length,
        "versions": versions("math-verify"),
    }
    with Grader(grades=grades) as grader:
        results = score_all(completions, grader, progress)
    try:
        with (
            writing_folder(folder) as partial,
            RunWriter(partial, experiment, provenance, compress=compress) as writer,
        ):
            writer.append(results)
            writer.finish()
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}.") from error
    return read_run(folder)


def _asked(problems: Task, records: Sequence[Record], cap: int | None) -> TaskRecord:
    """What a run remembers of the problems that the log answers."""
    answered = {record.id for record in records}
    asked = tuple(sample for sample in problems.samples if sample.id in answered)
    return replace(replace(problems, samples=asked).record(cap), max_tokens=cap)


def _experiment(
    log: Log, records: Sequence[Record], paths: Sequence[Path], asked: TaskRecord, cap: int | None
) -> Experiment:
    model = _model(records, paths)
    return Experiment(
        model=model,
        model_digest=hashlib.sha256(f"log of {model}".encode()).hexdigest()[:16],
        tasks=(asked,),
        sampling=_sampling(log.sampling, cap, max(Counter(r.id for r in records).values())),
        backend="import",
        dtype=UNKNOWN,
        template=UNKNOWN,
        grader=GRADER,
    )


def _provenance(
    log: Log, records: Sequence[Record], lengths: Lengths, budget: LogBudget
) -> dict[str, Any]:
    """What the run says of its log; each note becomes a warning of the report."""
    counts = Counter(record.id or "" for record in records)
    skipped = [f"{number:,} {what} are left out" for what, number in log.skipped.items()]
    inferred, missing = [*lengths.inferred, *budget.inferred], [*lengths.missing, *budget.missing]
    found: dict[str, Any] = {
        "format": log.format,
        "notes": [
            *(missing if lengths.answers_only else ()),
            *log.notes,
            *skipped,
            *inferred,
            *(() if lengths.answers_only else missing),
            *_uneven(counts),
            *_repeated(records),
        ],
        "import": {
            "rows": len({record.where for record in records}) + sum(log.skipped.values()),
            "completions": len(records),
            "problems": len(counts),
            "skipped": dict(log.skipped),
            "inferred": inferred,
            "missing": missing + [UNDRAWN] * (not {"temperature", "top_p"} <= log.sampling.keys()),
        },
    }
    if lengths.answers_only:
        found["answers_only"] = True
    if log.columns:
        found["columns"] = dict(log.columns)
    if log.sampling:
        found["sampling"] = dict(log.sampling)
    return found


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
    again = _answered_again(logs, paths)
    return replace(
        logs[0],
        records=[
            replace(record, id=f"{path.stem}/{record.id}")
            if not log.named and record.id is not None and record.problem is not None
            else record
            for log, path in zip(logs, paths, strict=True)
            for record in (replace(r, where=f"{path.name}, {r.where}") for r in log.records)
        ],
        notes=[*dict.fromkeys(note for log in logs for note in log.notes), *again],
        named=all(log.named for log in logs),
        content_only=any(log.content_only for log in logs) or logs[0].content_only,
        skipped=sum((Counter(log.skipped) for log in logs), Counter()),
    )


def _answered_again(logs: Sequence[Log], paths: Sequence[Path]) -> list[str]:
    """A word where several files answer the same problem.

    Raises:
        RunError: Where they number its completions alike: they are runs of their own.
    """
    first: dict[object, Path] = {}
    again = 0
    for log, path in zip(logs, paths, strict=True):
        for key in {(r.problem or r.id, r.sample) for r in log.records}:
            other = first.setdefault(key, path)
            if other != path and key[1] is not None:
                raise RunError(
                    f"{other} and {path} both hold sample {key[1]} of {key[0]!r:.60}: they are "
                    "runs of their own. Import each alone."
                )
            again += other != path
    told = f"{again:,} problems are answered in several files: all count as repeats of one model"
    return [told] if again else []


def _sampling(said: Mapping[str, float], cap: int | None, repeats: int) -> Sampling:
    """How the log says completions were drawn; not recorded where it leaves half of it open."""
    temperature, top_p = said.get("temperature"), said.get("top_p")
    known = temperature is not None and top_p is not None and 0 < top_p <= 1 and temperature >= 0
    if not known or (temperature == 0 and repeats > 1):
        return Sampling(max_tokens=cap, repeats=repeats, recorded=False)
    return Sampling(cap, temperature or 0.0, top_p or 1.0, repeats, int(said.get("seed", 0)))


def _digest(path: Path) -> str:
    with open_binary(path, RunError) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _model(records: Sequence[Record], paths: Sequence[Path]) -> str:
    """The model that the log names, else the file."""
    names = {record.model for record in records}
    if len(names) > 1:
        raise RunError(
            f"{', '.join(map(str, paths))}: there are completions of several models "
            f"({', '.join(sorted(map(str, names)))}). Split the log: a run is of one model."
        )
    return names.pop() or paths[0].name.split(".")[0]


def _samples(records: Sequence[Record], problems: Task) -> list[Sample]:
    by_id = {sample.id: sample for sample in problems.samples}
    return [replace(by_id[record.id or ""], repeat=record.sample or 0) for record in records]


def _generations(
    records: Sequence[Record], lengths: Lengths, budget: LogBudget
) -> list[Generation]:
    return [
        Generation(
            text=record.response,
            length=length,
            thinking_length=thinking,
            thinks=CLOSE in record.response,
            finish="length" if ended else "stop",
        )
        for record, length, thinking, ended in zip(
            records, lengths.whole, lengths.thinking, budget.cut, strict=True
        )
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
