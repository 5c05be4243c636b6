"""Methods on whole tensors and presets, on the lab pair, as the command line runs them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from typer.testing import CliRunner

from laconic.checkpoints.checkpoint import Checkpoint, open_checkpoint
from laconic.checkpoints.resources import START_BYTES
from laconic.cli import app
from laconic.errors import LaconicError

if TYPE_CHECKING:
    from pathlib import Path

BASE, SLOW, FAST = "lab:base", "lab:system2", "lab:system1"
PAIR = ("--base", BASE, "--model", SLOW)
BOTH = ("--base", BASE, "--model", SLOW, "--model", FAST, "--system2", SLOW)
#: What a merge is asked for.
RUNS: dict[str, tuple[str, ...]] = {
    "lore": (*PAIR, "--method", "lore", "--set", "mu=0.05"),
    "lore without a base": (
        *("--model", f"{FAST}=0.2", "--model", f"{SLOW}=0.8", "--system2", SLOW),
        *("--method", "lore"),
    ),
    "twin_svd": (*PAIR, "--method", "twin_svd", "--set", "density=0.2"),
    "sce": (*BOTH, "--method", "sce", "--set", "density=0.5"),
    "model_stock": (*BOTH, "--method", "model_stock"),
    "nuslerp": (*BOTH, "--method", "nuslerp", "--set", "along=row"),
    "wudi": (*BOTH, "--method", "wudi", "--set", "steps=5"),
    "della": (*PAIR, "--method", "task_arithmetic", "--before", "della:density=0.6"),
    "breadcrumbs": (*PAIR, "--method", "task_arithmetic", "--before", "breadcrumbs"),
    "preset": (*PAIR, "--preset", "l2s-7b-ties"),
}
MATRIX = "model.layers.1.mlp.up_proj.weight"


def run(*arguments: str) -> str:
    """The command line in this process; its error, if it is one of ours, is raised."""
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_merge_of_the_lab_pair_is_whole_and_is_neither_end(name: str, tmp_path: Path) -> None:
    run("merge", *RUNS[name], "-o", str(tmp_path / "out"))
    merged = Checkpoint(tmp_path / "out")
    base, slow = (open_checkpoint(m) for m in (BASE, SLOW))
    assert merged.window == slow.window
    assert set(merged.specs) == set(slow.specs)
    assert all(bool(torch.isfinite(merged.read(n).float()).all()) for n in merged.specs)
    for end in (base, slow):
        assert not torch.equal(merged.read(MATRIX), end.read(MATRIX))
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["complete"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*PAIR, "--method", "model_stock"), "takes at least 2 models, the base not counted"),
        ((*PAIR, "--method", "nuslerp"), "takes exactly 2 models, the base not counted"),
        ((*PAIR, "--method", "twin_svd", "--set", "rank=-1"), "a whole number in [0, inf) or null"),
        ((*PAIR, "--method", "lore", "--set", "mu=-1"), "lore.mu must be a number in [0, inf)"),
        (
            (*PAIR, "--method", "ties", "--before", "della:density=0.9"),
            "With density 0.9, epsilon can be at most 0.1",
        ),
        ((*BOTH, "--method", "sce", "--model", f"{SLOW}=2"), "sce has no use for weights"),
        (("--model", SLOW, "--preset", "l2s-7b-ties"), "needs --base (System 1) and --model"),
        ((*PAIR, "--preset", "l2s-7b-tise"), "Did you mean 'l2s-7b-ties'"),
        (("recipe.yaml", *PAIR, "--preset", "l2s-7b-ta"), "either a recipe file or --preset"),
    ],
)
def test_wrong_input_ends_in_one_sentence(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("models: [lab:system2]\nmethod: average\n")
    with pytest.raises(LaconicError) as raised:
        run("merge", *arguments, "-o", "out")
    assert message in str(raised.value)
    assert [p.name for p in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        ((*PAIR, "--method", "sce", "--set", "density=0.5"), "gives back the base"),
        ((*PAIR, "--method", "wudi"), "wudi of one model is task_arithmetic"),
        (
            ("--model", FAST, "--model", SLOW, "--system2", SLOW, "--method", "lore"),
            "their mean, whatever mu is",
        ),
        ((*PAIR, "--method", "sce", "--set", "density=[0.5, 1.0, 1.0]"), "of 50 tensors)"),
    ],
)
def test_the_plan_says_where_a_method_is_something_simpler(
    arguments: tuple[str, ...], note: str, tmp_path: Path
) -> None:
    told = run("merge", *arguments, "--dry-run", "--json", "-o", str(tmp_path / "out"))
    notes: list[Any] = json.loads(told)["notes"]
    assert any(note in n for n in notes)


def test_the_plan_counts_the_whole_tensors_that_a_method_holds(tmp_path: Path) -> None:
    def memory(*flags: str) -> int:
        told = run("merge", *PAIR, *flags, "--dry-run", "--json", "-o", str(tmp_path / "out"))
        bytes_: int = json.loads(told)["bytes_peak_memory"]
        return bytes_

    largest = 4 * max(spec.nbytes // 2 for spec in open_checkpoint(SLOW).specs.values())
    # Twice the members and 3 the engine's, and what the steps hold themselves.
    assert memory("--method", "twin_svd") == START_BYTES + (2 * 2 + 3 + 3) * largest
    steps = ("--before", "breadcrumbs", "--method", "lore")
    assert memory(*steps) == START_BYTES + (2 * 2 + 3 + 4) * largest


def test_presets_are_listed_and_shown_with_the_papers_figures() -> None:
    listed = json.loads(run("list", "presets", "--json"))
    assert {"l2s-7b-ties", "l2s-qwen3-8b-ties"} <= {entry["name"] for entry in listed}
    assert "l2s-32b-ties" in run("list", "presets")
    assert "accuracy 54.8, length -53.0 %" in " ".join(run("show", "l2s-7b-ties").split())
    shown = " ".join(run("show", "l2s-1.5b-ties").split())
    assert "75.9 (393.8)" in shown
    assert "4,096 tokens" in shown
    assert "head of Qwen2.5-Math-1.5B is tied" in shown
    assert json.loads(run("show", "l2s-7b-ta", "--json"))["average"] == 53.5


def test_show_explains_needs_and_cost() -> None:
    shown = json.loads(run("show", "twin_svd", "--json"))
    assert shown["needs"][0] == "Takes at least 1 model and a base."
    assert "truncated SVD" in shown["needs"][-1]
    assert "2406.15479" in shown["source"]
    text = " ".join(run("show", "lore").split())
    assert "What is taken from each" in text
    assert "Args:" not in text
    assert "Liu et al. 2025" in " ".join(run("list", "methods").split())
