from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from laconic.errors import LaconicError, RecipeError, TrainError
from laconic.training.bounds import Bounds, Measurement
from laconic.training.controllers.contract import Controller, State, load_controller, reweigh

ROLES: Any = {"short": "efficiency", "long": "accuracy"}


def measured(accuracy: float, length: float, step: int = 1, **more: Any) -> Measurement:
    return Measurement(
        **{
            "step": step,
            "n": 512,
            "accuracy": accuracy,
            "accuracy_se": 0.01,
            "length": length,
            "length_se": 50.0,
            **more,
        }
    )


#: Bounds with gaps of 1 in 2 of accuracy and 1,000 tokens, so that benefits are easy to ask for.
BOUNDS = Bounds(measured(0.25, 1000, step=0), measured(0.75, 2000, step=0))


def start(spec: str, weights: Mapping[str, float] | None = None) -> tuple[Controller, State]:
    chosen = load_controller(spec)
    return chosen, chosen.start(weights or {"short": 0.5, "long": 0.5}, roles=ROLES, bounds=BOUNDS)


def moved(spec: str, *measurements: Measurement, **weights: float) -> tuple[float, ...]:
    chosen, state = start(spec, weights or None)
    for one in measurements:
        state, _ = chosen.update(state, one)
    return state.weights


def benefits(short: float, long: float, step: int = 1) -> Measurement:
    """A measurement at which the two roles have these benefits."""
    return measured(0.75 - 0.5 * long, 1000 + 1000 * short, step)


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        ((0.5, 0.5), (1, 0), (0.98196559, 0.01803441)),
        ((0.2, 0.8), (0.5, 0.1), (0.55321868, 0.44678132)),
        ((0.9999, 0.0001), (0.1, 0.6), (0.99921164, 0.00078836)),
    ],
)
def test_the_papers_rule_gives_the_papers_numbers(
    before: tuple[float, float], asked: tuple[float, float], after: tuple[float, float]
) -> None:
    weights = moved("tldr:preset=paper", benefits(*asked), short=before[0], long=before[1])
    assert weights == pytest.approx(after, abs=1e-8)


def test_equal_benefits_without_a_floor_change_nothing() -> None:
    weights = moved("tldr:preset=paper,floor=0", benefits(0.4, 0.4), short=0.3, long=0.7)
    assert weights == pytest.approx((0.3, 0.7), abs=1e-12)


def test_the_papers_rule_starts_with_a_bang_and_the_damped_one_with_a_step() -> None:
    untouched = measured(0.75, 2000)
    assert moved("tldr:preset=paper", untouched)[1] == pytest.approx(0.018, abs=1e-3)
    assert moved("tldr", untouched)[1] == pytest.approx(0.02 / 2 + 0.98 / (1 + math.e), abs=1e-12)


def test_no_update_leaves_the_floor_or_moves_the_odds_too_far() -> None:
    chosen, state = start("tldr:eta=50,floor=0.1,max_step=2")
    for step in range(1, 30):
        new, _ = chosen.update(state, benefits(1, 0, step))
        assert min(new.weights) >= 0.05
        odds = [math.log(w[0] / w[1]) for w in (state.weights, new.weights)]
        assert abs(odds[1] - odds[0]) <= 2 + 1e-9
        state = new
    tilted = state.weights[1] / (state.weights[1] + state.weights[0] * math.exp(2))
    assert state.weights[1] == pytest.approx(0.9 * tilted + 0.05, abs=1e-9)


def test_benefits_are_capped() -> None:
    capped, asked = moved("tldr:cap=0.5", benefits(3, 0)), moved("tldr:cap=0.5", benefits(0.5, 0))
    assert capped == pytest.approx(asked, abs=1e-12)
    assert moved("tldr:cap=null", benefits(1.2, 0)) != moved("tldr:cap=null", benefits(1, 0))


def test_moving_averages_weigh_the_newest_by_recent() -> None:
    chosen, state = start("tldr:recent=0.25,deadband=0")
    for one in (measured(0.7, 2000, 1), measured(0.5, 1200, 2, accuracy_se=0.03)):
        state, record = chosen.update(state, one)
    assert record["notes"]["length_averaged"] == pytest.approx(0.25 * 1200 + 0.75 * 2000)
    assert record["notes"]["accuracy_averaged"] == pytest.approx(0.25 * 0.5 + 0.75 * 0.7)
    assert record["notes"]["accuracy_se_averaged"] == pytest.approx(0.25 * 0.03 + 0.75 * 0.01)
    assert record["notes"]["benefit_accuracy"] == pytest.approx((0.75 - 0.65) / 0.5)


