"""Estimates, pairs and fronts against numbers by hand, naive formulas, simulation, real logs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.errors import RunError
from laconic.stats import Estimate, Pair, columns, overall, pair, pareto, summarise, verdict
from laconic.stats.bounded import Z, evidence, mean_within, ratio_within
from laconic.stats.intervals import average, correlation, error
from laconic.stats.notworse import NotWorse, corrected, settling
from tests.support.results import result

if TYPE_CHECKING:
    import random

    from laconic.runs.run import Result


def close(estimate: Estimate, value: float, low: float, high: float, tolerance: float) -> bool:
    found = (estimate.value, estimate.low, estimate.high)
    return all(abs(a - b) <= tolerance for a, b in zip(found, (value, low, high), strict=True))


Numbers = np.ndarray[Any, np.dtype[np.float64]]


def outcomes(right: int, wrong: int) -> Numbers:
    return np.array([1.0] * right + [0.0] * wrong)


# -- intervals ---------------------------------------------------------------------------------


def share(values: Numbers) -> Estimate:
    return mean_within(values, 0.0, 1.0)


def statistic(values: Numbers, mean: float, least: float) -> float:
    """The squared score statistic of a mean below the values', by a search over the weights.

    The likeliest weights w that have this mean, with what they miss of 1 at the lower bound, are
    found by projected gradient-free search over the one multiplier that they depend on.
    """
    heights, height = values - least, mean - least
    best, variance = -math.inf, math.nan
    for multiplier in np.linspace(0, 1, 200_001)[:-1] / height:
        weights = 1 / (1 + multiplier * (values - mean)) / len(values)
        missing = 1 - float(weights.sum())
        if abs(float(weights @ heights) - height) < 2e-5 * height and missing > -1e-5:
            likelihood = float(np.log(weights).sum())
            if likelihood > best:
                best, variance = likelihood, float(weights @ heights**2) - height**2
    return len(values) * (float(np.mean(values)) - mean) ** 2 / variance


def tango(gained: int, lost: int, n: int, difference: float) -> float:
    """Tango's (1998) score statistic, squared, the nuisance by his quadratic."""
    a = 2 * n
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    q = (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)
    return (gained - lost - n * difference) ** 2 / (n * (2 * q + difference * (1 - difference)))


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Newcombe (1998), table I, method 3, and the closed ends z^2 / (n + z^2)
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_one_response_per_problem_gives_the_published_wilson_intervals(
    right: int, n: int, low: float, high: float
) -> None:
    assert close(share(outcomes(right, n - right)), right / n, low, high, 5e-5)


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(1, 4, 20), (9, 0, 9), (3, 3, 500), (12, 31, 300), (0, 7, 64)]
)
def test_one_response_per_problem_gives_the_interval_of_tango(
    gained: int, lost: int, n: int
) -> None:
    found = mean_within(
        np.array([1.0] * gained + [-1.0] * lost + [0.0] * (n - gained - lost)), -1.0, 1.0
    )
    assert found.value == (gained - lost) / n
    for end in (found.low, found.high):
        if abs(end) < 1:
            assert tango(gained, lost, n, end) == pytest.approx(Z**2, rel=1e-6)


@pytest.mark.slow
def test_problem_means_are_judged_by_the_likeliest_distribution_of_the_mean() -> None:
    gains = np.array([0.25, -0.25, 0.0, 0.5, 0.0, -0.125, 0.0, 0.375] * 4)
    found = mean_within(gains, -1.0, 1.0)
    assert statistic(gains, found.low, -1.0) == pytest.approx(Z**2, rel=2e-3)
    assert statistic(-gains, -found.high, -1.0) == pytest.approx(Z**2, rel=2e-3)
    assert evidence(gains, found.low, -1.0) == pytest.approx(Z, rel=1e-6)


def test_where_nothing_differs_an_unseen_problem_may_be_lost_entirely() -> None:
    n = 100
    found = mean_within(np.zeros(n), -1.0, 1.0)
    assert found.value == 0
    assert found.high == -found.low == pytest.approx(Z**2 / (n + Z**2))


