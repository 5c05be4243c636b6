"""What a comparison of ten runs of 100,000 results each costs, from results in memory.

    python benchmarks/stats.py
    python benchmarks/stats.py --repeats 8 --characters 4000 --results 10000

Every figure that `laconic report` shows is computed, the texts read included; reading the run
folders and drawing are not. `--repeats` answers to each problem; `--characters` a text.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from merge import machine

from laconic.reporting.report import compare, to_json
from laconic.runs.experiment import Experiment, Sampling, TaskRecord
from laconic.runs.run import Result, Run

SENTENCES = (
    "Wait, let me check the sum again before I go on. ",
    "So the value of x is 12, and y follows from the second line. ",
    "We multiply both sides by seven and get 84. ",
    "Hmm, this looks right; the remainder is zero. ",
)


def simulate(name: str, results: int, repeats: int, characters: int, seed: int) -> Run:
    """A run of easy and hard problems, longer where harder."""
    chance = np.random.default_rng(seed)
    hardness = np.random.default_rng(0).normal(size=results // repeats)
    right = chance.random(results) < 1 / (1 + np.exp(np.repeat(hardness, repeats) - seed / 5))
    length = 300 * np.exp(0.5 * np.repeat(hardness, repeats) + 0.3 * chance.normal(size=results))
    order = chance.integers(len(SENTENCES), size=(64, characters // 40 + 1))
    texts = ["".join(SENTENCES[i] for i in row)[:characters] for row in order]
    made = tuple(
        Result(
            task="t",
            id=f"problem-{i // repeats}",
            repeat=i % repeats,
            level=1 + i // repeats % 5,
            problem="?",
            gold="84",
            text=texts[i % len(texts)],
            length=int(length[i]) + 1,
            thinking_length=int(length[i] / 2),
            thinks=True,
            truncated=False,
            answer="84" if right[i] else str(i % 7),
            outcome="correct" if right[i] else "wrong",
            correct=bool(right[i]),
            reflections=1,
        )
        for i in range(results)
    )
    task = TaskRecord("t", "t", "0", results // repeats, 8192)
    sampling = Sampling(None, 0.6, 0.95, repeats)
    return Run(
        name, Experiment(name, "0", (task,), sampling, "replay", "f32", "t", "g"), made, True
    )


def main() -> None:
    """Make the runs, compare them, print the cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--results", type=int, default=100_000, help="of each run")
    parser.add_argument("--repeats", type=int, default=1, help="answers to a problem")
    parser.add_argument("--characters", type=int, default=300, help="of each text")
    given = parser.parse_args()
    runs = [
        simulate(f"run{i}", given.results, given.repeats, given.characters, i)
        for i in range(given.runs)
    ]
    wall, cpu = time.perf_counter(), time.process_time()
    shown = to_json(compare(runs))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(machine())
    print(
        f"{given.runs} runs of {given.results:,} results, {given.repeats} a problem, texts of "
        f"{given.characters:,} characters: {cpu:.1f} CPU s, {wall:.1f} s, {peak:.1f} GB with the "
        f"results, {len(shown):,} bytes of JSON"
    )


if __name__ == "__main__":
    main()
