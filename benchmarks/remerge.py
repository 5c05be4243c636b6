"""What the next candidate of a search costs: merged in place, beside a merge to disk and a load.

    python benchmarks/remerge.py --scratch FOLDER -o benchmarks/remerge.md

Makes two random bfloat16 checkpoints of Qwen2.5-1.5B's shape (`benchmarks/merge.py`; 10 GB of disk
in all). Each job is a first merge, loaded once, and a second one: made in the loaded model's
parameters, and made in a folder that is then loaded. Both in one run, page cache warm, alternating;
medians of wall seconds. Bytes are counted where blocks are read from the parents and written to
parameters, in multiples of reading every parent and writing every parameter once. Both ways are
held against each other, parameter by parameter.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import shutil
import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from merge import SIZES, make_pair
from transformers import AutoModelForCausalLM

from laconic.merging.engine.members import Members
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from laconic.runtime import versions
from laconic.searching.resident import Weights

#: A merge, and the next candidate: only its coefficients differ.
JOBS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "task_arithmetic, scale": (
        {"method": "task_arithmetic", "params": {"scale": 0.5}},
        {"method": "task_arithmetic", "params": {"scale": 0.7}},
    ),
    "task_arithmetic, scale of ffn": (
        {"method": "task_arithmetic", "params": {"scale": 0.5}},
        {
            "method": "task_arithmetic",
            "params": {"scale": 0.5},
            "overrides": [{"match": "ffn", "params": {"scale": 0.7}}],
        },
    ),
    "task_arithmetic, scale of attention": (
        {"method": "task_arithmetic", "params": {"scale": 0.5}},
        {
            "method": "task_arithmetic",
            "params": {"scale": 0.5},
            "overrides": [{"match": "attention", "params": {"scale": 0.7}}],
        },
    ),
    "ties, scale (thresholds kept)": (
        {"method": "ties", "params": {"density": 0.2, "scale": 1.0}},
        {"method": "ties", "params": {"density": 0.2, "scale": 0.8}},
    ),
    "dare and ties, scale (thresholds kept)": (
        {
            "method": "ties",
            "params": {"density": 0.5, "scale": 1.0},
            "before": [{"dare": {"density": 0.7}}],
        },
        {
            "method": "ties",
            "params": {"density": 0.5, "scale": 0.8},
            "before": [{"dare": {"density": 0.7}}],
        },
    ),
}


@dataclass(frozen=True)
class Row:
    """What a job took.

    Attributes:
        resident: Seconds to merge in place.
        merged: Seconds to merge to disk.
        loaded: Seconds to load that.
        bytes: Bytes moved in place, over reading the parents and writing the parameters once.
    """

    resident: float
    merged: float
    loaded: float
    bytes: float


def load(folder: Path, dtype: torch.dtype) -> Any:
    """The model as the embedded engine loads it."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    return model.eval()


def flat(model: Any) -> dict[str, torch.Tensor]:
    """The parameters by name."""
    return {name: tensor.detach().view(-1) for name, tensor in model.state_dict().items()}


def job(recipes: tuple[Recipe, Recipe], scratch: Path, dtype: torch.dtype, rounds: int) -> Row:
    """Measure one job."""
    first, second = recipes
    folder = scratch / "merged"
    shutil.rmtree(folder, ignore_errors=True)
    merge(first, folder)
    model = load(folder, dtype)
    weights = Weights(flat(model), plan(first))
    weights.merge(plan(second))  # finds the thresholds, and touches every page
    weights.merge(plan(first))
    resident, merged, loaded = [], [], []
    read = moved = 0
    stored = Members.stored

    def counting(self: Members, j: int, start: int, stop: int) -> Any:
        nonlocal read
        block = stored(self, j, start, stop)
        read += block.nbytes
        return block

    for turn in range(rounds):
        read, weights.written = 0, 0
        Members.stored = counting  # type: ignore[method-assign]
        began = time.perf_counter()
        weights.merge(plan(second))
        resident.append(time.perf_counter() - began)
        Members.stored = stored  # type: ignore[method-assign]
        moved = read + weights.written
        shutil.rmtree(folder)
        began = time.perf_counter()
        merge(second, folder)
        merged.append(time.perf_counter() - began)
        began = time.perf_counter()
        other = load(folder, dtype)
        loaded.append(time.perf_counter() - began)
        if turn == 0:
            theirs = flat(other)
            assert all(torch.equal(t, theirs[n]) for n, t in flat(model).items()), "bits differ"
            del theirs
        del other
        gc.collect()
        weights.merge(plan(first))
    parents = plan(first).budget.read
    own = sum({t.data_ptr(): t.numel() * t.element_size() for t in flat(model).values()}.values())
    return Row(*map(statistics.median, (resident, merged, loaded)), moved / (parents + own))


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="1.5b")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--jobs", default="", help="only those whose names hold this")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    base, model = options.scratch / "base", options.scratch / "model"
    if not model.exists():
        make_pair(options.scratch, options.size)
    lines = []
    for name, (first, second) in JOBS.items():
        if options.jobs not in name:
            continue
        made = tuple(Recipe([str(model)], base=str(base), **one) for one in (first, second))
        row = job(
            (made[0], made[1]), options.scratch, getattr(torch, options.dtype), options.rounds
        )
        disk = row.merged + row.loaded
        lines.append(
            f"| {name} | {row.resident:.2f} | {row.merged:.2f} | {row.loaded:.2f} "
            f"| {row.resident / disk:.0%} | {row.bytes:.2f} |"
        )
        print(lines[-1], flush=True)
    shutil.rmtree(options.scratch / "merged", ignore_errors=True)
    if options.output:
        options.output.write_text(page(options, lines), encoding="utf-8")


def page(options: argparse.Namespace, lines: list[str]) -> str:
    """The table with what it was measured on."""
    told = ", ".join(
        f"{name} {v}" for name, v in versions("torch", "transformers", "numba").items()
    )
    return "\n".join(
        [
            f"# The next candidate of Qwen2.5-{options.size} shape, in {options.dtype}",
            "",
            f"`python benchmarks/remerge.py --dtype {options.dtype}`, "
            f"{datetime.now(UTC):%Y-%m-%d}; "
            f"{os.cpu_count()} x {platform.processor() or platform.machine()}. {told}.",
            f"Medians of {options.rounds}; wall seconds on a machine that others used too.",
            "",
            "| what changes | in place, s | merge to disk, s | load, s | share | bytes |",
            "|---|--:|--:|--:|--:|--:|",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
