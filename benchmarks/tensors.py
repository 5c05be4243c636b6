"""What methods and transforms cost on one large tensor, beside TIES of the same checkpoints.

    python benchmarks/tensors.py --scratch FOLDER -o benchmarks/tensors.md

Makes a base and two models of one bfloat16 matrix each, merges them once with every recipe of
`JOBS` in this process, page cache warm, and compares the CPU seconds an element with those of TIES
in the same run. What a merge needs beside its elements is measured with a tensor of few rows and
taken off. `anon` is how much anonymous memory grows at most; mapped files do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from merge import Cost, anonymous, bfloat16, machine

from laconic.checkpoints.header import TensorSpec
from laconic.checkpoints.writer import CheckpointWriter
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe
from laconic.runtime import versions

#: Recipes by name: how many models, the method, its parameters and the transforms before it. The
#: first of each number of models is what the others are compared with.
JOBS: dict[str, tuple[int, str, dict[str, object], list[object]]] = {
    "ties": (1, "ties", {"density": 0.2}, []),
    "sparsify": (1, "task_arithmetic", {}, [{"sparsify": {"density": 0.2, "rescale": True}}]),
    "breadcrumbs": (1, "task_arithmetic", {}, ["breadcrumbs"]),
    "della": (1, "task_arithmetic", {}, ["della"]),
    "della, norm": (1, "task_arithmetic", {}, [{"della": {"rescale": "norm"}}]),
    "ties of two": (2, "ties", {"density": 0.2}, []),
    "mergekit ties, two densities": (
        2, "elect", {"normalise": True},
        [{"sparsify": {"density": d, "model": i}} for i, d in enumerate((0.2, 0.4))],
    ),
    "dare by chance": (2, "elect", {}, [{"sparsify": {"by": "chance", "rescale": True}}]),
    "sce": (2, "sce", {}, []),
    "sce, density 0.5": (2, "sce", {"density": 0.5}, []),
    "model_stock": (2, "model_stock", {}, []),
    "nuslerp": (2, "nuslerp", {}, []),
    "nuslerp by row": (2, "nuslerp", {"along": "row"}, []),
}  # fmt: skip
NAME = "model.layers.0.mlp.up_proj.weight"
ROWS_PER_BATCH = 512
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_hidden_layers": 1,
    "num_attention_heads": 1, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "max_position_embeddings": 4096,
}  # fmt: skip


def make(folder: Path, rows: int, columns: int) -> list[Path]:
    """A random base, and two models that differ from it by a little noise."""
    folders = [folder / name for name in ("base", "one", "two")]
    specs = [TensorSpec(NAME, "BF16", (rows, columns))]
    draw = np.random.Generator(np.random.SFC64(0))
    writers = [CheckpointWriter(f, specs, digest="benchmark") for f in folders]
    for writer in writers:
        writer.open()
    for first in range(0, rows, ROWS_PER_BATCH):
        shape = (min(ROWS_PER_BATCH, rows - first), columns)
        base = draw.standard_normal(shape, np.float32) * np.float32(0.02)
        for i, writer in enumerate(writers):
            noise = draw.standard_normal(shape, np.float32) * np.float32(3e-4) * (i > 0)
            writer.put(NAME, 2 * first * columns, bfloat16((base + noise).ravel()))
    config = {**CONFIG, "hidden_size": columns, "vocab_size": rows}
    for writer in writers:
        (writer.work / "config.json").write_text(json.dumps(config))
        writer.publish()
        writer.close()
    return folders


def run(job: str, folders: list[Path], output: Path) -> Cost:
    """Merge once in this process."""
    models, method, params, before = JOBS[job]
    chosen = [str(folder) for folder in folders[1 : models + 1]]
    base = str(folders[0])
    recipe = Recipe(chosen, method, base=base, system2=base, params=params, before=before)
    ended, most = threading.Event(), [anonymous(os.getpid())]
    start = most[0]

    def watch() -> None:
        while not ended.wait(0.005):
            most.append(anonymous(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        merge(recipe, output)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    finally:
        ended.set()
        watcher.join()
        shutil.rmtree(output, ignore_errors=True)
    return Cost(cpu, wall, (max(most) - start) / 1e6)


def table(costs: dict[str, tuple[Cost, Cost]], elements: int) -> str:
    """The results as a table."""
    lines = [
        "| recipe | models | CPU ns an element | of TIES' | anon GB |",
        "|---|--:|--:|--:|--:|",
    ]
    per = {job: (full.cpu - start.cpu) / elements * 1e9 for job, (start, full) in costs.items()}
    ties: dict[int, float] = {}
    for job, cost in per.items():
        models = JOBS[job][0]
        first = ties.setdefault(models, cost)
        anon = costs[job][1].anon
        lines.append(f"| {job} | {models} | {cost:.1f} | {cost / first:.1f} | {anon:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the options, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scratch", required=True, help="a folder on a disk with 1.5 GB free")
    parser.add_argument("--rows", type=int, default=32_768)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("-o", "--output", type=Path, help="also write the page to this file")
    args = parser.parse_args()
    scratch = Path(args.scratch) / "laconic-tensors"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    costs: dict[str, tuple[Cost, Cost]] = {}
    try:
        few = make(scratch / "few", 8, args.columns)
        all_ = make(scratch / "all", args.rows, args.columns)
        for job in args.jobs:
            run(job, few, scratch / "out")  # compiles what is not yet compiled
            costs[job] = run(job, few, scratch / "out"), run(job, all_, scratch / "out")
            print(job, costs[job], flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    own = ", ".join(f"{k} {v}" for k, v in versions("numpy", "numba", "torch").items())
    page = (
        f"# Methods on one bfloat16 matrix of {args.rows:,} x {args.columns:,}\n\n"
        f"`python benchmarks/tensors.py`, {datetime.now(UTC):%Y-%m-%d}; {machine()}; {own};\n"
        f"load {os.getloadavg()[0]:.0f} at the end, so compare the ratios.\n\n"
        f"{table(costs, args.rows * args.columns)}"
    )
    print(page)
    if args.output:
        args.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
