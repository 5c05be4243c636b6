"""How long grading takes: logged responses, the same again with verdicts kept, and stress inputs.

    python benchmarks/grading.py --data ../shared/data

DATA holds ``logs/NAME__TASK.jsonl.gz`` (columns ``problem_id``, ``response``, ``tokens_qwen``),
``problems/TASK.jsonl``, and ``stress.jsonl`` of ``gold`` and ``answer``. CPU seconds are those of
this process and of the workers; memory is the largest worker's.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from laconic.importing.plain import read_plain
from laconic.importing.problems import match_problems
from laconic.runs.run import Generation, Sample
from laconic.scoring.score import Grader, score_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

COLUMNS = {"id": "problem_id", "length": "tokens_qwen"}
Completions = list[tuple[Sample, Generation]]


def read(data: Path) -> Completions:
    """Every logged response with its problem."""
    completions: Completions = []
    for path in sorted((data / "logs").glob("*.jsonl.gz")):
        task = path.name.removesuffix(".jsonl.gz").rpartition("__")[2]
        log = read_plain(path, COLUMNS)
        problems, records = match_problems(log.records, task, data / "problems", str(path))
        samples = {sample.id: sample for sample in problems.samples}
        for record in records:
            length = record.length or 0
            finish = "length" if record.cap and length >= record.cap - 8 else "stop"
            generation = Generation(record.response, length, 0, thinks=False, finish=finish)
            completions.append((samples[record.id or ""], generation))
    return completions


def measure(label: str, work: Callable[[], Mapping[str, int]]) -> None:
    """Time some work that returns its outcomes, and print a row."""
    wall, before = time.perf_counter(), seconds()
    outcomes = work()
    wall = time.perf_counter() - wall
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    counted = ", ".join(f"{n:,} {name}" for name, n in sorted(outcomes.items()))
    print(
        f"{label:<16}{sum(outcomes.values()):>7,}{wall:>8.1f}{seconds() - before:>8.1f}"
        f"{memory:>9.0f}  {counted}",
        flush=True,
    )


def seconds() -> float:
    """CPU seconds of this process and of the workers that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in used)


def grade(completions: Completions, grades: Path | None) -> Counter[str]:
    """The outcomes of all completions, by a grader of their own."""
    with Grader(grades=grades) as grader:
        return Counter(result.outcome for result in score_all(completions, grader))


def stress(path: Path) -> Counter[str]:
    """The verdicts on the stress inputs, by a grader of their own."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with Grader() as grader, ThreadPoolExecutor(grader.workers) as pool:
        verdicts = pool.map(lambda row: grader.compare(row["gold"], row["answer"]), rows)
        return Counter(verdict.state for verdict in verdicts)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data: Path = parser.parse_args().data
    completions = read(data)
    print(f"{'what':<16}{'n':>7}{'wall s':>8}{'cpu s':>8}{'worker MB':>10}")
    with tempfile.TemporaryDirectory() as folder:
        grades = Path(folder) / "verdicts"
        measure("logs", lambda: grade(completions, None))
        measure("logs, keeping", lambda: grade(completions, grades))
        measure("logs, again", lambda: grade(completions, grades))
    measure("stress", lambda: stress(data / "stress.jsonl"))


if __name__ == "__main__":
    main()
