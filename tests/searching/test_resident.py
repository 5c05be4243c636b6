"""Merging into a resident model: the same bits as a folder, and only what has changed."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MixtralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3MoeConfig,
)

from laconic import lab
from laconic.checkpoints.checkpoint import TOKENIZER_FILES, copy_files
from laconic.errors import CheckpointError
from laconic.merging.engine import thresholds
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from laconic.methods.contract.ranking import kept
from laconic.searching.resident import InPlaceSlot, ModelSlot, Weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}
#: Qwen2 has biases of its own; the head is tied in one and not in the other.
SHAPES: Mapping[str, Any] = {
    "qwen2": lambda: Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "llama": lambda: LlamaConfig(
        **SHAPE, tie_word_embeddings=False, attention_bias=True, mlp_bias=True
    ),
}
#: A merge, then the parameters of the next: each goes on from what the one before left.
TURNS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "task_arithmetic": ({"params": {"scale": 0.3}}, {"params": {"scale": 0.7}}),
    "overrides": (
        {"params": {"scale": 0.5}},
        {"params": {"scale": 0.5}, "overrides": [{"match": "ffn", "params": {"scale": 0.9}}]},
    ),
    "ties": (
        {"params": {"density": 0.3}},
        {"params": {"density": 0.3, "scale": 0.5}},
    ),
    "ties over the model": (
        {"params": {"density": 0.3, "scope": "model"}},
        {"params": {"density": 0.3, "scope": "model", "scale": 0.5}},
        {"params": {"density": 0.7, "scope": "model"}},
    ),
    "dare and ties": (
        {"before": [{"dare": {"density": 0.5}}], "params": {"density": 0.3}},
        {"before": [{"dare": {"density": 0.8}}], "params": {"density": 0.3}},
        {"before": [{"dare": {"density": 0.8}}], "params": {"density": 0.3}, "seed": 1},
    ),
    "slerp": ({"params": {"t": 0.3}}, {"params": {"t": 0.6}}),
    "twin_svd": ({"params": {"rank": 2}}, {"params": {"rank": 5}}),
}
METHODS = {
    "overrides": "task_arithmetic",
    "ties over the model": "ties",
    "dare and ties": "ties",
}


@pytest.fixture(scope="module", params=SHAPES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base and a System 2 of one shape, in bfloat16."""
    family = tmp_path_factory.mktemp(request.param)
    for seed, name in enumerate(("base", "system2")):
        make(family / name, SHAPES[request.param](), seed)
    return family


