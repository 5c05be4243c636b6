"""Rounding of trained weights: right on average, still where nothing moved, told in the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from laconic.checkpoints.checkpoint import Checkpoint, open_checkpoint
from laconic.checkpoints.computed_tensors import float32, rounded
from laconic.training.recipe import TrainRecipe
from laconic.training.rounding import (
    as_delivered,
    outlook,
    outlook_text,
    rates,
    stochastic,
    survival,
)
from tests.support.trainings import recipe_values

TENSOR = "model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("dtype", "step"),
    [("BF16", 2.0**-7), ("F16", 2.0**-10)],
)
@pytest.mark.parametrize("part", [0.0, 0.25, 0.75, 0.9375])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_goes_up_as_often_as_it_is_far_up(
    dtype: str, step: float, part: float, sign: int
) -> None:
    every = (np.arange(65536) / 65536).astype(np.float32)
    values = (0 * every + sign * (1 + part * step)).astype(np.float32)
    found = float32(stochastic(values, dtype, every), dtype)
    assert set(np.abs(found)) <= {1.0, 1 + step}
    assert (np.abs(found) > 1).mean() == part


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_what_a_type_holds_stays_and_what_is_no_number_shows(dtype: str) -> None:
    values = np.array([0.0, -1.5, 3e38 if dtype == "BF16" else 65504, 1e-7, np.inf], np.float32)
    values = float32(rounded(values, dtype), dtype)
    chance = np.full_like(values, 1 - 2.0**-24)
    assert (float32(stochastic(values, dtype, chance), dtype) == values).all()
    broken = stochastic(np.full(3, np.nan, np.float32), dtype, chance[:3])
    assert np.isnan(float32(broken, dtype)).all()


def moved(system2: Checkpoint, share: float) -> Checkpoint:
    """System 2 with one tensor moved by a share of a step of bfloat16, away from zero."""
    spec = replace(system2.specs[TENSOR], dtype="F32")
    before = float32(system2.stored(TENSOR), "BF16")
    after = before * np.float32(1 + share * 2.0**-7)  # a step is this much of a power of two
    return system2.with_computed([spec], lambda _: after, mark=f"moved {share}")


def test_an_update_below_half_a_step_survives_on_average() -> None:
    system2 = open_checkpoint("lab:system2")
    trained = moved(system2, 0.2)
    found = survival(system2, trained, as_delivered(trained, system2, seed=0))
    assert found.dtype == "bfloat16"
    assert found.nearest == 0.0
    assert found.kept == pytest.approx(1, abs=0.05)
    assert "of the update is kept (rounding to nearest would keep 0.0%)" in found.to_text()
    still = survival(system2, system2, as_delivered(system2, system2, seed=0))
    assert (still.kept, still.nearest) == (None, None)
    assert "no weight has moved" in still.to_text()


def test_rounding_is_a_function_of_the_seed_and_the_element() -> None:
    system2 = open_checkpoint("lab:system2")
    one, again, other = (
        as_delivered(moved(system2, 0.3), system2, seed).stored(TENSOR) for seed in (0, 0, 1)
    )
    assert (one == again).all()
    assert (one != other).any()
    further = as_delivered(moved(system2, 0.4), system2, 0).stored(TENSOR)
    assert ((further.astype(int) - one) >= 0).all()  # what went up stays up


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_rates_of_a_plan_are_those_of_the_trainer(schedule: str) -> None:
    from transformers import get_scheduler

    from laconic.training.loop import SCHEDULES

    recipe = TrainRecipe.from_dict(
        recipe_values(Path("pools"), schedule=schedule, warmup=3, rate=1e-3)
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler: Any = get_scheduler(SCHEDULES[schedule], optimizer, 3, recipe.steps)
    wanted = []
    for _ in range(recipe.steps):
        wanted.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert list(rates(recipe)) == pytest.approx(wanted)


def test_a_plan_warns_of_a_rate_that_the_type_cannot_hold() -> None:
    system2 = open_checkpoint("lab:system2")
    assert system2.config["initializer_range"] == 0.05  # a step of bfloat16 there: 2**-5 * 2**-7

    def plan(**changes: Any) -> dict[str, Any]:
        recipe = TrainRecipe.from_dict(recipe_values(Path("pools"), **changes))
        return outlook(recipe, system2)

    low = plan(rate=1e-6, steps=12, warmup=5, schedule="linear")
    assert low["movement"] == pytest.approx(6e-6)  # 0 .2 .4 .6 .8, then 7/7 down to 1/7
    assert low["step"] == 2.0**-12
    assert "at rate 1e-06 a weight moves by about 6.0e-06 at most" in low["warning"]
    assert plan(rate=1e-4)["warning"] == ""
    assert "rounded stochastically" in outlook_text(plan(rate=1e-4))
    adapters = plan(rate=1e-4, lora={"rank": 3, "alpha": 6})
    assert adapters["movement"] == pytest.approx(8e-4 * 2 / 128**0.5)
