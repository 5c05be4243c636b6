"""Measure the lab's family and its simplest merges: accuracy, tokens and checks, level by level.

    python benchmarks/lab.py --size 1000 --dtype float32 -o lab.json

Greedy decoding with transformers' own `generate`, on test problems that no training text holds.
The table goes to stdout, the numbers behind it to the file given.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from laconic import lab
from laconic.tasks.lab import LEVELS, Chain, chains

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

log = logging.getLogger("lab")
MAX_TOKENS = 640
SCALES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
DENSITIES = (0.1, 0.2, 0.3, 0.4)


@dataclass(frozen=True)
class Answer:
    """One completion: its problem's level, whether it is right, its tokens, what it shows."""

    level: int
    correct: bool
    length: int
    truncated: bool
    thinks: bool
    checks: int
    wrong_lines: int
    repaired: int


def judge(chain: Chain, text: str, length: int, *, truncated: bool) -> Answer:
    """Score a completion by its last box, and count its checks and its wrong first values."""
    boxes = re.findall(r"\\boxed\{(\d+)\}", text)
    wrong = repaired = 0
    for line in chain.lines:
        shown = re.search(rf"^{line.name}=.*=(\d\d)$", text, re.MULTILINE)
        if shown and int(shown.group(1)) != line.value:
            wrong += 1
            repaired += f"so {line.name}={line.value:02d}" in text
    return Answer(
        chain.level,
        bool(boxes) and boxes[-1] == chain.answer,
        length,
        truncated,
        "</think>" in text,
        text.count("Wait") + text.count("Hmm"),
        wrong,
        repaired,
    )


def answers(
    state: Mapping[str, Tensor],
    problems: Sequence[Chain],
    *,
    dtype: torch.dtype,
    batch: int,
    temperature: float,
    seed: int,
) -> list[Answer]:
    """Every problem answered by the model with these weights, greedily unless heated."""
    tokenizer = AutoTokenizer.from_pretrained(lab.folder("system2"))
    model = AutoModelForCausalLM.from_pretrained(lab.folder("system2"), dtype=torch.float32)
    model.load_state_dict(dict(state), strict=False)
    model.to(dtype)
    torch.manual_seed(seed)
    heat = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    order = sorted(problems, key=lambda chain: chain.level)
    found = []
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        turns = [[{"role": "user", "content": chain.question}] for chain in part]
        inputs = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=True, return_tensors="pt", padding=True
        )
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=MAX_TOKENS, **heat)
        for chain, row in zip(part, ids[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            ended = tokenizer.eos_token_id in row
            length = row.index(tokenizer.eos_token_id) + 1 if ended else len(row)
            text = tokenizer.decode(row[: length - ended])
            found.append(judge(chain, text, length, truncated=not ended))
    return found


def trimmed(vector: Tensor, density: float) -> Tensor:
    """The entries of largest magnitude, as many as the density says; the rest zero."""
    kept = max(1, round(vector.numel() * density))
    threshold = vector.abs().flatten().kthvalue(vector.numel() - kept + 1).values
    return vector.where(vector.abs() >= threshold, torch.zeros(()))


def candidates(states: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Mapping[str, Tensor]]:
    """The three models, the line from base to system2, and trims of the vector between them."""
    base, system1, system2 = (states[name] for name in ("base", "system1", "system2"))
    vector = {name: system2[name] - base[name] for name in base}
    found: dict[str, Mapping[str, Tensor]] = dict(states)
    for scale in SCALES:
        found[f"base+{scale}(s2-base)"] = {n: base[n] + scale * vector[n] for n in base}
    for density in DENSITIES:
        found[f"trim {density}"] = {n: base[n] + trimmed(vector[n], density) for n in base}
    found["average s1 s2"] = {n: (system1[n] + system2[n]) / 2 for n in base}
    return found


def interval(right: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, share = 1.96, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * (share * (1 - share) / count + z * z / (4 * count**2)) ** 0.5 / (1 + z * z / count)
    return middle - half, middle + half


def row(name: str, found: Sequence[Answer]) -> str:
    """One line of the table."""
    count = len(found)
    low, high = interval(sum(a.correct for a in found), count)
    wrong, repaired = sum(a.wrong_lines for a in found), sum(a.repaired for a in found)

    def mean(field: str, level: int | None = None) -> float:
        part = [getattr(a, field) for a in found if level in (None, a.level)]
        return sum(part) / len(part)

    accuracies = " ".join(f"{mean('correct', level):.2f}" for level in LEVELS)
    lengths = " ".join(f"{mean('length', level):.0f}" for level in LEVELS)
    checks = " ".join(f"{mean('checks', level):.1f}" for level in LEVELS)
    return (
        f"| {name} | {mean('correct'):.3f} ({low:.3f}-{high:.3f}) | {mean('length'):.1f} "
        f"| {mean('thinks'):.2f} | {mean('checks'):.2f} | {mean('truncated'):.3f} "
        f"| {repaired}/{wrong} | {accuracies} | {lengths} | {checks} |\n"
    )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--family", type=Path, default=lab.folder("base").parent)
    parser.add_argument("--size", type=int, default=500)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="a regular expression over the models' names")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    states = {}
    for name in lab.members():
        model = AutoModelForCausalLM.from_pretrained(options.family / name, dtype=torch.float32)
        states[name] = dict(model.named_parameters())
        states[name] = {key: value.detach() for key, value in states[name].items()}
    rng = random.Random(f"laconic lab {options.split} {options.seed}")
    problems = chains(options.size, split=options.split, rng=rng)
    kept = {}
    sys.stdout.write(
        "| model | accuracy (95 %) | tokens | thinks | checks | truncated | repaired/wrong "
        "| accuracy L1-5 | tokens L1-5 | checks L1-5 |\n|" + " --- |" * 10 + "\n"
    )
    for name, state in candidates(states).items():
        if not re.search(options.only, name):
            continue
        began = time.process_time()
        found = answers(
            state,
            problems,
            dtype=getattr(torch, options.dtype),
            batch=options.batch,
            temperature=options.temperature,
            seed=options.seed,
        )
        log.info("%s: %.0f CPU seconds", name, time.process_time() - began)
        kept[name] = [asdict(answer) for answer in found]
        sys.stdout.write(row(name, found))
        sys.stdout.flush()
    if options.output:
        options.output.write_text(json.dumps(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
