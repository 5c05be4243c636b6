"""Calibration files: what is written is read back, and a file that is none is refused in words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from laconic.calibration.record import ENTRY, Calibration, calibrate_command, read_calibration
from laconic.errors import CalibrationError

if TYPE_CHECKING:
    from pathlib import Path

MADE = Calibration(
    kind="activations",
    model="0123456789abcdef",
    model_name="lab:base",
    data="fedcba9876543210",
    data_name="prompts.jsonl",
    samples=3,
    tokens=40,
    tensors={
        "model.layers.10.mlp.down_proj.weight": torch.arange(4.0),
        "model.layers.2.mlp.down_proj.weight": torch.arange(6.0).view(2, 3).T,
        "model.norm.weight": torch.tensor(0.5),
    },
    settings={"max_tokens": 2048},
)


def test_a_calibration_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "stats" / "base.safetensors"
    MADE.write(path)
    read = read_calibration(path)
    assert read.facts() == MADE.facts()
    assert list(read.tensors) == [
        "model.layers.2.mlp.down_proj.weight",
        "model.layers.10.mlp.down_proj.weight",
        "model.norm.weight",
    ]
    assert all(torch.equal(read.tensors[name], MADE.tensors[name]) for name in MADE.tensors)
    assert "model.norm.bias" not in read.tensors
    assert [p.name for p in path.parent.iterdir()] == ["base.safetensors"]


def test_other_tools_can_read_the_file_and_equal_ones_have_equal_bytes(tmp_path: Path) -> None:
    MADE.write(tmp_path / "one.safetensors")
    MADE.write(tmp_path / "two.safetensors")
    held = load_file(tmp_path / "one.safetensors")
    assert all(torch.equal(held[name], tensor) for name, tensor in MADE.tensors.items())
    one, two = ((tmp_path / f"{n}.safetensors").read_bytes() for n in ("one", "two"))
    assert one == two


def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(CalibrationError, match="is missing"):
        read_calibration(path)
    with pytest.raises(CalibrationError, match="is a folder"):
        read_calibration(tmp_path)
    save_file({"w": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(CalibrationError, match="no calibration: it is a safetensors file without"):
        read_calibration(path)
    path.write_text("hello")
    with pytest.raises(CalibrationError, match="damaged, or no calibration"):
        read_calibration(path)


def test_a_calibration_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    MADE.write(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CalibrationError, match="damaged"):
        read_calibration(path)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"version": 2}, "is a calibration of version 2, and this laconic reads version 1"),
        ({"kind": "grams"}, "damaged: its 'kind' is 'grams'"),
        ({"samples": 0}, "damaged: its 'samples' is 0"),
        ({"model": None}, "damaged: its 'model' is None"),
        ({"settings": []}, r"damaged: its 'settings' is \[\]"),
    ],
)
def test_a_calibration_with_facts_that_cannot_be_is_refused(
    changed: dict[str, object], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "base.safetensors"
    save_file({"w": torch.zeros(2)}, path, metadata={ENTRY: json.dumps(MADE.facts() | changed)})
    with pytest.raises(CalibrationError, match=told):
        read_calibration(path)


def test_statistics_of_another_type_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    facts = json.dumps(MADE.facts())
    save_file({"w": torch.zeros(2, dtype=torch.float16)}, path, metadata={ENTRY: facts})
    with pytest.raises(CalibrationError, match="'w' is not float32"):
        read_calibration(path)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(CalibrationError, match="cannot be written"):
        MADE.write(tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_half_precision_statistics_are_stored_in_float32(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    replace(MADE, tensors={"w": torch.full((2,), 0.5, dtype=torch.bfloat16)}).write(path)
    assert torch.equal(read_calibration(path).tensors["w"], torch.full((2,), 0.5))


def test_the_command_that_makes_a_calibration_can_be_typed() -> None:
    assert calibrate_command("lab:base", "activations") == (
        "laconic calibrate lab:base --data FILE --stats activations "
        "-o stats/lab-base-activations.safetensors"
    )
    assert calibrate_command("my models/a", "mutual_information", "org/name") == (
        "laconic calibrate 'my models/a' --data FILE --stats mutual_information "
        "--against org/name -o stats/a-mutual_information.safetensors"
    )