def test_a_loss_within_the_noise_counts_as_none() -> None:
    for accuracy, expected in ((0.735, 0.0), (0.725, 0.05)):
        chosen, state = start("tldr:deadband=2,recent=1")
        _, record = chosen.update(state, measured(accuracy, 1000))
        assert record["notes"]["benefit_accuracy"] == pytest.approx(expected, abs=1e-12)


def test_pools_of_one_role_keep_their_proportion_and_others_get_no_push() -> None:
    chosen = load_controller("tldr:floor=0")
    pools = {"gsm8k": 0.1, "math": 0.3, "s1": 0.4, "chat": 0.2}
    roles: Any = {"gsm8k": "efficiency", "math": "efficiency", "s1": "accuracy"}
    state, _ = chosen.update(chosen.start(pools, roles=roles, bounds=BOUNDS), benefits(1, 0))
    assert state.weights[1] / state.weights[0] == pytest.approx(3)
    assert state.weights[2] / state.weights[3] == pytest.approx(2)
    assert state.weights[0] / state.weights[3] == pytest.approx(0.5 * math.e)


def test_the_price_of_accuracy_rises_with_misses_and_falls_without() -> None:
    chosen, state = start("constrained:margin=0.05,rate=2")
    prices = []
    for step, accuracy in enumerate((0.72, 0.6, 0.5, 0.71, 0.75), start=1):
        state, record = chosen.update(state, measured(accuracy, 1500, step))
        prices.append(record["notes"]["price"])
    assert prices == pytest.approx([0.0, 0.4, 1.2, 1.16, 0.96])


def test_a_margin_below_the_noise_gives_way_to_it() -> None:
    chosen, state = start("constrained:margin=0.01")
    _, record = chosen.update(state, measured(0.70, 1500, accuracy_se=0.02))
    assert record["notes"]["margin"] == 0.02
    assert record["notes"]["miss"] == pytest.approx((0.75 - 0.02 - 0.70) / 0.5)


def test_lower_accuracy_never_lowers_the_share_of_long_answers() -> None:
    for spec in ("tldr", "tldr:preset=paper", "constrained"):
        shares = [moved(spec, measured(a / 100, 1500))[1] for a in range(75, 20, -1)]
        assert all(b >= a for a, b in itertools.pairwise(shares)), spec


def plant(spec: str, updates: int) -> list[tuple[float, float, float]]:
    """Short share, accuracy and length of a model that follows its mixture half-way a step."""
    bounds = Bounds(measured(0.289, 1121, step=0), measured(0.756, 7380, step=0))
    chosen = load_controller(spec)
    state = chosen.start({"short": 0.5, "long": 0.5}, roles=ROLES, bounds=bounds)
    accuracy, length, path = 0.756, 7380.0, []
    for step in range(updates):
        state, _ = chosen.update(state, measured(accuracy, length, step, accuracy_se=0.0))
        share = state.weights[0]
        length += (7380 - 6259 * share**0.7 - length) / 2
        accuracy += (0.756 - 0.2335 * share**2 - accuracy) / 2
        path.append((share, accuracy, length))
    return path


def test_a_model_that_follows_its_mixture_comes_to_rest() -> None:
    for spec in ("tldr:recent=1,deadband=0", "constrained"):
        path = plant(spec, 300)
        for share, accuracy, length in path[-20:]:
            assert 0.01 <= share <= 0.99
            assert (accuracy, length) == pytest.approx(path[-1][1:], rel=1e-3)
    kept = plant("constrained:margin=0.02", 300)[-1]
    assert kept[1] == pytest.approx(0.756 - 0.02, abs=1e-3)
    assert kept[2] < 0.75 * 7380


def test_static_stays_and_schedule_follows_its_table() -> None:
    assert moved("static", benefits(1, 0), short=0.3, long=0.7) == (0.3, 0.7)
    even, last = '{"long": 0.5, "short": 0.5}', '{"long": 0.1, "short": 0.9}'
    table = f"schedule:points=[[10,{even}],[20,{last}]]"
    expected = {1: 0.5, 10: 0.5, 15: 0.7, 20: 0.9, 99: 0.9}
    for step, share in expected.items():
        assert moved(table, benefits(1, 0, step))[0] == pytest.approx(share)
    assert moved(f"{table},between=step", benefits(1, 0, 19))[0] == 0.5


@pytest.mark.parametrize("order", [("short", "long"), ("long", "short")])
def test_a_schedule_gives_each_pool_its_own_weight_whatever_the_order_of_keys(
    order: tuple[str, ...],
) -> None:
    table = {"points": [[0, {"short": 0.9, "long": 0.1}], [32, {"short": 0.2, "long": 0.8}]]}
    chosen = load_controller("schedule", {**table, "between": "step"})
    state = chosen.start({name: {"short": 0.9, "long": 0.1}[name] for name in order})
    _, record = chosen.update(state, measured(0.5, 10, 32))
    assert record["after"] == {"short": 0.2, "long": 0.8}


