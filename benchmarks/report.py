"""How large the page of a big report is, and how soon a browser lets a reader use it.

    python benchmarks/report.py
    python benchmarks/report.py --runs 5 --problems 10000 --characters 8000

Texts are sentences of random words and numbers, which pack about as tightly as real answers do.
Times are of one headless Chromium: until the answers can be filtered and read, until the charts are
drawn, and the processor time of the page's process, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from merge import machine

from laconic.reporting.report import compare, write
from laconic.runs.experiment import Experiment, Sampling, TaskRecord
from laconic.runs.run import Result, Run

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
]
LETTERS = np.array(list("etaoinshrdlcumwfgypbvk"))


def words(chance: np.random.Generator, n: int = 3000) -> list[str]:
    """A vocabulary of made-up words, the frequent ones short."""
    sizes = 2 + np.minimum(chance.geometric(0.25, size=n), 9)
    return ["".join(chance.choice(LETTERS, size=size)) for size in sorted(sizes)]


def prose(chance: np.random.Generator, known: list[str], characters: int) -> str:
    """Words as frequent as Zipf has them, and a number now and then."""
    ranks = np.minimum(chance.zipf(1.35, size=characters // 3) - 1, len(known) - 1)
    numbers = chance.integers(1000, size=len(ranks))
    picked = [
        str(n) if i % 9 == 8 else known[rank]
        for i, (rank, n) in enumerate(zip(ranks.tolist(), numbers.tolist(), strict=True))
    ]
    return " ".join(picked)[:characters]


def simulate(name: str, problems: int, characters: int, seed: int, known: list[str]) -> Run:
    """A run on one task, its problems harder and longer with their level."""
    chance = np.random.default_rng(seed)
    right = chance.random(problems) < 0.6 + 0.01 * seed
    lengths = 200 + 20 * seed + chance.integers(300, size=problems)
    rows = tuple(
        Result(
            task="t",
            id=f"problem-{i}",
            repeat=0,
            level=1 + i % 5,
            problem=f"Problem {i}: what is $x^2$ where $x = {i}$?",
            gold=str(i * i),
            text=f"{prose(chance, known, characters)} $\\boxed{{{i * i}}}$",
            length=int(lengths[i]),
            thinking_length=int(lengths[i] // 2),
            thinks=True,
            truncated=False,
            answer=str(i * i) if right[i] else "0",
            outcome="correct" if right[i] else "wrong",
            correct=bool(right[i]),
            reflections=1,
        )
        for i in range(problems)
    )
    task = TaskRecord("t", "t", "0", problems, 8192)
    made = Experiment(name, "0", (task,), Sampling(), "replay", "f32", "t", "g")
    return Run(name, made, rows, True)


def visit(page_file: Path) -> dict[str, float]:
    """Open the page in a fresh browser: milliseconds until things can be used."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page()
        watch = browser.new_browser_cdp_session()
        begun = time.perf_counter()
        page.goto(page_file.as_uri(), wait_until="commit")
        found = {}
        for what in ("answers", "charts"):
            page.wait_for_selector(f"html[data-{what}=ready]", state="attached", timeout=120_000)
            found[what] = 1000 * (time.perf_counter() - begun)
            processes = watch.send("SystemInfo.getProcessInfo")["processInfo"]
            found[f"{what} cpu"] = 1000 * max(
                one["cpuTime"] for one in processes if one["type"] == "renderer"
            )
        begun = time.perf_counter()
        page.locator("#a-rows .open").first.click()
        page.wait_for_selector("#a-open:not([hidden])")
        found["pair"] = 1000 * (time.perf_counter() - begun)
        browser.close()
    return found


def main() -> None:
    """Make the runs, write the page, open it a few times, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--problems", type=int, default=2000, help="of each run")
    parser.add_argument("--characters", type=int, default=1000, help="of each answer")
    parser.add_argument("--visits", type=int, default=3)
    given = parser.parse_args()
    known = words(np.random.default_rng(0))
    comparison = compare(
        [simulate(f"run{i}", given.problems, given.characters, i, known) for i in range(given.runs)]
    )
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        path = write(comparison, Path(folder) / "report.html")
        spent = time.process_time() - begun
        print(
            f"{given.runs} runs of {given.problems:,} answers of {given.characters:,} characters: "
            f"{path.stat().st_size / 1e6:.1f} MB, written in {spent:.1f} CPU s"
        )
        for _ in range(given.visits):
            found = visit(path)
            print(
                f"answers after {found['answers']:.0f} ms ({found['answers cpu']:.0f} ms of "
                f"processor), charts after {found['charts']:.0f} ms ({found['charts cpu']:.0f}); "
                f"a pair opens in {found['pair']:.0f} ms"
            )


if __name__ == "__main__":
    main()