def test_no_number_of_repeats_makes_up_for_problems() -> None:
    for repeats in (1, 8, 64):
        rng = np.random.default_rng(3)
        yes = 0
        for _ in range(300):  # 2 % of the problems are lost entirely, nothing else changes
            lost = rng.random(30) < 0.02
            gains = (rng.binomial(repeats, np.where(lost, 0, 1.0), 30) - repeats) / repeats
            yes += mean_within(gains, -1.0, 1.0).low > -0.02
        assert yes == 0


def test_repeats_that_always_agree_count_as_one_response() -> None:
    assert share(np.repeat(outcomes(12, 28), 1)) == share(outcomes(12, 28))
    assert share(np.ones(30)).low == pytest.approx(30 / (30 + Z**2))


def test_one_number_alone_has_the_bounds_for_an_interval() -> None:
    assert mean_within(np.array([10.0]), 0.0, 896.0) == Estimate(10.0, 0.0, 896.0)


def test_equal_lengths_leave_room_for_an_unseen_answer_at_the_budget() -> None:
    found = mean_within(np.full(50, 100.0), 0.0, 1000.0)
    c = Z**2 / 50
    assert found.low == pytest.approx(100 - 100 * c / (1 + c))
    assert found.high == pytest.approx(100 + 900 * c / (1 + c))


def test_a_ratio_holds_what_the_score_test_of_its_residuals_does_not_reject() -> None:
    ours = np.array([50.0, 80.0, 110.0, 160.0, 90.0, 70.0, 200.0, 40.0])
    theirs = np.array([100.0, 200.0, 200.0, 300.0, 150.0, 190.0, 310.0, 90.0])
    found = ratio_within(ours, theirs, 400.0, 400.0)
    assert found.value == pytest.approx(800 / 1540)
    for r in np.linspace(0.2, 1.4, 200):
        gaps = ours - r * theirs
        clear = evidence(gaps, 0.0, -400 * r) if gaps.mean() > 0 else evidence(-gaps, 0.0, -400)
        if min(abs(r - found.low), abs(r - found.high)) > 1e-3:
            assert (clear <= Z) == (found.low <= r <= found.high)


def test_a_ratio_to_nothing_is_not_a_number_anyone_should_believe() -> None:
    assert ratio_within(np.zeros(3), np.zeros(3), 9.0, 9.0) == Estimate(1.0, 0.0, math.inf)
    assert ratio_within(np.ones(3), np.zeros(3), 9.0, 9.0) == Estimate(math.inf, 0.0, math.inf)
    assert ratio_within(np.array([100.0]), np.array([1.0]), 200.0, 1.0) == Estimate(
        100.0, 0.0, math.inf
    )


def test_an_average_of_equal_estimates_is_narrower_by_the_root_of_their_number() -> None:
    found = average([Estimate(1.0, 0.8, 1.4)] * 4)
    assert close(found, 1.0, 0.9, 1.2, 1e-12)


unit = st.floats(-1, 1, allow_nan=False)
#: Spearman's correlation of normal variables whose own correlation is 0.8.
SPEARMAN = 6 / math.pi * math.asin(0.4)


def test_the_error_of_a_mean_is_between_problems() -> None:
    assert error(np.array([10.0, 12.0, 14.0])) == pytest.approx(2 / math.sqrt(3))
    assert error(np.array([10.0])) == math.inf


def test_a_rank_correlation_is_that_of_the_ranks_and_ties_share_theirs() -> None:
    left = np.array([1.0, 2.0, 2.0, 3.0, 9.0])  # ranks 1, 2.5, 2.5, 4, 5
    right = np.array([10.0, 40.0, 20.0, 30.0, 50.0])  # ranks 1, 4, 2, 3, 5
    ranks = np.corrcoef([1, 2.5, 2.5, 4, 5], [1, 4, 2, 3, 5])[0, 1]
    found = correlation(left, right)
    assert found.value == pytest.approx(ranks)
    half = Z * math.sqrt((1 + ranks**2 / 2) / 2)
    assert found.low == pytest.approx(math.tanh(math.atanh(ranks) - half), abs=0.05)
    assert correlation(left, -left).value == pytest.approx(-1)
    assert math.isnan(correlation(np.ones(9), np.arange(9.0)).value)
    assert (correlation(left[:3], right[:3]).low, correlation(left[:3], right[:3]).high) == (-1, 1)


pairs_of_numbers = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 4)), min_size=1, max_size=40
)


