"""The chance of standing on the front, against a slow bootstrap and by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.stats import columns, front_chances, hypervolume, pareto
from laconic.stats.front import MOST, beaten
from tests.support.results import result

if TYPE_CHECKING:
    from laconic.stats import Responses


def run(accuracy: float, length: int, seed: int, n: int = 60) -> Responses:
    rng = np.random.default_rng(seed)
    return columns(
        [
            result(f"{i:05}", int(length * rng.lognormal(0, 0.4)), bool(rng.random() < accuracy))
            for i in range(n)
        ]
    )


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=10))
def test_who_is_beaten_is_who_is_not_on_the_front(places: list[tuple[int, int]]) -> None:
    points = {str(i): (float(a), float(n)) for i, (a, n) in enumerate(places)}
    accuracy, length = np.array([list(points.values())]).transpose(2, 0, 1)
    found = beaten(accuracy, length, np.ones_like(accuracy, dtype=bool))[0]
    assert {name for name, out in zip(points, found, strict=True) if not out} == set(pareto(points))


def test_chances_agree_with_drawing_problems_one_by_one() -> None:
    runs = {"a": run(0.6, 300, 1), "b": run(0.65, 330, 2), "c": run(0.7, 500, 3)}
    rng, rounds = np.random.default_rng(9), 1500
    counts = dict.fromkeys(runs, 0)
    for _ in range(rounds):
        drawn = rng.integers(60, size=60)
        points = {
            name: (float(r.accuracies[drawn].mean()), float(r.lengths[drawn].mean()))
            for name, r in runs.items()
        }
        for name in pareto(points):
            counts[name] += 1
    found = front_chances(runs)
    for name, count in counts.items():
        assert found[name] == pytest.approx(count / rounds, abs=0.06)  # three errors of both
    assert found == front_chances(runs)


def test_what_is_clear_is_certain_and_equal_runs_stay_together() -> None:
    good, bad = run(0.9, 300, 1), run(0.2, 900, 2)
    found = front_chances({"good": good, "twin": good, "bad": bad})
    assert found == {"good": 1.0, "twin": 1.0, "bad": 0.0}
    thirds = columns(
        [result(str(i), 100 + i, i % 3 == j, repeat=j) for i in range(9) for j in range(3)]
    )
    assert front_chances({"a": thirds, "b": thirds}) == {"a": 1.0, "b": 1.0}


def test_runs_on_different_problems_are_drawn_together() -> None:
    left = columns([result(p, 100, True) for p in "abcdefgh"])
    right = columns([result(p, 200, True) for p in "efghijkl"])
    other = columns([result(p, 200, True, gold="2") for p in "abcdefgh"])
    found = front_chances({"left": left, "right": right, "other": other})
    assert found["left"] > 0.99
    assert found["right"] < 0.01
    assert found["other"] < 0.01


def test_many_problems_are_drawn_in_groups_to_the_same_chances() -> None:
    n = MOST + 500
    runs = {"a": run(0.70, 300, 1, n), "b": run(0.705, 303, 2, n)}
    grouped = front_chances(runs)
    gains = runs["b"].accuracies - runs["a"].accuracies
    tokens = runs["b"].lengths - runs["a"].lengths
    rng = np.random.default_rng(3)
    drawn = [rng.integers(n, size=n) for _ in range(600)]
    on = [bool(gains[d].mean() > 0 or tokens[d].mean() < 0) for d in drawn]
    assert grouped["b"] == pytest.approx(np.mean(on), abs=0.08)


def test_the_hypervolume_is_the_area_that_a_front_rules() -> None:
    points = {"short": (0.6, 20.0), "good": (0.8, 60.0), "beaten": (0.7, 70.0), "out": (0.4, 10.0)}
    corner = (0.5, 100.0)
    assert hypervolume(points, corner) == pytest.approx(0.1 * 80 + 0.2 * 40)
    assert hypervolume({"out": points["out"], "long": (0.9, 100.0)}, corner) == 0.0
