"""Smaller budgets against counting one result at a time."""

from __future__ import annotations

import itertools
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.stats import columns, rebudget, smaller_budgets, summarise
from tests.support.results import result

many = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 1000), st.booleans(), st.booleans()),
    min_size=1,
    max_size=25,
)


def test_a_budget_that_cuts_an_answer_makes_it_wrong_and_as_long_as_itself() -> None:
    rows = [
        result("a", 100, True),
        result("b", 101, True),
        result("c", 400, False, truncated=True),
        result("d", 50, False),
    ]
    found = rebudget(columns(rows), 100)
    assert (found.cap, found.truncated) == (100, 0.5)
    assert (found.accuracy.value, found.length.value) == (0.25, (100 + 100 + 100 + 50) / 4)


def test_a_budget_not_smaller_than_the_runs_own_is_what_was_measured() -> None:
    rows = columns([result("a", 400, True, truncated=True), result("b", 50, False)])
    found, measured = rebudget(rows, 400), summarise(rows)
    assert (found.accuracy, found.length) == (measured.accuracy, measured.length)
    assert found.truncated == measured.truncated == 0.5


@settings(max_examples=60)
@given(many, st.integers(1, 1100))
def test_budgets_are_counted_problem_by_problem(
    rows: list[tuple[int, int, bool, bool]], cap: int
) -> None:
    made = [
        result(str(p), n, ok, repeat=i, truncated=cut) for i, (p, n, ok, cut) in enumerate(rows)
    ]
    of = {p: [row for row in made if row.id == str(p)] for p, *_ in rows}
    found = rebudget(columns(made), cap)
    right = mean(mean(float(r.correct and r.length <= cap) for r in of[p]) for p in of)
    assert found.accuracy.value == pytest.approx(right)
    tokens = mean(mean(min(r.length, cap) for r in of[p]) for p in of)
    assert found.length.value == pytest.approx(tokens)
    assert found.truncated == mean(float(r.truncated or r.length > cap) for r in made)


@settings(max_examples=40)
@given(many)
def test_less_budget_is_never_more_accurate_nor_longer(
    rows: list[tuple[int, int, bool, bool]],
) -> None:
    made = columns([result(str(p), n, ok, repeat=i) for i, (p, n, ok, _) in enumerate(rows)])
    curve = [rebudget(made, cap) for cap in (1000, 700, 300, 100, 10)]
    for more, less in itertools.pairwise(curve):
        assert less.accuracy.value <= more.accuracy.value + 1e-12
        assert less.length.value <= more.length.value + 1e-12
        assert less.truncated >= more.truncated


def test_the_budgets_shown_are_parts_of_the_largest_and_every_runs_own() -> None:
    long = columns([result(str(i), 700, True) for i in range(10)])
    short = columns([result(str(i), 300, True) for i in range(10)])
    assert smaller_budgets([1000, 800], [long, short]) == (1000, 800, 750, 500, 375)
    assert smaller_budgets([64], [columns([result("a", 64, False, truncated=True)])]) == (64,)