@given(pairs_of_numbers)
def test_every_quotient_and_correlation_contains_its_value(rows: list[tuple[int, int]]) -> None:
    above, below = np.array(rows, dtype=np.float64).T
    ratio = ratio_within(above, below / 4, 1e6, 1.0)
    assert 0 <= ratio.low <= ratio.value <= ratio.high
    rank = correlation(above, below)
    assert -1 <= rank.low <= rank.high <= 1
    assert math.isnan(rank.value) or rank.low <= rank.value <= rank.high


@given(st.lists(unit, min_size=1, max_size=40))
def test_every_paired_interval_contains_its_value(values: list[float]) -> None:
    found = mean_within(np.array(values), -1.0, 1.0)
    assert -1 <= found.low <= found.value <= found.high <= 1
    if len(values) > 1:  # never nearer than what was not seen allows
        c = Z**2 / len(values)
        assert found.value - found.low >= (1 + found.value) * c / (1 + c) - 1e-9


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_every_share_contains_its_value_and_stays_a_share(right: list[int]) -> None:
    found = share(np.array(right) / 4)
    assert 0 <= found.low <= found.value <= found.high <= 1


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), min_size=1, max_size=40))
def test_every_change_contains_its_value(lengths: list[tuple[int, int]]) -> None:
    ours, theirs = np.array(lengths, dtype=np.float64).T
    found = ratio_within(ours, theirs, 1e6, 1e6)
    assert 0 <= found.low <= found.value <= found.high


@given(st.lists(unit, min_size=2, max_size=40), st.floats(0.001, 0.9))
def test_the_evidence_and_the_interval_never_disagree(values: list[float], margin: float) -> None:
    gains = np.array(values)
    low, found = mean_within(gains, -1.0, 1.0).low, evidence(gains, -margin, -1.0)
    if abs(found - Z) > 1e-5:
        assert (low > -margin) == (found > Z)


@given(st.floats(-1, 1), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.9), st.floats(0, 0.9))
def test_a_wider_margin_never_makes_a_verdict_harsher(
    value: float, below: float, above: float, margin: float, other: float
) -> None:
    estimate, ranks = Estimate(value, value - below, value + above), ("no", "unclear", "yes")
    strict, lenient = sorted((margin, other))
    assert ranks.index(verdict(estimate, strict)) <= ranks.index(verdict(estimate, lenient))


@pytest.mark.parametrize(("problems", "repeats"), [(30, 8), (40, 1), (200, 1)])
def test_intervals_cover_the_truth_about_as_often_as_they_say(problems: int, repeats: int) -> None:
    rng, rounds = np.random.default_rng(7), 400
    hits = np.zeros(6)
    for _ in range(rounds):
        ease, hard = rng.beta(2, 1, problems), rng.normal(size=problems)
        first = rng.binomial(repeats, ease) / repeats
        second = rng.binomial(repeats, 0.9 * ease) / repeats
        long = np.minimum(rng.lognormal(6, 0.5, problems), 8192)
        short = 0.5 * long * rng.lognormal(0, 0.3, problems) / math.exp(0.045)
        looping = np.where(rng.random(problems) < 0.02, 8192.0, 300.0)
        found = (
            (share(first), 2 / 3),
            (mean_within(second - first, -1.0, 1.0), -0.1 * 2 / 3),
            (ratio_within(short, long, 8192.0, 8192.0), 0.5),
            (ratio_within(long * (2 - ease), first, 16384.0, 1.0), math.exp(6.125) * 2),
            (mean_within(looping, 0.0, 8192.0), 300 + 0.02 * 7892),
            (correlation(hard, 0.8 * hard + 0.6 * rng.normal(size=problems)), SPEARMAN),
        )
        hits += [e.low <= truth <= e.high for e, truth in found]
    assert hits.min() / rounds >= 0.917  # 95 % less three errors of 400 rounds


# -- summaries ---------------------------------------------------------------------------------


