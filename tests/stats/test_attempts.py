"""pass@k and maj@k against enumeration, numbers by hand, and their intervals' coverage."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.stats import columns
from laconic.stats.attempts import attempts, majority_at, pass_at
from tests.support.results import result

if TYPE_CHECKING:
    from laconic.runs.run import Result


def answers(problem: str, given_: str) -> list[Result]:
    """Results of a problem from letters: R is right, - no answer, others are wrong answers."""
    return [
        result(problem, 1, a == "R", repeat=i, answer=None if a == "-" else a)
        for i, a in enumerate(given_)
    ]


def test_k_are_powers_of_two_up_to_the_fewest_answers_of_a_problem() -> None:
    assert attempts(columns(answers("a", "RRRRRRRR"))) == (1, 2, 4, 8)
    assert attempts(columns(answers("a", "RRRRRR") + answers("b", "RRRRRRR"))) == (1, 2, 4, 6)
    assert attempts(columns(answers("a", "R"))) == (1,)


def test_pass_at_k_by_hand() -> None:
    rows = columns(answers("a", "Rxxx") + answers("b", "xxxx"))
    assert pass_at(rows, 1).value == pytest.approx((1 / 4 + 0) / 2)
    assert pass_at(rows, 2).value == pytest.approx((1 - 3 / 6) / 2)  # 3 of 6 pairs miss the R
    assert pass_at(rows, 4).value == pytest.approx(1 / 2)


runs_of_answers = st.integers(1, 6).flatmap(
    lambda n: st.lists(st.text("RRab-", min_size=n, max_size=n + 2), min_size=1, max_size=5)
)


@settings(max_examples=60)
@given(runs_of_answers)
def test_pass_at_k_is_the_mean_over_every_choice_of_k(problems: list[str]) -> None:
    rows = columns([r for i, given_ in enumerate(problems) for r in answers(str(i), given_)])
    for k in attempts(rows):
        wanted = mean(
            mean(float("R" in chosen) for chosen in combinations(given_, k)) for given_ in problems
        )
        found = pass_at(rows, k)
        assert found.value == pytest.approx(wanted)
        assert 0 <= found.low <= found.value <= found.high <= 1


def vote(block: str) -> float:
    counts = {a: block.count(a) for a in set(block) - {"-"}}
    leaders = [a for a, n in counts.items() if n == max(counts.values())]
    return leaders.count("R") / len(leaders) if leaders else 0.0


@settings(max_examples=60)
@given(runs_of_answers)
def test_maj_at_k_is_the_vote_of_each_full_block(problems: list[str]) -> None:
    rows = columns([r for i, given_ in enumerate(problems) for r in answers(str(i), given_)])
    for k in attempts(rows):
        wanted = mean(
            mean(vote(given_[i : i + k]) for i in range(0, len(given_) - k + 1, k))
            for given_ in problems
        )
        assert majority_at(rows, k).value == pytest.approx(wanted)


def test_one_vote_is_the_accuracy_and_spelling_makes_no_other_answer() -> None:
    rows = columns(answers("a", "Rx-R"))
    assert majority_at(rows, 1).value == 0.5
    for one, other, alike in (
        ("x + 1", "x+1", True),
        ("0.5", r"\frac{1}{2}", True),
        (r"\dfrac12", "1/2", True),
        ("1,000", "1e3", True),
        ("$7$", "7.0", True),
        ("x+1", "x+2", False),
        ("0.5", "0.51", False),
        ("[1,2]", "(1,2)", False),
    ):
        given_ = [
            result("a", 1, a == "R", repeat=i, answer=a) for i, a in enumerate([one, other, "R"])
        ]
        assert majority_at(columns(given_), 3).value == pytest.approx(0 if alike else 1 / 3), one


@pytest.mark.parametrize("k", [2, 4, 8])
def test_intervals_of_pass_and_vote_cover_the_truth(k: int) -> None:
    rng, problems, rounds = np.random.default_rng(5), 40, 100
    every = rng.beta(1.5, 1, 20000)
    passed = float(np.mean(1 - (1 - every) ** k))
    # one wrong answer: the right one wins with more than half of k votes, shares a tie
    heads = np.arange(k + 1)
    wins = np.where(2 * heads > k, 1.0, np.where(2 * heads == k, 0.5, 0.0))
    ways = np.array([math.comb(k, int(h)) for h in heads])
    voted = float(
        np.mean((every[:, None] ** heads * (1 - every[:, None]) ** (k - heads)) @ (ways * wins))
    )
    hits = np.zeros(2)
    for _ in range(rounds):
        ease = rng.choice(every, problems)
        text = rng.random((problems, 8)) < ease[:, None]
        rows = columns(
            [
                result(str(i), 1, bool(ok), repeat=j, answer="1" if ok else "0")
                for i, row in enumerate(text)
                for j, ok in enumerate(row)
            ]
        )
        for m, (found, truth) in enumerate(
            ((pass_at(rows, k), passed), (majority_at(rows, k), voted))
        ):
            hits[m] += found.low <= truth <= found.high
    assert np.all(hits / rounds >= 0.88), hits / rounds  # 95 % less three errors of 100 rounds
