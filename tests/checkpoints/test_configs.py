"""Configs of one model in two notations are equal; configs of two models are not."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from laconic.checkpoints.configs import compare_configs, read_config, setting, turned
from laconic.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

HEADS = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
YARN = {"factor": 4.0, "original_max_position_embeddings": 512}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 512,
}


def plain(theta: float, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": theta, "rope_type": "default", **more}}


def two(full: float, sliding: float, **more: Any) -> dict[str, Any]:
    table = {
        "full_attention": {"rope_theta": full, "rope_type": "default", **more},
        "sliding_attention": {"rope_theta": sliding, "rope_type": "default"},
    }
    return {"rope_parameters": table}


#: A model's settings as transformers 4.57 writes them, and as 5.23 does after loading those.
NOTATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": ({"rope_scaling": None, "rope_theta": 10000.0}, plain(10000.0)),
    "mistral": ({"rope_theta": 10000.0}, plain(10000.0)),
    "qwen2": ({"rope_scaling": None, "rope_theta": 1000000.0}, plain(1000000.0)),
    "qwen3_moe": ({"rope_scaling": None, "rope_theta": 1000000}, plain(1000000)),
    "qwen3_next": (
        {"partial_rotary_factor": 0.25, "rope_scaling": None, "rope_theta": 10000.0},
        plain(10000.0, partial_rotary_factor=0.25),
    ),
    "glm4_moe": (
        {"partial_rotary_factor": 0.5, "rope_scaling": None, "rope_theta": 10000.0},
        plain(10000.0, partial_rotary_factor=0.5),
    ),
    "nemotron": (
        {"partial_rotary_factor": 0.5, "rope_theta": 10000.0},
        plain(10000.0, partial_rotary_factor=0.5),
    ),
    "phi3": (
        {"partial_rotary_factor": 1.0, "rope_scaling": None, "rope_theta": 10000.0},
        {"partial_rotary_factor": 1.0, **plain(10000.0, partial_rotary_factor=1.0)},
    ),
    "gpt_neox": (
        {"rope_scaling": None, "rope_theta": 10000, "rotary_emb_base": 10000, "rotary_pct": 0.25},
        {"partial_rotary_factor": 0.25, **plain(10000, partial_rotary_factor=0.25)},
    ),
    "apertus": (
        {"rope_theta": 12000000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_parameters": {"rope_theta": 12000000.0, "rope_type": "llama3", **LLAMA3}},
    ),
    "deepseek_v3": (
        {
            "rope_theta": 10000,
            "rope_scaling": {"type": "yarn", **YARN, "mscale": 1.0, "mscale_all_dim": 1.0},
        },
        {
            "rope_parameters": {
                "rope_theta": 10000,
                "rope_type": "yarn",
                "type": "yarn",
                **YARN,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "beta_fast": 32,
                "beta_slow": 1,
                "attention_factor": 1.0,
            },
        },
    ),
    "qwen3": (
        {"rope_theta": 1000000, "rope_scaling": {"rope_type": "yarn", **YARN}},
        {
            "rope_parameters": {
                "rope_theta": 1000000,
                "rope_type": "yarn",
                **YARN,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "attention_factor": 1.1386294361119891,  # 0.1 ln 4 + 1
            },
        },
    ),
    "gpt_oss": (
        {"rope_theta": 150000.0, "rope_scaling": {"rope_type": "yarn", "truncate": False, **YARN}},
        {
            "rope_parameters": {
                "rope_theta": 150000.0,
                "rope_type": "yarn",
                "truncate": False,
                "beta_fast": 32.0,
                **YARN,
            }
        },
    ),
    "gemma3_text": (
        {
            "rope_local_base_freq": 10000.0,
            "rope_theta": 1000000.0,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        two(1000000.0, 10000.0, rope_type="linear", factor=8.0),
    ),
    "modernbert": (
        {"global_rope_theta": 160000.0, "local_rope_theta": 10000.0},
        two(160000.0, 10000.0),
    ),
    "qwen2_vl": (
        {"rope_theta": 1000000.0, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}},
        {
            "text_config": {
                **HEADS,
                "model_type": "qwen2_vl_text",
                **plain(1000000.0, mrope_section=[2, 3, 3], type="mrope"),
            }
        },
    ),
    "mistral3": (
        {"text_config": {**HEADS, "model_type": "mistral", "rope_theta": 1000000000.0}},
        {"text_config": {**HEADS, "model_type": "mistral", **plain(1000000000.0)}},
    ),
    "internvl_chat": (
        {"llm_config": {**HEADS, "rope_theta": 1000000.0}},
        {"llm_config": {**HEADS, **plain(1000000.0)}},
    ),
    # The class fills in what the older notation leaves out (0.5; 10,000 for sliding layers).
    "glm": ({"rope_theta": 10000.0}, plain(10000.0, partial_rotary_factor=0.5)),
    "gemma3": (
        {"text_config": {**HEADS, "model_type": "gemma3_text", "num_key_value_heads": 4}},
        {
            "text_config": {
                **HEADS,
                "model_type": "gemma3_text",
                "num_key_value_heads": 4,
                **two(1000000.0, 10000.0),
            }
        },
    ),
    "olmo3": (
        {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "yarn", **YARN}},
        two(500000.0, 500000.0, rope_type="yarn", **YARN),
    ),
}


def pair(kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    old, new = copy.deepcopy(NOTATIONS[kind])
    window = {"model_type": kind, "max_position_embeddings": 2048}
    return {**HEADS, **window, **old}, {**HEADS, **window, **new}


@pytest.mark.parametrize("kind", NOTATIONS)
def test_a_model_saved_by_transformers_4_and_5_is_one_model(kind: str) -> None:
    old, new = pair(kind)
    for found in (compare_configs(old, new), compare_configs(new, old)):
        assert found.architecture == {}
        assert found.rotation == {}


@pytest.mark.parametrize("kind", NOTATIONS)
def test_other_base_frequencies_and_heads_are_seen_in_either_notation(kind: str) -> None:
    old, new = pair(kind)
    inner = next((old[k] for k in ("text_config", "llm_config") if k in old), old)
    theta = next((k for k in ("global_rope_theta", "rotary_emb_base") if k in inner), "rope_theta")
    inner[theta] = inner[theta] * 2 if theta in inner else 7.0
    if "rope_theta" in inner:
        inner["rope_theta"] = inner[theta]
    assert any("rope_theta" in key for key in compare_configs(old, new).rotation)
    old, new = pair(kind)
    inner = next((old[k] for k in ("text_config", "llm_config") if k in old), old)
    inner["num_attention_heads"] = 8
    assert "num_attention_heads" in compare_configs(old, new).architecture


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"factor": 8.0}, "factor"),
        ({"beta_fast": 64}, "beta_fast"),
        ({"attention_factor": 1.0}, "attention_factor"),
        ({"original_max_position_embeddings": 256}, "original_max_position_embeddings"),
        ({"truncate": False}, "truncate"),
        ({"mscale": 1.0, "mscale_all_dim": 0.5}, "mscale_all_dim"),
        ({"attn_factor": 0.9}, "attn_factor"),
        ({"rope_type": "linear"}, "rope_type"),
    ],
)
def test_a_yarn_of_other_settings_is_another_rotation(change: dict[str, Any], key: str) -> None:
    old, new = pair("qwen3")
    old["rope_scaling"] |= change
    assert key in compare_configs(old, new).rotation


def test_towers_are_compared_as_the_text_model_is() -> None:
    one: dict[str, Any] = {"model_type": "x", "vision_config": {"hidden_size": 8, "head_dim": 4}}
    two = copy.deepcopy(one)
    two["vision_config"]["head_dim"] = 2
    found = compare_configs(one, two).architecture
    assert found == {"vision_config.the width of an attention head": (4, 2)}


def test_what_a_config_of_an_unknown_class_leaves_out_differs_from_nothing() -> None:
    one = {"model_type": "nobody-knows", **HEADS}
    assert compare_configs(one, {**one, **plain(10000.0)}).rotation == {}
    scaled = {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    assert set(compare_configs(one, {**one, **scaled}).rotation) == {"rope_type", "factor"}


def test_a_config_turned_like_another_has_its_rotation_and_window_and_keeps_the_rest() -> None:
    old, new = pair("mistral3")
    new["text_config"] |= plain(5.0)
    new["text_config"]["max_position_embeddings"] = 99
    made = turned(old, new)
    assert compare_configs(made, new).rotation == {}
    assert setting(made, "max_position_embeddings") == 99
    assert made["text_config"]["hidden_size"] == 64
    assert old == pair("mistral3")[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_position_embeddings": "lots"}, "max_position_embeddings is 'lots', and must be a w"),
        ({"num_attention_heads": True}, "num_attention_heads is True"),
        ({"rope_theta": "1e6"}, "rope_theta is '1e6', and must be a number"),
        ({"rope_scaling": "yarn"}, "rope_scaling is 'yarn', and must be a mapping"),
        ({"rope_parameters": {"full_attention": {"factor": []}}}, "factor is "),
        ({"text_config": [1]}, "text_config is"),
        ({"text_config": {"hidden_size": 1.5}}, "hidden_size is 1.5"),
        ({"architectures": "Qwen2ForCausalLM"}, "must be a list of class names"),
        ({"tie_word_embeddings": "yes"}, "must be a boolean"),
        ({"eos_token_id": ["a"]}, "eos_token_id is"),
        ({"model_type": 3}, "model_type is 3"),
    ],
)
def test_a_value_of_a_type_that_cannot_be_is_named(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**HEADS, **change}))
    with pytest.raises(CheckpointError) as caught:
        read_config(tmp_path, "model")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