def test_a_summary_counts_what_happened() -> None:
    rows = [
        result("a", 100, True, level=1, thinks=True, thinking_length=60, reflections=3),
        result("b", 300, False, level=2, truncated=True, outcome="truncated_no_answer"),
        result("c", 200, True, level=1, reflections=1),
        result("d", 200, False, level=2, thinks=True, thinking_length=20),
    ]
    found = summarise(rows)
    assert (found.n, found.problems) == (4, 4)
    assert (found.accuracy.value, found.length.value) == (0.5, 200.0)
    assert (found.truncated, found.thinking, found.reflective) == (0.25, 0.5, 0.5)
    assert (found.reflections, found.thinking_length) == (1.0, 20.0)
    assert {k: v for k, v in found.outcomes.items() if v} == {
        "correct": 2,
        "wrong": 1,
        "truncated_no_answer": 1,
    }
    assert found.outcomes["grader_timeout"] == 0
    assert [(k, v.n, v.accuracy.value, v.length.value) for k, v in found.by_level.items()] == [
        (1, 2, 1.0, 150.0),
        (2, 2, 0.0, 250.0),
    ]


def test_a_summary_of_a_task_without_levels_has_none() -> None:
    assert summarise([result("a", 1, True)]).by_level == {}


def test_a_problem_with_more_repeats_weighs_no_more() -> None:
    rows = [result("a", 100, True, repeat=i) for i in range(3)] + [result("b", 200, False)]
    found = summarise(rows)
    assert (found.n, found.problems) == (4, 2)
    assert (found.accuracy.value, found.length.value) == (0.5, 150.0)


def test_nothing_cannot_be_summed_up() -> None:
    with pytest.raises(RunError, match="no results"):
        summarise([])


rows_of_results = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 2), st.integers(1, 5000), st.booleans()),
    min_size=1,
    max_size=30,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=50)
@given(rows_of_results, st.randoms(use_true_random=False))
def test_the_order_of_results_does_not_matter(
    rows: list[tuple[int, int, int, bool]], chance: random.Random
) -> None:
    made = [result(str(p), n, ok, repeat=r, level=p % 3) for p, r, n, ok in rows]
    mixed = chance.sample(made, len(made))
    assert summarise(mixed) == summarise(made)
    against = [result(str(p), 100, p % 2 == 0) for p in range(10)]
    assert compare(mixed, against) == compare(made, against)


@settings(max_examples=40)
@given(rows_of_results, st.randoms(use_true_random=False))
def test_columns_of_results_in_the_order_of_others_are_their_own(
    rows: list[tuple[int, int, int, bool]], chance: random.Random
) -> None:
    other = [result(str(p), n + 1, not ok, repeat=r, gold="2") for p, r, n, ok in rows]
    made = [result(str(p), n, ok, repeat=r) for p, r, n, ok in rows]
    for similar in (other, chance.sample(other, len(other)), other[1:] or other):
        found, wanted = columns(made, like=columns(similar)), columns(made)
        assert summarise(found) == summarise(wanted)
        assert (found.golds, found.problems) == (wanted.golds, wanted.problems)
        assert found.length.tolist() == wanted.length.tolist()


# -- pairs -------------------------------------------------------------------------------------


def compare(rows: list[Result], against: list[Result], margin: float = 0.02) -> Pair:
    return pair(rows, against, name="new", against="old", margin=margin)


def test_a_pair_rests_on_the_problems_that_both_answered() -> None:
    new = [result("a", 50, True), result("b", 50, False), result("new only", 9999, True)]
    old = [result("a", 100, True), result("b", 300, True), result("old only", 9999, False)]
    found = compare(new, old)
    assert (found.task, found.n, found.unmatched) == ("t", 2, 2)
    assert found.accuracy_diff.value == -0.5
    assert (found.length, found.baseline_length, found.length_change.value) == (50, 200, -0.75)


def test_a_problem_of_the_same_name_with_another_gold_is_another_problem() -> None:
    found = compare(
        [result("a", 50, True), result("b", 50, True, gold="2")],
        [result("a", 100, True), result("b", 100, True, gold="3")],
    )
    assert (found.n, found.unmatched) == (1, 1)


def test_a_pair_with_nothing_in_common_says_what_to_do() -> None:
    with pytest.raises(RunError, match=r"share no problem of t.*Evaluate both"):
        compare([result("a", 1, True)], [result("b", 1, True)])


def test_a_pair_is_of_one_task() -> None:
    with pytest.raises(RunError, match="one task, got t, u"):
        compare([result("a", 1, True)], [result("a", 1, True, task="u")])


