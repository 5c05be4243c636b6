"""What a merge costs, beside mergekit and beside moving the same bytes with cat and cp.

    python benchmarks/merge.py --scratch FOLDER --mergekit PYTHON -o benchmarks/merge.md

Makes two random bfloat16 checkpoints of Qwen2.5-1.5B's shape (3.1 GB each; 10 GB of disk in all),
and measures each job in a process of its own, page cache warm. CPU seconds (user and system, of the
process and its children, start-up included) are comparable on a machine that others use too; wall
seconds are not. `anon` is the most anonymous memory at any time; mapped files do not count, since
the system takes their pages back when it needs them. PYTHON is an interpreter that has mergekit;
without it, or where it cannot be run, its rows are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from laconic.checkpoints.header import TensorSpec
from laconic.checkpoints.writer import CheckpointWriter
from laconic.runtime import versions

#: Layers, hidden size, width of the MLP, of keys and values, vocabulary.
SIZES = {"1.5b": (28, 1536, 8960, 256, 151_936), "0.5b": (24, 896, 4864, 128, 151_936)}
JOBS = {
    "linear": ("average", {}, "linear", {"weight": 1.0}, {}),
    "task_arithmetic": ("task_arithmetic", {"scale": 0.7}, "task_arithmetic", {"weight": 0.7}, {}),
    "ties": ("ties", {"density": 0.2}, "ties", {"weight": 1.0, "density": 0.2}, {}),
    "dare_ties": (
        "ties", {"density": 1.0}, "dare_ties", {"weight": 1.0, "density": 0.7}, {"rescale": True}
    ),
    "slerp": ("slerp", {"t": 0.3}, "slerp", None, {"t": 0.3}),
}  # fmt: skip
FLOATS_PER_BATCH = 1 << 22
#: Merges as the command does, but without the compiled kernels.
FORMULAS = """
import sys
from laconic import Recipe, merge
from laconic.merging.engine.options import ExecutionOptions
merge(Recipe.from_yaml(sys.argv[1]), sys.argv[2], options=ExecutionOptions(kernels=False))
"""


@dataclass(frozen=True)
class Cost:
    """What one run of a job took.

    Attributes:
        cpu: User and system seconds of the process and its children.
        wall: Seconds.
        anon: The most anonymous memory at any time, GB.
    """

    cpu: float
    wall: float
    anon: float


#: What a job takes: with the kernels, without them, with mergekit.
Row = tuple[Cost, Cost | None, Cost | None]


def qwen2(size: str) -> list[TensorSpec]:
    """The tensors of a Qwen2.5 of that size, tied."""
    layers, hidden, mlp, keys, vocabulary = SIZES[size]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(layers):
        head = f"model.layers.{layer}"
        shapes |= {f"{head}.input_layernorm.weight": (hidden,)}
        shapes |= {f"{head}.post_attention_layernorm.weight": (hidden,)}
        for name, rows in (("q", hidden), ("k", keys), ("v", keys)):
            shapes |= {f"{head}.self_attn.{name}_proj.weight": (rows, hidden)}
            shapes |= {f"{head}.self_attn.{name}_proj.bias": (rows,)}
        shapes |= {f"{head}.self_attn.o_proj.weight": (hidden, hidden)}
        shapes |= {f"{head}.mlp.{n}_proj.weight": (mlp, hidden) for n in ("gate", "up")}
        shapes |= {f"{head}.mlp.down_proj.weight": (hidden, mlp)}
    shapes["model.norm.weight"] = (hidden,)
    return [TensorSpec(name, "BF16", shape) for name, shape in shapes.items()]


def make_pair(folder: Path, size: str) -> tuple[Path, Path]:
    """A random base, and the same with a little noise, as a fine-tuned model would be."""
    base, model = folder / "base", folder / "model"
    specs = qwen2(size)
    draw = np.random.Generator(np.random.SFC64(0))
    with (
        CheckpointWriter(base, specs, digest="benchmark") as first,
        CheckpointWriter(model, specs, digest="benchmark") as second,
    ):
        first.open()
        second.open()
        for spec in specs:
            count = spec.nbytes // 2
            for start in range(0, count, FLOATS_PER_BATCH):
                n = min(FLOATS_PER_BATCH, count - start)
                values = draw.standard_normal(n, np.float32) * np.float32(0.02)
                noise = draw.standard_normal(n, np.float32) * np.float32(3e-4)
                first.put(spec.name, 2 * start, bfloat16(values))
                second.put(spec.name, 2 * start, bfloat16(values + noise))
        for writer, window in ((first, 4096), (second, 131_072)):
            describe(writer.work, size, window)
            writer.publish()
    return base, model


def bfloat16(values: np.ndarray) -> np.ndarray:
    """The bits of float32 values rounded to bfloat16."""
    return ((values.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)


def describe(folder: Path, size: str, window: int) -> None:
    """Write config.json."""
    layers, hidden, mlp, keys, vocabulary = SIZES[size]
    config = {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": hidden,
        "intermediate_size": mlp, "num_hidden_layers": layers, "vocab_size": vocabulary,
        "num_attention_heads": hidden // 128, "num_key_value_heads": keys // 128,
        "max_position_embeddings": window, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))


def measure(command: list[str], environment: dict[str, str] | None = None) -> Cost:
    """Run a command and see what it takes.

    Raises:
        RuntimeError: Where it fails, with the end of what it said.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )
    said: list[bytes] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: said.append(process.stderr.read()))  # type: ignore[union-attr]  # asserted above
    reader.start()
    most = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        most = max(most, anonymous(process.pid))
        time.sleep(0.02)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    if process.returncode:
        raise RuntimeError(f"{command[0]}: {b''.join(said).decode()[-600:]}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, most / 1e6)


def anonymous(pid: int) -> int:
    """A process's anonymous memory in kB."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line.split() for line in text.splitlines()]
    return next((int(words[1]) for words in lines if words[0] == "RssAnon:"), 0)


def ours(
    job: str, base: Path, model: Path, output: Path, *, device: str = "cpu", kernels: bool = True
) -> list[str]:
    """The command of a job with laconic, by its kernels or by its formulas in torch."""
    method, params, *_ = JOBS[job]
    recipe: dict[str, object] = {"method": method, "params": params, "models": [str(model)]}
    if method == "average":
        recipe["models"] = [str(base), str(model)]
    else:
        recipe["base"] = str(base)
    if job == "dare_ties":
        recipe["before"] = [{"dare": {"density": 0.7}}]
    path = output.with_suffix(".yaml")
    path.write_text(json.dumps(recipe))
    if not kernels:
        return [sys.executable, "-c", FORMULAS, str(path), str(output)]
    command = [sys.executable, "-m", "laconic", "merge", str(path), "-o", str(output)]
    return [*command, "--device", device]


def theirs(job: str, base: Path, model: Path, output: Path, python: str) -> list[str]:
    """The command of a job with mergekit: its own defaults, in the type of the files."""
    *_, method, weights, params = JOBS[job]
    own = [{"model": str(model)} | ({"parameters": weights} if weights else {})]
    if method in {"linear", "slerp"}:
        own.insert(0, {"model": str(base)} | ({"parameters": weights} if weights else {}))
    recipe = {"merge_method": method, "models": own, "dtype": "bfloat16", "parameters": params}
    if method != "linear":
        recipe["base_model"] = str(base)
    path = output.with_suffix(".yaml")
    path.write_text(json.dumps(recipe))
    runner = Path(python).with_name("mergekit-yaml")
    return [str(runner), str(path), str(output), "--quiet"]


def floor(base: Path, model: Path, output: Path) -> tuple[Cost, Cost]:
    """Read both inputs with cat; write the output with cp."""
    weights = [str(folder / "model.safetensors") for folder in (base, model)]
    output.mkdir()
    return measure(["cat", *weights]), measure(["cp", weights[0], str(output)])


def median(costs: list[Cost]) -> Cost:
    """The middle of each figure, the most of the memory."""
    return Cost(
        statistics.median(c.cpu for c in costs),
        statistics.median(c.wall for c in costs),
        max(c.anon for c in costs),
    )


def machine() -> str:
    """The processor and the memory."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((s.split(":")[1].strip() for s in lines if s.startswith("model name")), "")
    total = int(Path("/proc/meminfo").read_text().split()[1]) / 1e6
    return f"{len(os.sched_getaffinity(0))} x {model}, {total:.0f} GB, Linux {platform.release()}"


def card(device: str) -> str:
    """The name of the card where one is used."""
    if device == "cpu":
        return ""
    import torch

    return f"; {torch.cuda.get_device_name(device)}"


def with_mergekit(python: str | None) -> str:
    """The version of mergekit, or empty where it cannot be run."""
    if python is None:
        return ""
    code = "from importlib.metadata import version as v; print(v('mergekit'), v('torch'))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return "mergekit {} on torch {}".format(*done.stdout.split())


def table(rows: dict[str, Row], ends: tuple[Cost, Cost]) -> str:
    """The results as a table."""
    lines = [
        "| job | laconic CPU s | wall s | anon GB | without kernels, CPU s | anon GB "
        "| mergekit CPU s | wall s | anon GB | times fewer CPU s | wall / (cat + cp) |",
        "|---|" + "--:|" * 10,
    ]
    least = ends[0].wall + ends[1].wall
    for job, (own, formulas, other) in rows.items():
        beside = f"{other.cpu:.1f} | {other.wall:.1f} | {other.anon:.2f}" if other else "- | - | -"
        ratio = f"{other.cpu / own.cpu:.1f}" if other else "-"
        plain = f"{formulas.cpu:.1f} | {formulas.anon:.2f}" if formulas else "- | -"
        lines.append(
            f"| {job} | {own.cpu:.2f} | {own.wall:.1f} | {own.anon:.2f} | {plain} "
            f"| {beside} | {ratio} | {own.wall / least:.2f} |"
        )
    for name, cost in zip(("cat of both inputs", "cp of the output"), ends, strict=True):
        lines.append(f"| {name} | {cost.cpu:.2f} | {cost.wall:.1f} |" + " |" * 8)
    return "\n".join(lines) + "\n"


def run(args: argparse.Namespace) -> str:
    """Make the checkpoints, measure everything, and say it."""
    scratch = Path(args.scratch) / "laconic-benchmark"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    other = with_mergekit(args.mergekit)
    try:
        base, model = make_pair(scratch, args.size)
        own_cache = {**os.environ, "NUMBA_CACHE_DIR": str(scratch / "cache")}
        out = scratch / "out"
        first = measure(ours("task_arithmetic", base, model, out, device=args.device), own_cache)
        shutil.rmtree(out)
        rows: dict[str, Row] = {}
        ends: list[tuple[Cost, Cost]] = []
        for job in args.jobs:
            own, kit = [], []
            for _ in range(args.repeats):
                ends.append(floor(base, model, out))
                shutil.rmtree(out)
                own.append(measure(ours(job, base, model, out, device=args.device), own_cache))
                shutil.rmtree(out)
            for _ in range(args.mergekit_repeats if other else 0):
                kit.append(measure(theirs(job, base, model, out, args.mergekit)))
                shutil.rmtree(out)
            formulas = None
            if args.formulas:
                formulas = measure(ours(job, base, model, out, kernels=False))
                shutil.rmtree(out)
            rows[job] = median(own), formulas, median(kit) if kit else None
            print(job, rows[job], flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    both = median([a for a, _ in ends]), median([b for _, b in ends])
    own_versions = ", ".join(f"{k} {v}" for k, v in versions("numpy", "numba", "torch").items())
    return (
        f"# Merging a pair of Qwen2.5-{args.size} shape, bfloat16\n\n"
        f"`python benchmarks/merge.py --device {args.device}`, {datetime.now(UTC):%Y-%m-%d}; "
        f"{machine()}{card(args.device)}.\n"
        f"{own_versions}; {other or 'mergekit was not measured'}.\n"
        f"Medians of {args.repeats} runs ({args.mergekit_repeats} of mergekit), page cache warm, "
        "on a machine that others used too:\ncompare CPU seconds.\n\n"
        f"{table(rows, both)}\n"
        f"The first merge on a machine compiles the kernels: {first.cpu:.1f} CPU s in all instead "
        f"of {rows[args.jobs[0]][0].cpu:.1f}, {first.anon:.2f} GB.\n"
    )


def main() -> None:
    """Read the options, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--scratch", required=True, help="a folder on a disk with 10 GB free")
    parser.add_argument("--size", choices=sorted(SIZES), default="1.5b")
    parser.add_argument("--device", default="cpu", help="where laconic calculates: cpu or cuda")
    parser.add_argument("--formulas", action="store_true", help="also without the kernels")
    parser.add_argument("--mergekit", metavar="PYTHON", help="an interpreter that has mergekit")
    parser.add_argument("--jobs", nargs="+", choices=list(JOBS), default=list(JOBS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mergekit-repeats", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, help="also write the page to this file")
    args = parser.parse_args()
    page = run(args)
    print(page)
    if args.output:
        args.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