def test_a_schedule_without_names_is_refused_with_the_lines_to_write() -> None:
    chosen = load_controller("schedule", {"points": [[0, 0.9, 0.1], [16, 0.5, 0.5]]})
    with pytest.raises(TrainError, match="The order of a recipe's keys says nothing") as raised:
        chosen.start({"short": 0.9, "long": 0.1})
    written = str(raised.value).partition("write:\npoints: ")[2]
    points = yaml.safe_load(written)
    assert points == [[0, {"short": 0.9, "long": 0.1}], [16, {"short": 0.5, "long": 0.5}]]
    again = load_controller("schedule", {"points": points})
    assert again.start({"short": 0.9, "long": 0.1}).weights == (0.9, 0.1)


def test_doremi_raises_pools_by_their_excess_loss_and_remembers_the_mean() -> None:
    chosen, state = start("doremi:eta=2,floor=0.1")
    shares = []
    for step in (1, 2):
        losses = {"short": 0.1, "long": 0.6}
        state, record = chosen.update(state, measured(0.7, 1500, step, excess=losses))
        shares.append(state.weights[1])
    first = 0.9 * math.e / (1 + math.e) + 0.05
    second = 0.9 * first * math.e / (1 - first + first * math.e) + 0.05
    assert shares == pytest.approx([first, second], abs=1e-12)
    assert record["notes"]["mean_long"] == pytest.approx((first + second) / 2)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(lambda w: sum(w) > 1e-3),
    st.data(),
    st.floats(0, 0.9),
    st.none() | st.floats(1e-3, 10),
)
def test_every_step_gives_a_mixture_above_the_floor(
    raw: list[float], data: st.DataObject, floor: float, most: float | None
) -> None:
    weights = [w / sum(raw) for w in raw]
    push = data.draw(st.lists(st.floats(0, 1e3), min_size=len(raw), max_size=len(raw)))
    new = reweigh(weights, push, floor=floor, max_step=most)
    assert math.isclose(sum(new), 1, abs_tol=1e-9)
    assert min(new) >= floor / len(new) - 1e-12


def test_what_cannot_be_a_measurement_is_named() -> None:
    for values, told in (
        ({"accuracy": math.nan}, "step 1: accuracy is nan"),
        ({"length": math.inf}, "length is inf"),
        ({"length": -1.0}, "length is -1.0"),
        ({"accuracy": 75.6}, "accuracy is 75.6; it is a fraction"),
        ({"truncated": 1.5}, "truncated is 1.5; it is a fraction"),
        ({"accuracy_se": math.nan}, "accuracy_se is nan"),
        ({"n": 0}, "rests on 0 responses"),
        ({"excess": {"short": math.nan}}, "excess of 'short' is nan"),
    ):
        with pytest.raises(TrainError, match=told):
            replace(measured(0.7, 1500), **values)


@pytest.mark.parametrize(
    ("one", "two", "told"),
    [
        ((0.75, 2000), (0.25, 1000), "swapped.*accuracy 0.75 at 2000.*Exchange"),
        ((0.25, 2000), (0.75, 2000.5), "no length to save"),
        ((0.25, 3508), (0.75, 2000), "no length to save.*chat template"),
        ((0.75, 1000), (0.75, 2000), "no accuracy to protect"),
        ((0.80, 1000), (0.75, 2000), "no accuracy to protect"),
    ],
)
def test_bounds_that_cannot_steer_are_refused(
    one: tuple[float, float], two: tuple[float, float], told: str
) -> None:
    with pytest.raises(TrainError, match=told):
        Bounds(measured(*one), measured(*two))
    with pytest.raises(TrainError, match=r"different conditions \('a' and 'b'\)"):
        Bounds(measured(0.2, 1, conditions="a"), measured(0.7, 9, conditions="b"))


def run(spec: str, *, pools: Mapping[str, float], roles: Any, bounds: Bounds | None) -> None:
    load_controller(spec).start(pools, roles=roles, bounds=bounds)