def test_the_verdict_follows_the_whole_interval() -> None:
    same = [result(str(i), 10, i % 4 > 0) for i in range(400)]
    worse = [replace(r, correct=r.correct and int(r.id) % 3 > 0) for r in same]
    slightly = [replace(r, correct=r.correct and int(r.id) > 3) for r in same]
    assert compare(same, same).not_worse.verdict == "yes"
    assert compare(worse, same).not_worse.verdict == "no"
    assert compare(slightly, same, margin=0.012).not_worse.verdict == "unclear"
    assert compare(slightly, same, margin=0.05).not_worse.verdict == "yes"


def test_the_three_averages_of_a_change_of_length_are_told_apart() -> None:
    def on(task: str, lengths: list[tuple[int, int]]) -> Pair:
        new = [result(str(i), a, True, task=task) for i, (a, _) in enumerate(lengths)]
        old = [result(str(i), b, True, task=task) for i, (_, b) in enumerate(lengths)]
        return compare(new, old)

    found = overall([on("short", [(50, 100)] * 3), on("long", [(900, 1000)])])
    assert found.tasks == ("short", "long")
    assert found.length_change.value == pytest.approx((-0.5 - 0.1) / 2)
    assert found.ratio_of_means == pytest.approx(950 / 1100 - 1)
    assert found.pooled == pytest.approx(1050 / 1300 - 1)


# -- the best of many, and how many problems it takes -------------------------------------------


def test_the_best_of_many_needs_more_evidence_step_by_step() -> None:
    # Holm: the first of three needs 2.394 (0.025 / 3), the next 2.241 (0.025 / 2), the last 1.960
    def verdicts(*evidence: float) -> list[str]:
        alone = [NotWorse(0.02, "yes" if e > Z else "unclear", e) for e in evidence]
        found = corrected(alone)
        assert all(one.tested == len(evidence) for one in found)
        return [one.verdict for one in found]

    assert verdicts(2.0) == ["yes"]
    assert verdicts(2.0, 2.3, 2.5) == ["yes", "yes", "yes"]
    assert verdicts(2.0, 2.1, 2.5) == ["unclear", "unclear", "yes"]
    assert verdicts(2.38, 2.3, 2.2) == ["unclear"] * 3
    assert verdicts(1.0, 9.0, 1.0) == ["unclear", "yes", "unclear"]


def test_a_run_that_is_worse_stays_so_among_many() -> None:
    found = corrected([NotWorse(0.02, "no", 0.0), NotWorse(0.02, "yes", 9.0)])
    assert [one.verdict for one in found] == ["no", "yes"]
    assert corrected([]) == []


def test_enough_problems_are_as_many_as_say_yes_four_times_in_five() -> None:
    # nothing differs: (1.960 + 0.842)^2 (1 - 0.02) / 0.02
    assert settling(np.zeros(30), 0.02) == math.ceil((Z + 0.841621) ** 2 * 0.98 / 0.02)
    assert settling(np.zeros(30), 0.0) is None
    rng, gains = np.random.default_rng(1), np.array([1.0] * 3 + [-1.0] * 3 + [0.0] * 94)
    wanted = settling(gains, 0.05)
    assert wanted is not None
    yes = sum(mean_within(rng.choice(gains, wanted), -1.0, 1.0).low > -0.05 for _ in range(500))
    assert 0.74 <= yes / 500 <= 0.86


def test_a_verdict_over_tasks_rests_on_their_average() -> None:
    same = [result(str(i), 10, i % 4 > 0, task=t) for t in ("a", "b") for i in range(400)]
    parts = [[r for r in same if r.task == task] for task in ("a", "b")]
    found = overall([compare(part, part, margin=0.02) for part in parts])
    assert found.not_worse.verdict == "yes"
    low = (Z**2 / (400 + Z**2)) * math.sqrt(2) / 2
    assert found.not_worse.evidence == pytest.approx(Z * 0.02 / low, rel=1e-6)


# -- fronts ------------------------------------------------------------------------------------


def test_the_front_holds_what_none_beats_in_both_shortest_first() -> None:
    points = {
        "system2": (0.9, 1000.0),
        "beaten": (0.7, 600.0),
        "system1": (0.6, 100.0),
        "merge": (0.8, 500.0),
    }
    assert pareto(points) == ("system1", "merge", "system2")


