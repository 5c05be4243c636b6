"""Whether completions after new weights are a fresh engine's: of two runs, or of vLLM in process.

With two run folders it compares the problems that both hold. Without, it merges two candidates of
the lab pair, gives the engine of the first the weights of the second, and compares with an engine
that was started with them. Ties of logits may fall otherwise: less than nine in ten is a failure.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from laconic.backends.contract.call import Call
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.evaluation.evaluate import open_engine
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe
from laconic.runs.experiment import Sampling
from laconic.runs.run import read_run
from laconic.tasks.contract.task import load_task

ENGINE = "vllm:memory=0.3,dtype=float32"
ENOUGH = 0.9


def main() -> None:
    """Compare, print, and end with status 1 where too few agree."""
    if len(sys.argv) == 3:
        one, two = ({r.id: r.text for r in read_run(Path(p)).results} for p in sys.argv[1:])
        told(Path(sys.argv[1]).name, [one[key] == two[key] for key in one if key in two])
    else:
        in_process()


def in_process() -> None:
    """An engine that is given another candidate's weights, against one started with them."""
    samples = load_task("lab", limit=100).samples
    with tempfile.TemporaryDirectory() as place:
        folders = []
        for scale in (0.3, 0.8):
            params = {"scale": scale}
            recipe = Recipe(["lab:system2"], "task_arithmetic", base="lab:base", params=params)
            folders.append(str(merge(recipe, Path(place) / f"{scale}").folder))
        with closing(open_engine(folders[0], ENGINE)) as engine:
            before, started = answers(engine, samples), time.perf_counter()
            renewed: Any = engine
            renewed.renew(open_checkpoint(folders[1]))
            seconds = time.perf_counter() - started
            after = answers(engine, samples)
        started = time.perf_counter()
        with closing(open_engine(folders[1], ENGINE)) as engine:
            fresh = time.perf_counter() - started
            wanted = answers(engine, samples)
    sys.stdout.write(f"new weights {seconds:.2f} s, a new start {fresh:.2f} s\n")
    assert before != wanted, "the two candidates answer alike: nothing can be told"
    told("renewed engine", [after[key] == wanted[key] for key in wanted])


def answers(engine: Any, samples: Any) -> dict[str, str]:
    """Greedy completions by problem."""
    sampling = Sampling(max_tokens=400)
    return {
        call.sample.id: generation.text
        for batch in engine.generate(list(map(Call, samples)), sampling)
        for call, generation in batch
    }


def told(what: str, same: list[bool]) -> None:
    """Print how many agree, and stop where it is too few."""
    sys.stdout.write(f"{what}: {sum(same)} of {len(same)} completions as a fresh engine's\n")
    if not same or sum(same) < ENOUGH * len(same):
        sys.exit(1)


if __name__ == "__main__":
    main()
