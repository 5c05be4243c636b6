"""The contract of objectives: settings that a recipe holds, and settings that TRL accepts."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from laconic.errors import RecipeError
from laconic.training.objectives.contract import OBJECTIVES, Objective, load_objective
from laconic.training.recipe import TrainRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.registry import Plugin

STEPS = 8


def begin(plugin: Plugin[Any]) -> Objective:
    """An objective with the arguments it is tested with."""
    return load_objective({plugin.name: dict(plugin.traits["example"])})


def recipe(plugin: Plugin[Any]) -> TrainRecipe:
    """A recipe of the objective."""
    values: dict[str, Any] = {
        "model": "lab:system2",
        "objective": begin(plugin).to_plain(),
        "dev": {"task": "lab:split=dev"},
        "controller": "static",
        "steps": STEPS,
        "every": 4,
        "batch": {"per_device": 8},
        "max_length": 1024,
    }
    if plugin.traits["data"] != "problems":
        values["pools"] = {"folder": "pools"}
    return TrainRecipe.from_dict(values)


@pytest.mark.parametrize("plugin", OBJECTIVES.all(), ids=lambda p: p.name)
def test_a_recipe_holds_an_objective_as_it_was_written(plugin: Plugin[Any]) -> None:
    chosen = begin(plugin)
    plain = json.loads(json.dumps(chosen.to_plain(), allow_nan=False))
    assert load_objective(plain) == chosen
    read = recipe(plugin)
    assert read.objective == chosen
    assert TrainRecipe.from_dict(read.to_dict()) == read


@pytest.mark.parametrize("plugin", OBJECTIVES.all(), ids=lambda p: p.name)
def test_an_objective_refuses_arguments_that_it_does_not_have(plugin: Plugin[Any]) -> None:
    with pytest.raises(RecipeError, match="'no_such_argument'"):
        load_objective({plugin.name: {**plugin.traits["example"], "no_such_argument": 1}})


@pytest.mark.parametrize("plugin", OBJECTIVES.all(), ids=lambda p: p.name)
def test_an_objective_says_what_it_reads_and_what_it_generates(plugin: Plugin[Any]) -> None:
    chosen = begin(plugin)
    chosen.check(STEPS)
    generated = chosen.generated_tokens(STEPS)
    assert math.isfinite(generated)
    assert generated >= 0
    if chosen.data == "problems":
        assert chosen.problems.group >= 1
        assert 0 < generated <= chosen.problems.longest
    else:
        assert chosen.data in ("rows", "pairs")


@pytest.mark.parametrize("plugin", OBJECTIVES.all(), ids=lambda p: p.name)
def test_trl_accepts_the_settings_of_an_objective(plugin: Plugin[Any], tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from laconic.training.loop import settings
    from laconic.training.run_folder import RunFolder

    read = recipe(plugin)
    parts = read.objective.trl(read)
    assert callable(parts.trainer)
    args = settings(read, parts, RunFolder(tmp_path))
    for name, value in parts.options.items():
        assert getattr(args, name) == value
    assert args.max_steps == STEPS


@pytest.mark.parametrize("plugin", OBJECTIVES.all(), ids=lambda p: p.name)
def test_an_objective_explains_itself(plugin: Plugin[Any]) -> None:
    assert plugin.summary.endswith(".")
    assert plugin.source
    assert [p.name for p in plugin.parameters if not p.help] == []