def test_ties_stay_on_the_front_but_half_ties_do_not() -> None:
    points = {"b": (0.8, 500.0), "a": (0.8, 500.0), "longer": (0.8, 501.0), "worse": (0.7, 500.0)}
    assert pareto(points) == ("a", "b")
    assert pareto({}) == ()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_the_front_is_what_pairwise_comparison_finds(places: list[tuple[int, int]]) -> None:
    points = {str(i): (float(a), float(n)) for i, (a, n) in enumerate(places)}

    def beaten(name: str) -> bool:
        a, n = points[name]
        return any(x >= a and y <= n and (x, y) != (a, n) for x, y in points.values())

    assert set(pareto(points)) == {name for name in points if not beaten(name)}


# -- right answers, and both right -------------------------------------------------------------


def test_right_answers_cost_what_the_wrong_ones_took_too() -> None:
    rows = [result("a", 100, True), result("b", 300, False), result("c", 200, True)]
    assert summarise(rows).tokens_per_correct.value == pytest.approx(600 / 2)
    assert summarise([result("a", 9, False)] * 1).tokens_per_correct.value == math.inf


def test_thought_is_a_share_of_the_answers_and_of_the_tokens() -> None:
    rows = [
        result("a", 100, True, thinks=True, thinking_length=80),
        result("b", 300, False, thinking_length=20),
    ]
    found = summarise(rows)
    assert (found.thinking, found.thinking_tokens) == (0.5, 0.25)


def test_both_right_leaves_out_what_either_got_wrong() -> None:
    new = [result("a", 50, True), result("b", 10, False), result("c", 40, True)]
    old = [result("a", 100, True), result("b", 900, True), result("c", 999, False)]
    found = compare(new, old).both_right
    assert found is not None
    assert (found.n, found.length, found.baseline_length) == (1, 50, 100)
    assert found.length_change.value == -0.5
    assert compare(new[1:2], old[1:2]).both_right is None


def test_both_right_averages_the_right_answers_of_a_problem() -> None:
    new = [result("a", n, ok, repeat=i) for i, (n, ok) in enumerate([(10, True), (90, False)])]
    old = [result("a", n, ok, repeat=i) for i, (n, ok) in enumerate([(40, True), (60, True)])]
    found = compare(new, old).both_right
    assert found is not None
    assert (found.length, found.baseline_length) == (10, 50)


def test_a_difference_of_length_is_in_tokens() -> None:
    new, old = [result(p, 70, True) for p in "abc"], [result(p, 100, True) for p in "abc"]
    found = compare(new, old)
    assert found.length_diff.value == -30
    assert found.length_diff.low < -30 < found.length_diff.high
    assert found.accuracy_error == 0


def test_results_of_two_tasks_are_not_summed_up() -> None:
    with pytest.raises(RunError, match="one task, got t, u"):
        summarise([result("a", 1, True), result("a", 1, True, task="u")])


# L2S_RESULTS: table 1, tokens of DeepSeek-R1-7B and of the merges on six data sets
SIZES = (1319, 500, 272, 675, 2818, 30)
R1 = (1062.0, 2825.9, 3055.9, 5793.8, 2461.6, 8675.4)
PUBLISHED = {
    "task arithmetic": ((617.5, 1617.4, 1416.2, 2650.6, 1443.9, 3594.6), (-48.7, -52.5, -45.9)),
    "ties": ((552.2, 1492.9, 1349.2, 2473.7, 1287.8, 3302.1), (-53.0, -56.2, -50.9)),
    "average": ((636.4, 1416.7, 2277.4, 3202.2, 2065.7, 5964.8), (-34.6, -34.8, -30.0)),
}


@pytest.mark.parametrize("method", PUBLISHED)
def test_the_three_averages_are_those_of_the_published_table(method: str) -> None:
    lengths, wanted = PUBLISHED[method]
    sure = Estimate(0.0, 0.0, 0.0)
    pairs = [
        replace(
            compare([result("a", 1, True)], [result("a", 1, True)]),
            n=n,
            length=ours,
            baseline_length=theirs,
            length_change=replace(sure, value=ours / theirs - 1),
        )
        for n, ours, theirs in zip(SIZES, lengths, R1, strict=True)
    ]
    found = overall(pairs)
    averages = (found.length_change.value, found.ratio_of_means, found.pooled)
    assert [100 * a for a in averages] == pytest.approx(wanted, abs=0.06)
