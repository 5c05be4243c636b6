"""Tiny models with the lab's tokenizer, and naive statistics of them in float64."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from laconic.checkpoints.checkpoint import TOKENIZER_FILES, copy_files, open_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 283,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}
ROWS = (
    {"problem": "a=1 b=a+2 b=?", "response": "3"},
    {"problem": "a=18 b=a+8 c=b+1 c=?", "response": "18+8=26, 26+1=27. 27"},
    {"problem": "a=5", "response": "five is 5"},
    {"problem": "x=12 y=x-4 y=?", "response": "12-4=8"},
)


def save(model: Any, folder: Path) -> Path:
    """A model's folder with the lab's tokenizer."""
    model.save_pretrained(folder)
    copy_files(open_checkpoint("lab:base").folder, folder, TOKENIZER_FILES)
    return folder


def qwen2(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A random Qwen2 of two layers, in float32."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return save(Qwen2ForCausalLM(Qwen2Config(**{**SIZES, **changes})), folder)


def qwen3_moe(folder: Path, experts: int = 8) -> Path:
    """A random Qwen3-MoE of two layers whose last expert is never chosen, in float32."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    own: dict[str, Any] = {"head_dim": 8, "moe_intermediate_size": 12, "num_experts": experts}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Qwen3MoeConfig(**SIZES, **own, num_experts_per_tok=2, norm_topk_prob=True)
        return save(Qwen3MoeForCausalLM(config), folder)


def write_rows(path: Path, rows: Any = ROWS) -> str:
    """A JSONL file of rows; returns its path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def wide(folder: Path) -> Any:
    """The model in float64, computing attention and experts the plain way."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager"
    )
    return model.eval()


def naive_inputs(model: Any, ids: list[list[int]]) -> dict[str, list[Tensor]]:
    """What each module with a weight reads, sample by sample, ``[token, channel]``."""
    seen: dict[str, list[Tensor]] = {}

    def see(_: Any, args: Any, name: str) -> None:
        seen.setdefault(name, []).append(args[0].reshape(-1, args[0].shape[-1]))

    for name, module in model.named_modules():
        if "weight" in dict(module.named_parameters(recurse=False)) and "embed" not in name:
            module.register_forward_pre_hook(partial(see, name=f"{name}.weight"))
    with torch.no_grad():
        for own in ids:
            model(input_ids=torch.tensor([own]))
    return seen


def naive_gradients(model: Any, ids: list[list[int]], starts: list[int]) -> list[dict[str, Tensor]]:
    """The gradients of each sample's mean negative log-likelihood of its answer."""
    found = []
    for own, start in zip(ids, starts, strict=True):
        model.zero_grad()
        labels = torch.tensor([[-100] * start + own[start:]])
        model(input_ids=torch.tensor([own]), labels=labels).loss.backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    return found


def naive_information(ours: Tensor, theirs: Tensor) -> float:
    """The mutual information of two tensors' values as categories, in nats."""
    x, y = (v.to(torch.bfloat16).flatten().tolist() for v in (ours, theirs))
    n, joint, a, b = len(x), Counter(zip(x, y, strict=True)), Counter(x), Counter(y)
    return sum(c / n * math.log(c * n / (a[i] * b[j])) for (i, j), c in joint.items())


def without_tokenizer(folder: Path, other: Path) -> Path:
    """A copy of a model without a tokenizer."""
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("tok*"))
    return other
