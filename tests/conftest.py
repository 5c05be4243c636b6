"""Small checkpoints that every test may use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file
from torch import Tensor

# Time says nothing on a shared machine; the same examples on every run say something.
settings.register_profile("laconic", deadline=None, derandomize=True)
settings.load_profile("laconic")
MakeCheckpoint = Callable[..., Path]

CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 12,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}


def tensors(seed: int, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """The weights of a two-layer Qwen2 of width 8, drawn from a seed."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return (torch.randn(*shape, generator=draw) * 0.1).to(dtype)

    weights = {"model.embed_tokens.weight": normal(12, 8), "model.norm.weight": normal(8)}
    for layer in range(2):
        head = f"model.layers.{layer}"
        weights[f"{head}.self_attn.q_proj.weight"] = normal(8, 8)
        weights[f"{head}.self_attn.q_proj.bias"] = normal(8)
        weights[f"{head}.mlp.up_proj.weight"] = normal(16, 8)
    return weights


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords or repeats_shorter_chains(item):
            item.add_marker(pytest.mark.skip(reason="slow: run with pytest --slow"))


def repeats_shorter_chains(item: pytest.Item) -> bool:
    """Whether a chain of steps is made of pairs that are tested without it.

    Every method is tested alone; every transform before one method, and every adjustment after it.
    """
    parameters = getattr(item, "callspec", None)
    chain = parameters.params.get("chain") if parameters else None
    if chain is None:
        return False
    before, method, after = chain
    steps = (before is not None) + (after is not None)
    return steps == 2 or (steps == 1 and method.name != "task_arithmetic")


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> MakeCheckpoint:
    """A function that writes a small checkpoint folder and returns it."""

    def make(
        name: str,
        weights: Mapping[str, Tensor] | int = 0,
        *,
        config: Mapping[str, Any] | None = None,
        vocabulary: Mapping[str, int] | None = None,
        shards: int = 1,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        held = dict(tensors(weights) if isinstance(weights, int) else weights)
        (folder / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 3}))
        (folder / "chat_template.jinja").write_text(f"template of {name}")
        words = vocabulary or {f"w{i}": i for i in range(12)}
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": dict(words)}}))
        if shards == 1:
            save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
            return folder
        names = sorted(held)
        homes: dict[str, str] = {}
        for i in range(shards):
            file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            part = {n: held[n] for n in names[i::shards]}
            save_file(part, folder / file, metadata={"format": "pt"})
            homes |= dict.fromkeys(part, file)
        index = {"metadata": {}, "weight_map": homes}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return folder

    return make
