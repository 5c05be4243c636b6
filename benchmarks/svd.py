"""What rank-10 % approximation and shrinking cost on one matrix, beside torch's full SVD.

    python benchmarks/svd.py -o benchmarks/svd.md

The matrix is a down projection of a 7B model (3584 x 18944, float32) with random entries: a flat
spectrum, the hardest for a random sketch. Each job runs in a process of its own that makes the
matrix first; seconds are those of the job alone, memory is the most anonymous memory beyond that of
a process that makes the matrix and nothing else. On two processors it takes about five minutes.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from merge import machine, measure

from laconic.methods.contract.group import TensorGroup
from laconic.methods.contract.low_rank import soften, truncate
from laconic.runtime import versions

if TYPE_CHECKING:
    from torch import Tensor

SHAPE = (3584, 18_944)
DENSITY = 0.1
JOBS = {
    "nothing": "",
    "svd": "`torch.linalg.svd`, then its 358 largest triplets",
    "truncate": "`laconic.methods.contract.low_rank.truncate` (`twin_svd`, density 0.1)",
    "soften": "`laconic.methods.contract.low_rank.soften` (`lore`; every singular value)",
}


def main() -> None:
    """Run each job in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-o", "--output", type=Path, help="the page to write; default: print it")
    parser.add_argument("--shape", type=int, nargs=2, default=SHAPE, help="rows and columns")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.job:
        given.into.write_text(json.dumps(run(given.job, tuple(given.shape))))
        return
    rows = {job: in_a_process(job, given.shape) for job in JOBS}
    text = page(rows, tuple(given.shape))
    if given.output:
        given.output.write_text(text, encoding="utf-8")
    else:
        print(text)


def in_a_process(job: str, shape: list[int]) -> dict[str, float]:
    """What a job measured of itself, and the process's anonymous memory."""
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "result.json"
        size = [str(n) for n in shape]
        own = [sys.executable, __file__, "--job", job, "--into", str(into), "--shape", *size]
        cost = measure(own)
        return {**json.loads(into.read_text()), "anon": cost.anon}


def run(job: str, shape: tuple[int, int]) -> dict[str, float]:
    """Do a job on the matrix: CPU and wall seconds, and the relative Frobenius error."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3e-4
    rank = int(min(shape) * DENSITY)
    group = TensorGroup("weight", torch.zeros(1), torch.zeros(1, 1), (1.0,))
    cpu, wall = time.process_time(), time.perf_counter()
    found = matrix
    if job == "svd":
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        found = (u[:, :rank] * s[:rank]) @ v[:rank]
    elif job == "truncate":
        found = truncate(matrix, rank, lambda *size: group.uniform(0, size) - 0.5)
    elif job == "soften":
        found = soften(matrix, 0.01)
    spent = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    return {**spent, "error": distance(matrix, found)}


def distance(one: Tensor, other: Tensor) -> float:
    """The Frobenius norm of a difference, as a share of that of the first, row by row."""
    apart = sum(float((a - b).double().square().sum()) for a, b in zip(one, other, strict=True))
    return float((apart / sum(float(a.double().square().sum()) for a in one)) ** 0.5)


def page(rows: dict[str, dict[str, float]], shape: tuple[int, int]) -> str:
    """The table, with the machine and the versions."""
    plain, full, ours = rows["nothing"], rows["svd"], rows["truncate"]
    lines = [
        f"# Low-rank approximation of a {shape[0]} x {shape[1]} matrix, float32",
        "",
        f"`python benchmarks/svd.py`, {datetime.now(UTC):%Y-%m-%d}; {machine()}.",
        ", ".join(f"{name} {of}" for name, of in versions("laconic", "torch").items()) + ".",
        "Random entries, a flat spectrum: the hardest for a sketch. Memory is beyond the matrix.",
        "",
        "| job | CPU s | wall s | GB | relative Frobenius error |",
        "|---|--:|--:|--:|--:|",
    ]
    for job, row in rows.items():
        if job != "nothing":
            error = f"{row['error']:.4f}" if job != "soften" else "-"
            lines.append(
                f"| {JOBS[job]} | {row['cpu']:.1f} | {row['wall']:.1f} "
                f"| {row['anon'] - plain['anon']:.2f} | {error} |"
            )
    lines += [
        "",
        f"The sketch takes {full['cpu'] / ours['cpu']:.0f} times fewer CPU seconds and "
        f"{full['wall'] / ours['wall']:.0f} times less time than the full decomposition; its error "
        f"is {100 * (ours['error'] / full['error'] - 1):.2f} % above the least possible.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
