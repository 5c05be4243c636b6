"""Levels, easy and hard problems, and trends, by hand and against naive loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.stats import by_ease, columns, pass_rates, trend
from laconic.stats.difficulty import levels
from tests.support.results import result


def test_levels_are_sorted_and_leave_out_problems_without_one() -> None:
    rows = [
        result("a", 100, True, level=2),
        result("b", 300, False, level=1),
        result("c", 500, True),
        result("d", 200, False, level=2),
    ]
    found = levels(columns(rows))
    assert [(k, v.n, v.accuracy.value, v.length.value) for k, v in found.items()] == [
        (1, 1, 0, 300),
        (2, 2, 0.5, 150),
    ]


def test_a_problem_is_as_easy_as_all_runs_together_found_it() -> None:
    one, two, three = (
        columns([result(p, 10, mark == "+") for p, mark in zip("abcd", marks, strict=False)])
        for marks in ("++--", "+--", "++-")
    )
    rates = pass_rates([one, two, three])
    assert rates == {"a": 1, "b": pytest.approx(2 / 3), "c": 0, "d": 0}
    found = by_ease(one, rates)
    assert {ease: (v.n, v.accuracy.value) for ease, v in found.items()} == {
        "easy": (2, 1.0),
        "hard": (2, 0.0),
    }
    assert list(by_ease(two, rates)) == ["easy", "hard"]


def test_runs_count_the_same_however_many_answers_they_gave() -> None:
    many = columns([result("a", 1, False, repeat=i) for i in range(8)])
    assert pass_rates([many, columns([result("a", 1, True)])]) == {"a": 0.5}


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.booleans(), st.integers(1, 50)), min_size=4, max_size=30
    )
)
def test_trends_are_correlations_of_ranks_over_problems(
    rows: list[tuple[int, bool, int]],
) -> None:
    made = [result(f"{i:02}", n, ok, level=level) for i, (level, ok, n) in enumerate(rows)]
    responses = columns(made)
    found = trend(responses, pass_rates([responses]))
    lengths = [n for _, _, n in rows]
    hard = [level for level, _, _ in rows]
    failed = [float(not ok) for _, ok, _ in rows]
    for got, wanted in (
        (found.level, naive(hard, lengths)),
        (found.failed, naive(failed, lengths)),
    ):
        assert got is not None
        assert got.value == pytest.approx(wanted, nan_ok=True)
    assert found.pooled.value == pytest.approx(found.failed.value, nan_ok=True)


def naive(left: list[float] | list[int], right: list[int]) -> float:
    ranks = [
        [sum(a < b for a in values) + (sum(a == b for a in values) + 1) / 2 for b in values]
        for values in (list(map(float, left)), list(map(float, right)))
    ]
    if min(map(np.std, ranks)) == 0:
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def test_a_run_without_levels_has_no_trend_with_them() -> None:
    responses = columns([result(p, n, True) for n, p in enumerate("abcde")])
    assert trend(responses, pass_rates([responses])).level is None
