"""How fast the embedded engine completes a task, by batch size, against plain generate.

    python benchmarks/generation.py --model lab:system2 --limit 200 --plain

Tokens per CPU second are comparable on a machine that others use too; tokens per second are not.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from laconic.backends.contract.call import Call
from laconic.backends.contract.decoding import using_threads
from laconic.backends.transformers import transformers
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.runs.experiment import Sampling
from laconic.tasks.contract.task import Task, load_task

HEADER = f"{'engine':<14}{'batch':>6}{'threads':>8}{'tokens':>9}{'wall s':>8}{'cpu s':>8}"


def measure(label: str, batch: int, threads: int, work: Any) -> None:
    """Time some work that returns how many tokens it made, and print a row."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{label:<14}{batch:>6}{threads:>8}{tokens:>9}{wall:>8.1f}{cpu:>8.1f}"
        f"{tokens / wall:>9.0f}{tokens / cpu:>12.0f}",
        flush=True,
    )


def ours(model: str, task: Task, sampling: Sampling, batch: int, threads: int) -> int:
    """Tokens made by the engine."""
    engine = transformers(model, device="cpu", batch=batch, threads=threads)
    batches = engine.generate(list(map(Call, task.samples)), sampling)
    return sum(generation.length for finished in batches for _, generation in finished)


def plain(model: str, task: Task, sampling: Sampling, batch: int, threads: int) -> int:
    """Tokens made by model.generate on fixed batches: every row waits for the longest."""
    checkpoint = open_checkpoint(model)
    checkpoint.fetch()
    folder = checkpoint.folder
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    made = 0
    for start in range(0, len(task.samples), batch):
        turns = [
            [{"role": "user", "content": sample.problem}]
            for sample in task.samples[start : start + batch]
        ]
        prompts = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
        )
        with using_threads(threads), torch.inference_mode():
            out = network.generate(**prompts, do_sample=False, max_new_tokens=sampling.max_tokens)
        new = out[:, prompts["input_ids"].shape[1] :]
        made += int((new != tokenizer.pad_token_id).sum())
    return made


def main() -> None:
    """Print one row for each way of running."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="lab:system2")
    parser.add_argument("--task", default="lab")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--plain", action="store_true", help="time plain generate too")
    given = parser.parse_args()
    task = load_task(given.task, limit=given.limit)
    sampling = Sampling(task.max_tokens)
    print(f"{given.model}, {len(task.samples)} problems, torch {torch.__version__}")
    print(f"{HEADER}{'tok/s':>9}{'tok/cpu s':>12}")
    for threads in given.threads:
        for batch in given.batches:
            for run in (ours, plain) if given.plain else (ours,):
                measure(
                    run.__name__,
                    batch,
                    threads,
                    lambda run=run, b=batch, t=threads: run(given.model, task, sampling, b, t),
                )


if __name__ == "__main__":
    main()
