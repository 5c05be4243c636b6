"""mergekit's configurations give mergekit's numbers, held against outputs recorded from it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.support.command import laconic

ROOT = Path(__file__).parents[2]
BENCHMARK = runpy.run_path(str(ROOT / "benchmarks" / "mergekit.py"))
CONFIGURATIONS: dict[str, Any] = BENCHMARK["configurations"]()
RANDOM = [name for name, config in CONFIGURATIONS.items() if BENCHMARK["is_random"](config)]
ROWS = load_file(ROOT / "tests" / "samples" / "mergekit.safetensors")


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny checkpoints that mergekit had, in the folder that is worked in."""
    BENCHMARK["write_checkpoints"](ROWS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_record_is_whole() -> None:
    exact = set(CONFIGURATIONS) - set(RANDOM)
    drawn = {f"{name}.{part}" for name in RANDOM for part in ("mean", "deviation")}
    assert set(ROWS) == {*BENCHMARK["WINDOWS"]} | exact | drawn
    assert RANDOM == ["dare-linear", "dare-ties"]


@pytest.mark.parametrize("name", [name for name in CONFIGURATIONS if name not in RANDOM])
def test_a_configuration_gives_mergekits_numbers(name: str, checkpoints: Path) -> None:
    config = CONFIGURATIONS[name]
    mine = BENCHMARK["merge_here"]({**config, **BENCHMARK["DTYPES"]}, checkpoints / "out")
    at_threshold = BENCHMARK["at_threshold"](ROWS, config)
    found = BENCHMARK["compare"](mine, ROWS[name], at_threshold)
    assert found.elements == 1920
    assert found.threshold <= (120 if config["merge_method"] == "ties" else 0)
    assert found.beyond == 0
    # mergekit multiplies and adds in one operation for linear: means halfway between two numbers.
    assert found.rounding <= (40 if name == "linear" else 2)


def test_the_comparison_sees_a_wrong_number() -> None:
    row = torch.tensor([1.0, 2.0, -3.0, 4.0, -0.0]).bfloat16()
    other = torch.tensor([1.0, 2.015625, -3.25, 9.0, 0.0]).bfloat16()
    skipped = torch.tensor([False, False, False, True, False])
    found = BENCHMARK["compare"](row, other, skipped)
    assert (found.elements, found.threshold, found.rounding, found.beyond) == (5, 1, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", RANDOM)
def test_dare_has_mergekits_distribution(name: str, checkpoints: Path) -> None:
    seeds = 60
    mean, deviation = BENCHMARK["moments"](CONFIGURATIONS[name], checkpoints, seeds)
    furthest, ratio = BENCHMARK["agreement"](mean, deviation, ROWS, name, seeds)
    # Student's t with some 150 degrees of freedom passes 5.5 once in 10^7; there are 1,920 of them.
    assert furthest < 5.5
    assert ratio == pytest.approx(1, abs=0.03)


def test_dare_keeps_the_l1_norm_of_every_tensor(checkpoints: Path) -> None:
    """What tells mergekit's rescaling from the paper's, which keeps it on average only."""
    config = {**CONFIGURATIONS["dare-linear"], "dtype": "float32"}
    merged = BENCHMARK["unflat"](BENCHMARK["merge_here"](config, checkpoints / "out", 3))
    base, model = (BENCHMARK["unflat"](ROWS[name]) for name in ("base", "a"))
    base["lm_head.weight"] = base["model.embed_tokens.weight"]
    for name, tensor in merged.items():
        moved = (tensor - base[name].float()).abs().sum()
        whole = 0.8 * (model[name].float() - base[name].float()).abs().sum()
        assert float(moved) == pytest.approx(float(whole), rel=1e-4), name


def test_the_command_line_runs_a_configuration_unchanged(checkpoints: Path) -> None:
    config = {**CONFIGURATIONS["ties-of-one"], **BENCHMARK["DTYPES"]}
    (checkpoints / "config.yml").write_text(yaml.safe_dump(config))
    told = laconic("merge", "config.yml", "-o", "out", cwd=checkpoints)
    assert "weight 0.7 cancels" in told.stderr
    assert "largest context window" in told.stderr
    row = BENCHMARK["read_row"](checkpoints / "out")
    away = BENCHMARK["compare"](
        row, ROWS["ties-of-one"], BENCHMARK["at_threshold"](ROWS, CONFIGURATIONS["ties-of-one"])
    )
    assert away.beyond == 0
    merged = yaml.safe_load((checkpoints / "out" / "config.json").read_text())
    assert merged["max_position_embeddings"] == 4096


def test_flags_win_over_a_configuration(checkpoints: Path) -> None:
    (checkpoints / "config.yml").write_text(yaml.safe_dump(CONFIGURATIONS["ties-of-one"]))
    flags = ("--set", "density=0.4", "--seed", 5, "--dry-run", "--json")
    told = laconic("merge", "config.yml", *flags, "-o", "out", cwd=checkpoints)
    assert '"density": 0.4' in told.stdout


@pytest.mark.parametrize("source", ["union", "base", "lab:system1"])
def test_a_tokenizers_donor_is_taken_from_a_configuration(source: str, tmp_path: Path) -> None:
    config = {
        "merge_method": "task_arithmetic",
        "base_model": "lab:base",
        "models": [{"model": "lab:system2", "parameters": {"weight": 0.5}}],
        "tokenizer_source": source,
    }
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    told = laconic("merge", "config.yml", "--dry-run", "--json", "-o", "out", cwd=tmp_path)
    assert yaml.safe_load(told.stdout)["tokenizer"] == source.replace("base", "lab:base")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer_source": "union"}, "no tokenizer.json"),
        ({"chat_template": "chatml"}, "--set chat_template=FILE.jinja"),
        ({"merge_method": "della"}, "not supported"),
        ({"parameters": {"lambda": [{"filter": "mpl", "value": 1}]}}, "no tensor matches '*mpl*'"),
        (
            {
                "models": None,
                "slices": [{"sources": [{"model": "a", "layer_range": [0, 2]}]}],
                "parameters": {"weight": 1},
            },
            "speaks of 2 layers",
        ),
    ],
)
def test_a_wrong_configuration_ends_in_one_sentence(
    change: dict[str, Any], message: str, checkpoints: Path
) -> None:
    config = {**CONFIGURATIONS["arithmetic"], **change}
    (checkpoints / "config.yml").write_text(yaml.safe_dump(config))
    told = laconic("merge", "config.yml", "-o", "out", cwd=checkpoints, code=2)
    assert message in told.stderr.splitlines()[-1]
    assert not (checkpoints / "out").exists()
