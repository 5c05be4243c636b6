"""The contract of controllers: pure, deterministic, JSON, and a mixture after every update."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from laconic.training.bounds import Bounds, Measurement
from laconic.training.controllers.contract import CONTROLLERS, Controller, State, load_controller

if TYPE_CHECKING:
    from laconic.registry import Plugin

BOUNDS = Bounds(
    Measurement(0, 512, 0.289, 0.020, 1121.0, 60.0),
    Measurement(0, 512, 0.756, 0.019, 7380.0, 180.0),
)
#: By step, lengths in tokens and accuracies that a training could show, the extremes included.
SHOWN = ((0, 7380, 0.756), (32, 4100, 0.74), (64, 0, 0.0), (96, 9000, 1.0), (128, 1121, 0.4))


def begin(plugin: Plugin[Any], params: dict[str, Any] | None = None) -> tuple[Controller, State]:
    """A controller with the parameters it is tested with, and the mixture before training."""
    chosen = load_controller(plugin.name, params or plugin.traits["example"])
    roles: Any = {"short": "efficiency", "long": "accuracy"}
    return chosen, chosen.start({"short": 0.4, "long": 0.6}, roles=roles, bounds=BOUNDS)


def shown() -> list[Measurement]:
    """What is measured, in order."""
    return [
        Measurement(
            step=step,
            n=512,
            accuracy=accuracy,
            accuracy_se=math.sqrt(accuracy * (1 - accuracy) / 512),
            length=length,
            length_se=100.0,
            excess={"short": 0.3, "long": accuracy},
            excess_se={"short": 0.01, "long": 0.02},
        )
        for step, length, accuracy in SHOWN
    ]


def follow(chosen: Controller, state: State) -> list[tuple[State, dict[str, Any]]]:
    """Every state and record of a training."""
    path = []
    for measured in shown():
        state, record = chosen.update(state, measured)
        path.append((state, record))
    return path


@pytest.mark.parametrize("plugin", CONTROLLERS.all(), ids=lambda p: p.name)
def test_a_controller_gives_a_mixture_and_a_record_after_every_update(plugin: Plugin[Any]) -> None:
    chosen, state = begin(plugin)
    for (after, record), measured in zip(follow(chosen, state), shown(), strict=True):
        assert math.isclose(sum(after.weights), 1, abs_tol=1e-9)
        assert all(0 <= weight <= 1 for weight in after.weights)
        assert record["before"] == dict(zip(state.pools, state.weights, strict=True))
        assert record["after"] == dict(zip(after.pools, after.weights, strict=True))
        assert record["measured"]["accuracy_se"] == measured.accuracy_se
        assert record["params"] == dict(chosen.params)
        assert json.loads(json.dumps(record, allow_nan=False)) is not None
        state = after


@pytest.mark.parametrize("plugin", CONTROLLERS.all(), ids=lambda p: p.name)
def test_a_controller_goes_on_from_json_as_if_it_had_never_stopped(plugin: Plugin[Any]) -> None:
    chosen, state = begin(plugin)
    whole = follow(chosen, state)
    for measured, expected in zip(shown(), whole, strict=True):
        kept = json.loads(json.dumps(state.to_dict(), allow_nan=False))
        assert State.from_dict(kept) == state
        state, record = chosen.update(State.from_dict(kept), measured)
        assert (state, record) == expected


@pytest.mark.parametrize("plugin", CONTROLLERS.all(), ids=lambda p: p.name)
def test_a_controller_changes_nothing_it_was_given(plugin: Plugin[Any]) -> None:
    chosen, state = begin(plugin)
    for measured in shown():
        before = json.dumps([state.to_dict(), dict(chosen.params), dict(measured.excess)])
        new, _ = chosen.update(state, measured)
        assert json.dumps([state.to_dict(), dict(chosen.params), dict(measured.excess)]) == before
        state = new


@pytest.mark.parametrize("plugin", CONTROLLERS.all(), ids=lambda p: p.name)
def test_a_controllers_presets_are_parameters(plugin: Plugin[Any]) -> None:
    for name, values in plugin.traits["presets"].items():
        chosen, state = begin(plugin, {**plugin.traits["example"], "preset": name})
        assert values.items() <= chosen.params.items()
        assert len(follow(chosen, state)) == len(SHOWN)


@pytest.mark.parametrize("plugin", CONTROLLERS.all(), ids=lambda p: p.name)
def test_a_controller_explains_itself(plugin: Plugin[Any]) -> None:
    assert plugin.summary.endswith(".")
    assert plugin.source
    assert [p.name for p in plugin.parameters if not p.help] == []
