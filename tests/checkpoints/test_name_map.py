"""Names on disk and names in a loaded model, held to models that transformers saves and loads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    JambaConfig,
    Lfm2MoeConfig,
    LlamaConfig,
    MixtralConfig,
    OlmoeConfig,
    Phi3Config,
    PhimoeConfig,
    Qwen2Config,
    Qwen3MoeConfig,
)

from laconic.checkpoints.name_map import (
    ExpertNames,
    ParameterPiece,
    expert_names,
    map_names,
    name_on_disk,
    short_names,
    split_by_tensor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
UNTIED = {**SIZES, "tie_word_embeddings": False}
#: One architecture for each way in which names differ, and one for each entry of the table.
CONFIGS: Mapping[str, Callable[[], Any]] = {
    "tied": lambda: Qwen2Config(**SIZES, tie_word_embeddings=True),
    "untied": lambda: LlamaConfig(**UNTIED),
    "phi3": lambda: Phi3Config(**UNTIED),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **UNTIED, moe_intermediate_size=12, num_experts=5, num_experts_per_tok=2
    ),
    "olmoe": lambda: OlmoeConfig(**UNTIED, num_experts=4, num_experts_per_tok=2),
    "mixtral": lambda: MixtralConfig(**UNTIED, num_local_experts=3),
    "phimoe": lambda: PhimoeConfig(**UNTIED, num_local_experts=3),
    "lfm2_moe": lambda: Lfm2MoeConfig(
        **UNTIED, moe_intermediate_size=12, num_experts=4, num_experts_per_tok=2,
        num_dense_layers=1, layer_types=["full_attention", "full_attention"],
    ),
    "jamba": lambda: JambaConfig(
        **UNTIED, num_experts=4, num_experts_per_tok=2, expert_layer_period=2,
        expert_layer_offset=1, attn_layer_period=1, attn_layer_offset=0, use_mamba_kernels=False,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CONFIGS)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, dict[str, torch.Tensor]]:
    """A tiny random model as transformers loads it, and the tensors of its folder."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    auto: Any = AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto.from_config(CONFIGS[request.param]())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter))
    model.save_pretrained(folder)
    return auto.from_pretrained(folder, dtype=torch.float32), load_file(
        folder / "model.safetensors"
    )


def shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def test_pieces_put_together_are_the_loaded_parameters(
    saved: tuple[Any, dict[str, torch.Tensor]],
) -> None:
    model, disk = saved
    parameters = dict(model.named_parameters())
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    pieces = map_names(sizes, shapes(disk))
    used = [piece.tensor for name in parameters for piece in pieces[name]]
    assert sorted(used) == sorted(disk.keys() - dict(model.named_buffers()).keys())
    for name, parameter in parameters.items():
        assert sum(piece.count for piece in pieces[name]) == parameter.numel()
        made = torch.full(parameter.shape, torch.nan)
        for piece in pieces[name]:
            made[piece.place] = disk[piece.tensor]
        assert torch.equal(made, parameter.detach()), name


def test_parameters_split_by_tensor_are_views_with_the_values_on_disk(
    saved: tuple[Any, dict[str, torch.Tensor]],
) -> None:
    model, disk = saved
    flat = {name: tensor.detach().view(-1) for name, tensor in model.state_dict().items()}
    split = split_by_tensor(flat, shapes(disk))
    for name, values in disk.items():
        assert torch.equal(split[name], values.flatten()), name
    memory = {tensor.untyped_storage().data_ptr() for tensor in flat.values()}
    assert {tensor.untyped_storage().data_ptr() for tensor in split.values()} == memory


def test_a_tied_head_is_the_embedding_under_another_name() -> None:
    disk = {"model.embed_tokens.weight": (4, 2)}
    sizes = {"model.embed_tokens.weight": 8}
    pieces = map_names(sizes, disk, {"lm_head.weight": "model.embed_tokens.weight"})
    assert pieces["lm_head.weight"] == (ParameterPiece("model.embed_tokens.weight", ..., 0, 8),)


def test_an_engine_may_fuse_what_lies_apart_on_disk() -> None:
    block = "model.layers.3"
    disk = {
        f"{block}.self_attn.q_proj.weight": (4, 2),
        f"{block}.self_attn.k_proj.weight": (2, 2),
        f"{block}.self_attn.v_proj.weight": (2, 2),
        f"{block}.mlp.gate_proj.weight": (3, 2),
        f"{block}.mlp.up_proj.weight": (3, 2),
    }
    pieces = map_names(
        {f"{block}.self_attn.qkv_proj.weight": 16, f"{block}.mlp.gate_up_proj.weight": 12}, disk
    )
    assert pieces[f"{block}.self_attn.qkv_proj.weight"] == (
        ParameterPiece(f"{block}.self_attn.q_proj.weight", slice(0, 4), 0, 8),
        ParameterPiece(f"{block}.self_attn.k_proj.weight", slice(4, 6), 8, 4),
        ParameterPiece(f"{block}.self_attn.v_proj.weight", slice(6, 8), 12, 4),
    )
    assert [p.start for p in pieces[f"{block}.mlp.gate_up_proj.weight"]] == [0, 6]


def test_experts_are_told_apart_unless_the_checkpoint_stacks_them_too() -> None:
    block = "model.layers.0.mlp.experts"
    sizes = {f"{block}.gate_up_proj": 2 * 6 * 2, f"{block}.down_proj": 2 * 2 * 3}
    disk = {
        f"{block}.{expert}.{part}.weight": shape
        for expert in range(2)
        for part, shape in (("gate_proj", (3, 2)), ("up_proj", (3, 2)), ("down_proj", (2, 3)))
    }
    names = expert_names(map_names(sizes, disk), block)
    assert names is not None
    assert names[1] == ExpertNames(
        (f"{block}.1.gate_proj.weight", f"{block}.1.up_proj.weight"),
        (f"{block}.1.down_proj.weight",),
    )
    stacked = {f"{block}.gate_up_proj": (2, 6, 2), f"{block}.down_proj": (2, 2, 3)}
    assert expert_names(map_names(sizes, stacked), block) is None
    assert expert_names(map_names(sizes, disk), "model.layers.0.mlp") is None


def test_a_missing_tensor_has_no_elements() -> None:
    block = "model.layers.0.mlp.experts"
    disk = {f"{block}.0.down_proj.weight": (2, 3)}
    first, second = map_names({f"{block}.down_proj": 12}, disk)[f"{block}.down_proj"]
    assert (first.count, second.count) == (6, 0)
    assert second.tensor == f"{block}.1.down_proj.weight"
    assert map_names({"odd": 3}, disk) == {"odd": (ParameterPiece("odd", ..., 0, 0),)}


def test_layouts_of_models_with_towers_are_led_to_each_other() -> None:
    known = ["language_model.model.layers.0.mlp.up_proj.weight", "lm_head.weight"]
    names = short_names(known)
    assert (
        name_on_disk(known, names, "model.language_model.layers.0.mlp.up_proj.weight") == known[0]
    )
    assert name_on_disk(known, names, "lm_head.weight") == "lm_head.weight"
    assert name_on_disk(known, names, "other") == "other"
    twice = short_names(["model.norm.weight", "norm.weight"])
    assert name_on_disk([], twice, "language_model.norm.weight") == "language_model.norm.weight"