EVEN = {"short": 0.5, "long": 0.5}


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: run("tldr", pools={}, roles={}, bounds=BOUNDS), "at least one pool"),
        (
            lambda: run("tldr", pools={"short": 0.5, "long": 0.4}, roles=ROLES, bounds=BOUNDS),
            r"sum to 0.9, not 1: short 0.5, long 0.4",
        ),
        (
            lambda: run("tldr", pools={"short": 1.5, "long": -0.5}, roles=ROLES, bounds=BOUNDS),
            r"'short' is 1.5; it is a share",
        ),
        (lambda: run("tldr", pools=EVEN, roles=ROLES, bounds=None), "tldr needs bounds"),
        (
            lambda: run("tldr", pools=EVEN, roles={"short": "efficiency"}, bounds=BOUNDS),
            r"role 'accuracy': pools are 'short' \(efficiency\), 'long' \(no role\)",
        ),
        (
            lambda: run("static", pools=EVEN, roles={"shrt": "efficiency"}, bounds=None),
            "roles names 'shrt'. Did you mean 'short'",
        ),
        (
            lambda: run("static", pools=EVEN, roles={"short": "eficiency"}, bounds=None),
            "role 'eficiency'. Did you mean 'efficiency'",
        ),
        (
            lambda: run("schedule:points=[[0,0.5]]", pools=EVEN, roles={}, bounds=None),
            r"the row \[0.0, 0.5\] must be .* Write \[0, \{short: 0.5, long: 0.5\}\]",
        ),
        (
            lambda: run('schedule:points=[[0,{"shrt":1}]]', pools=EVEN, roles={}, bounds=None),
            "row 1: there is no pool 'shrt'. Did you mean 'short'",
        ),
        (
            lambda: run('schedule:points=[[0,{"short":1}]]', pools=EVEN, roles={}, bounds=None),
            "row 1 has no weight for pool 'long'",
        ),
        (
            lambda: run("schedule:points=[]", pools=EVEN, roles={}, bounds=None),
            "points is empty",
        ),
        (
            lambda: run(
                'schedule:points=[[5,{"short":1,"long":0}],[5,{"short":0,"long":1}]]',
                pools=EVEN,
                roles={},
                bounds=None,
            ),
            "steps must rise, but 5 follows 5",
        ),
    ],
)
def test_what_cannot_start_is_named(act: Callable[[], None], told: str) -> None:
    with pytest.raises(TrainError, match=told):
        act()


def test_wrong_names_and_parameters_are_named() -> None:
    for spec, kind, told in (
        ("tldrr", TrainError, "No controller 'tldrr'. Did you mean 'tldr'"),
        ("tldr:preset=papr", TrainError, "no preset 'papr'. Did you mean 'paper'"),
        ("static:preset=paper", TrainError, "static has no preset 'paper'. Known: none"),
        ("tldr:etta=2", RecipeError, "has no 'etta'. Did you mean 'eta'"),
        ("tldr:floor=1", RecipeError, r"tldr.floor must be a number in \[0, 1\), got 1"),
        ("tldr:cap=0", RecipeError, r"cap must be a number in \(0, inf\) or null, got 0"),
        ("schedule", RecipeError, r"needs 'points' \(a list of \[number, \{name: number\}\]\)"),
        (
            "schedule:points=3",
            RecipeError,
            r"points must be a list of \[number, \{name: number\}\], got 3",
        ),
    ):
        with pytest.raises(kind, match=told):
            load_controller(spec)


def test_a_presets_values_give_way_to_the_users() -> None:
    chosen = load_controller("tldr:preset=paper,eta=2", {"floor": 0.01})
    assert (chosen.params["eta"], chosen.params["floor"], chosen.params["cap"]) == (2, 0.01, None)


def test_numbers_of_numpy_are_kept_as_json() -> None:
    one: Any = np.float32(1.0)
    half: Any = np.float32(0.5)
    step: Any = np.int64(1)
    seen = Measurement(step, step, half, one, one, one, excess={"short": half})
    chosen, state = start("tldr", {"short": half, "long": half})
    state, record = chosen.update(state, seen)
    kept = json.loads(json.dumps([state.to_dict(), record]))
    assert State.from_dict(kept[0]) == state
    assert kept[1]["measured"]["excess"] == {"short": 0.5}


def test_a_measurement_moves_the_mixture_once_and_under_the_bounds_conditions() -> None:
    chosen, state = start("tldr")
    state, _ = chosen.update(state, measured(0.7, 1500, 32))
    for step in (32, 16):
        with pytest.raises(TrainError, match=f"step {step} comes after that of step 32"):
            chosen.update(state, measured(0.7, 1500, step))
    with pytest.raises(TrainError, match="under conditions 'other', the bounds under ''"):
        chosen.update(state, measured(0.7, 1500, 64, conditions="other"))
    doremi, mixed = start("doremi")
    with pytest.raises(TrainError, match="step 1 has none of 'long'"):
        doremi.update(mixed, measured(0.7, 1500, excess={"short": 0.1}))


def test_a_damaged_state_is_named() -> None:
    kept = json.loads(json.dumps(start("tldr")[1].to_dict()))
    for change, told in (
        ({"weights": [0.5, "x"]}, "damaged.*weights.1"),
        ({"weights": [0.5, 0.6]}, "sum to 1.1"),
        ({"pools": ["a", "a"]}, "same name"),
        ({"roles": ["efficiency"]}, "1 roles"),
        ({"step": "soon"}, "damaged.*step"),
    ):
        with pytest.raises(LaconicError, match=told):
            State.from_dict({**kept, **change})