def make(folder: Path, config: Any, seed: int) -> None:
    auto: Any = AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto.from_config(config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.to(torch.bfloat16).save_pretrained(folder)
    copy_files(lab.folder("system2"), folder, (*TOKENIZER_FILES, "chat_template.jinja"))


def recipe(family: Path, name: str, turn: Mapping[str, Any]) -> Recipe:
    method = METHODS.get(name, name)
    return Recipe([str(family / "system2")], method, base=str(family / "base"), **turn)


def loaded(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def flat(model: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().view(-1) for name, tensor in model.state_dict().items()}


def assert_same(model: Any, other: Any) -> None:
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize("name", TURNS)
def test_a_resident_merge_has_the_bits_of_a_merge_to_a_folder(
    pair: Path, tmp_path: Path, name: str
) -> None:
    first, *rest = (recipe(pair, name, turn) for turn in TURNS[name])
    merge(first, tmp_path / "0")
    model = loaded(tmp_path / "0")
    weights = Weights(flat(model), plan(first))
    assert Weights.fit(flat(model), plan(first))
    for number, other in enumerate((*rest, first), start=1):
        assert weights.merge(plan(other))
        merge(other, tmp_path / str(number))
        assert_same(model, loaded(tmp_path / str(number)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_a_narrow_type_gets_the_same_bits(
    pair: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    first, second = (recipe(pair, "task_arithmetic", t) for t in TURNS["task_arithmetic"])
    merge(first, tmp_path / "first")
    merge(second, tmp_path / "second")
    model = loaded(tmp_path / "first", dtype)
    Weights(flat(model), plan(first)).merge(plan(second))
    assert_same(model, loaded(tmp_path / "second", dtype))


def test_only_tensors_whose_coefficients_changed_are_computed(pair: Path, tmp_path: Path) -> None:
    first, second = (recipe(pair, "overrides", turn) for turn in TURNS["overrides"])
    merge(first, tmp_path / "first")
    model = loaded(tmp_path / "first")
    weights = Weights(flat(model), plan(first))
    changed = weights.merge(plan(second))
    assert changed
    assert all(".mlp." in name for name in changed)
    assert weights.written == 4 * sum(flat(model)[name].numel() for name in changed)
    assert weights.merge(plan(second)) == []


def test_thresholds_are_counted_once_for_each_density(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    find = thresholds.find_thresholds

    def counting(counter: Any, size: int, count: int, model: int | None) -> Any:
        counted.append(count)
        return find(counter, size, count, model)

    monkeypatch.setattr("laconic.merging.engine.limits.find_thresholds", counting)
    first = recipe(pair, "ties", {"params": {"density": 0.3}})
    merge(first, tmp_path / "first")
    weights = Weights(flat(loaded(tmp_path / "first")), plan(first))
    counted.clear()
    for scale in (0.5, 0.7):
        weights.merge(plan(recipe(pair, "ties", {"params": {"density": 0.3, "scale": scale}})))
    assert counted == [kept(math.prod(spec.shape), 0.3) for spec in plan(first).specs]


def test_a_merge_that_fails_is_made_anew_by_the_next(pair: Path, tmp_path: Path) -> None:
    family = tmp_path / "family"
    shutil.copytree(pair, family)
    state = load_file(family / "system2" / "model.safetensors")
    name = next(name for name in state if ".1.mlp.down_proj.weight" in name)
    wild = recipe(family, "task_arithmetic", {"params": {"scale": 1.0}})
    state[name] = state[name] * 0 + 3e38
    first = recipe(pair, "task_arithmetic", {"params": {"scale": 0.5}})
    merge(first, tmp_path / "first")
    model = loaded(tmp_path / "first")
    save_file(state, family / "system2" / "model.safetensors", metadata={"format": "pt"})
    big = recipe(family, "task_arithmetic", {"params": {"scale": 0.1}})
    weights = Weights(flat(model), plan(big))
    too_large = recipe(family, "task_arithmetic", {"params": {"scale": 9.0}})
    with pytest.raises(CheckpointError, match="not finite"):
        weights.merge(plan(too_large))
    assert len(weights.merge(plan(wild))) == len(plan(wild).specs)
    merge(wild, tmp_path / "wild")
    assert_same(model, loaded(tmp_path / "wild"))


def test_a_model_of_other_parameters_gets_folders(pair: Path, tmp_path: Path) -> None:
    first = recipe(pair, "task_arithmetic", {"params": {"scale": 0.5}})
    merge(first, tmp_path / "first")
    tensors = flat(loaded(tmp_path / "first"))
    short = {**tensors, "model.norm.weight": tensors["model.norm.weight"][:-1]}
    assert not Weights.fit(short, plan(first))
    assert not Weights.fit({**tensors, "model.extra.weight": torch.zeros(3)}, plan(first))
    assert not Weights.fit({n: t for n, t in tensors.items() if "mlp" not in n}, plan(first))


def test_a_seat_keeps_the_model_of_the_embedded_engine(pair: Path, tmp_path: Path) -> None:
    slot = ModelSlot("transformers:device=cpu", tmp_path / "work")
    first, second = (recipe(pair, "task_arithmetic", t) for t in TURNS["task_arithmetic"])
    engine: Any = slot.take(plan(first))
    assert isinstance(slot._slot, InPlaceSlot)
    again: Any = slot.take(plan(second))
    assert again is engine
    merge(second, tmp_path / "second")
    assert_same(engine._model, loaded(tmp_path / "second"))
    slot.close()
    assert not (tmp_path / "work").exists()


def test_a_head_of_its_own_is_merged_with_a_tied_base(tmp_path: Path) -> None:
    make(tmp_path / "base", Qwen2Config(**SHAPE, tie_word_embeddings=True), 0)
    make(tmp_path / "system2", Qwen2Config(**SHAPE, tie_word_embeddings=False), 1)
    first, second = (recipe(tmp_path, "task_arithmetic", t) for t in TURNS["task_arithmetic"])
    merge(first, tmp_path / "first")
    model = loaded(tmp_path / "first")
    changed = Weights(flat(model), plan(first)).merge(plan(second))
    assert "lm_head.weight" in changed
    merge(second, tmp_path / "second")
    assert_same(model, loaded(tmp_path / "second"))


@pytest.mark.parametrize(
    "config",
    [
        Phi3Config(**SHAPE, pad_token_id=0),
        MixtralConfig(**SHAPE, num_local_experts=3),
        Qwen3MoeConfig(**SHAPE, moe_intermediate_size=12, num_experts=4),
    ],
    ids=["phi3", "mixtral", "qwen3_moe"],
)
def test_fused_and_stacked_weights_are_merged_in_place(tmp_path: Path, config: Any) -> None:
    for seed, name in enumerate(("base", "system2")):
        make(tmp_path / name, config, seed)
    slot = ModelSlot("transformers:device=cpu", tmp_path / "work")
    first, second = (recipe(tmp_path, "task_arithmetic", t) for t in TURNS["task_arithmetic"])
    engine: Any = slot.take(plan(first))
    assert isinstance(slot._slot, InPlaceSlot)
    again: Any = slot.take(plan(second))
    assert again is engine
    merge(second, tmp_path / "second")
    assert_same(engine._model, loaded(tmp_path / "second"))
    slot.close()
