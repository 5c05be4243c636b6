"""Packed weights are refused by name, with the way to plain numbers; plain ones never are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from laconic.calibration.calibrate import prepare
from laconic.checkpoints.adapter import open_model
from laconic.errors import CheckpointError
from laconic.inspection.inspect import inspect
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from laconic.searching.explore import search
from tests.conftest import MakeCheckpoint, tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MODULE = "model.layers.0.mlp.up_proj"
WEIGHT = f"{MODULE}.weight"


def of(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.float32).to(dtype)


#: Layouts as the tools write them: what the config says, the tensors in place of one weight, the
#: name of the format that a user must read, the tensor that is named, and the way out.
LAYOUTS: dict[str, tuple[Mapping[str, Any], Mapping[str, torch.Tensor], str, str, str]] = {
    "compressed-tensors INT4": (
        {"quant_method": "compressed-tensors", "format": "pack-quantized"},
        {
            f"{MODULE}.weight_packed": of(torch.int32, 16, 1),
            f"{MODULE}.weight_scale": of(torch.bfloat16, 16, 1),
            f"{MODULE}.weight_shape": torch.tensor([16, 8]),
        },
        "compressed-tensors (pack-quantized)",
        f"{MODULE}.weight_packed",
        "CompressedTensorsConfig as Q",
    ),
    "compressed-tensors INT8": (
        {"quant_method": "compressed-tensors", "format": "int-quantized"},
        {WEIGHT: of(torch.int8, 16, 8), f"{MODULE}.weight_scale": of(torch.bfloat16, 16, 1)},
        "compressed-tensors (int-quantized)",
        WEIGHT,
        "CompressedTensorsConfig as Q",
    ),
    "MXFP4": (
        {"quant_method": "mxfp4"},
        {
            "model.layers.0.mlp.experts.up_proj_blocks": of(torch.uint8, 2, 16, 1, 16),
            "model.layers.0.mlp.experts.up_proj_scales": of(torch.uint8, 2, 16, 1),
        },
        "MXFP4",
        "model.layers.0.mlp.experts.up_proj_blocks",
        "Mxfp4Config as Q",
    ),
    "GPTQ": (
        {"quant_method": "gptq", "bits": 4},
        {
            f"{MODULE}.qweight": of(torch.int32, 1, 16),
            f"{MODULE}.qzeros": of(torch.int32, 1, 2),
            f"{MODULE}.scales": of(torch.float16, 1, 16),
            f"{MODULE}.g_idx": of(torch.int32, 8),
        },
        "GPTQ",
        f"{MODULE}.qweight",
        "base_model on its model card",
    ),
    "AWQ": (
        {"quant_method": "awq", "bits": 4},
        {
            f"{MODULE}.qweight": of(torch.int32, 8, 2),
            f"{MODULE}.qzeros": of(torch.int32, 1, 2),
            f"{MODULE}.scales": of(torch.float16, 1, 16),
        },
        "AWQ",
        f"{MODULE}.qweight",
        "base_model on its model card",
    ),
    "bitsandbytes 4-bit": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {
            WEIGHT: of(torch.uint8, 64, 1),
            f"{WEIGHT}.absmax": of(torch.float32, 2),
            f"{WEIGHT}.quant_map": of(torch.float32, 16),
        },
        "bitsandbytes 4-bit",
        f"{WEIGHT}.absmax",
        ".dequantize().save_pretrained",
    ),
    "bitsandbytes 8-bit": (
        {"quant_method": "bitsandbytes", "load_in_8bit": True},
        {WEIGHT: of(torch.int8, 16, 8), f"{MODULE}.SCB": of(torch.float32, 16)},
        "bitsandbytes 8-bit",
        f"{MODULE}.SCB",
        ".dequantize().save_pretrained",
    ),
    "FP8 in blocks": (
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        {
            WEIGHT: of(torch.float8_e4m3fn, 16, 8),
            f"{MODULE}.weight_scale_inv": of(torch.float32, 1, 1),
        },
        "FP8",
        WEIGHT,
        "FineGrainedFP8Config as Q",
    ),
    "FP8 with exponents as scales": (
        {"quant_method": "fp8", "scale_fmt": "ue8m0"},
        {
            WEIGHT: of(torch.float8_e4m3fn, 16, 8),
            f"{MODULE}.weight_scale_inv": of(torch.float8_e8m0fnu, 1, 1),
        },
        "FP8",
        WEIGHT,
        "FineGrainedFP8Config as Q",
    ),
    "NVFP4": (
        {"quant_method": "modelopt", "quant_algo": "NVFP4"},
        {
            WEIGHT: of(torch.uint8, 16, 4),
            f"{MODULE}.weight_scale": of(torch.float8_e4m3fn, 16, 1),
            f"{MODULE}.weight_scale_2": of(torch.float32),
        },
        "NVFP4",
        f"{MODULE}.weight_scale_2",
        "base_model on its model card",
    ),
    "a method that only the config names": (
        {"quant_method": "aqlm"},
        {f"{MODULE}.codes": of(torch.int16, 16, 1), f"{MODULE}.codebooks": of(torch.float16, 4)},
        "aqlm",
        f"{MODULE}.codes",
        "base_model on its model card",
    ),
    "FP8 with scales, and no word of them": (
        {},
        {WEIGHT: of(torch.float8_e4m3fn, 16, 8), f"{MODULE}.scale": of(torch.float32)},
        "a format that the config does not name",
        WEIGHT,
        "base_model on its model card",
    ),
    "FP8 as a plain type": (
        {},
        {WEIGHT: of(torch.float8_e5m2, 16, 8)},
        "FP8 without scales",
        WEIGHT,
        "dtype='bfloat16').save_pretrained",
    ),
    "integers as a weight, and no word of them": (
        {},
        {WEIGHT: of(torch.int8, 16, 8)},
        "a format that the config does not name",
        WEIGHT,
        "base_model on its model card",
    ),
}


def packed(make: MakeCheckpoint, name: str, row: str) -> Path:
    said, held, *_ = LAYOUTS[row]
    plain = {n: t for n, t in tensors(0).items() if n != WEIGHT}
    config = {"quantization_config": dict(said)} if said else {}
    return make(name, {**plain, **held}, config=config)


@pytest.mark.parametrize("row", LAYOUTS)
def test_packed_weights_are_refused_with_format_tensor_and_way_out(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, row: str
) -> None:
    *_, scheme, tensor, way = LAYOUTS[row]
    base, model = (packed(make_checkpoint, name, row) for name in ("base", "model"))
    with pytest.raises(CheckpointError) as caught:
        merge(Recipe([str(model)], "task_arithmetic", base=str(base)), tmp_path / "out")
    said = str(caught.value)
    assert f"{base} is quantised" in said or f"{model} is quantised" in said
    assert f"'{tensor}'" in said
    assert f"({scheme})" in said
    assert way in said
    assert not (tmp_path / "out").exists()


def test_one_packed_checkpoint_among_plain_ones_is_refused_wherever_it_stands(
    make_checkpoint: MakeCheckpoint,
) -> None:
    plain, model = make_checkpoint("plain", 1), packed(make_checkpoint, "model", "MXFP4")
    for base, other in ((plain, model), (model, plain)):
        with pytest.raises(CheckpointError, match=r"model is quantised.*\(MXFP4\)"):
            plan(Recipe([str(other)], "ties", base=str(base), system2=str(plain)))
    with pytest.raises(CheckpointError, match="model is quantised"):
        plan(
            Recipe.from_dict(
                {
                    "merge_method": "slerp",
                    "base_model": str(plain),
                    "models": [{"model": str(plain)}, {"model": str(model)}],
                    "parameters": {"t": 0.5},
                }
            )
        )


def test_inspect_and_calibrate_refuse_packed_weights(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    plain = make_checkpoint("plain", 1)
    model = packed(make_checkpoint, "model", "bitsandbytes 4-bit")
    with pytest.raises(CheckpointError, match=r"model is quantised.*bitsandbytes 4-bit"):
        inspect(plain, [model])
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "w1", "response": "w2 w3"}\n')
    with pytest.raises(CheckpointError, match=r"model is quantised.*bitsandbytes 4-bit"):
        prepare(model, str(rows), "fisher")


def test_search_refuses_packed_weights(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    model = packed(make_checkpoint, "model", "GPTQ")
    values = {
        "base": str(make_checkpoint("plain", 1)),
        "models": [str(model)],
        "method": "task_arithmetic",
        "params": {"scale": {"low": 0.1, "high": 1.0}},
    }
    with pytest.raises(CheckpointError, match=r"model is quantised.*\(GPTQ\)"):
        search(values, tmp_path / "study", ["lab"], trials=2)


def test_an_adapter_on_a_packed_base_is_refused_for_the_base(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    base, adapter = packed(make_checkpoint, "base", "bitsandbytes 4-bit"), tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "r": 1, "lora_alpha": 1}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    place = f"base_model.model.{MODULE}"
    factors = {
        f"{place}.lora_A.weight": torch.ones(1, 8),
        f"{place}.lora_B.weight": torch.ones(16, 1),
    }
    save_file(factors, adapter / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"base is quantised.*bitsandbytes 4-bit"):
        open_model(f"{base}+{adapter}")


@pytest.mark.parametrize("nested", [False, True])
def test_a_quantisation_without_packed_weights_is_dropped_and_said(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, nested: bool
) -> None:
    said: dict[str, Any] = {"quantization_config": {"quant_method": "mxfp4"}}
    config = {"text_config": {"vocab_size": 12, **said}} if nested else said
    base, model = (make_checkpoint(n, i, config=config) for i, n in enumerate(("base", "model")))
    merged = merge(Recipe([str(model)], "task_arithmetic", base=str(base)), tmp_path / "out")
    assert "quantization_config" not in (merged.folder / "config.json").read_text()
    notes = json.loads((merged.folder / "run.json").read_text())["notes"]
    assert any("quantization_config" in note and "mxfp4" in note for note in notes)


def test_integers_that_are_no_weights_are_copied_and_named(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    extra = {"model.position_ids": torch.arange(4)[None], "model.mask": torch.ones(2).bool()}
    base, model = (make_checkpoint(n, {**tensors(i), **extra}) for i, n in enumerate("ab"))
    planned = plan(Recipe([str(model)], "task_arithmetic", base=str(base)))
    (note,) = [note for note in planned.notes if "position_ids" in note]
    assert "2 tensors" in note
    assert "copied" in note
    assert str(model) in note
    merge(Recipe([str(model)], "task_arithmetic", base=str(base)), tmp_path / "out")
