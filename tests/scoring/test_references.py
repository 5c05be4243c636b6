"""Golds as their data sets mean them, and the check that names those no grader can compare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from laconic.runs.run import Sample
from laconic.scoring.answers.references import is_number, readings
from laconic.scoring.check_references import check_golds
from laconic.scoring.score import Grader
from laconic.tasks.contract.task import load_task

PROBLEMS = Path(__file__).parents[2].parent / "shared" / "data" / "problems"
needs_data = pytest.mark.skipif(not PROBLEMS.is_dir(), reason="the shared problems are not here")


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as opened:
        yield opened


@pytest.mark.parametrize(
    ("gold", "read"),
    [
        ("080 or 081 (both were accepted)", ("080", "081")),
        ("4.5e33", (r"4.5 \times 10^{33}",)),
        ("3.2e-7 x", (r"3.2 \times 10^{-7} x",)),
        ("2e", ("2e",)),
        ("np.arcsin(10/13)", (r"\arcsin(10/13)",)),
        ("69$,$84", ("69,84",)),
        ("221,$8", ("221,8",)),
        (r"(-\infty, 0) \cup\{1\}$.", (r"(-\infty, 0) \cup\{1\}",)),
        (r"a+$ $b", ("a+ b",)),
        ("$10-4 n$", ("10-4 n",)),
        (r"\$18.90", (r"\$18.90",)),
        ("$2,365$ beats/lifetime", ("2,365",)),
        (r"15 and $22.5 \mathrm{~min}$", (r"15 , 22.5 \mathrm{~min}",)),
        ("$x=0$ or $x=2$", ("x=0 , x=2",)),
        (r"$\cos t=-1.001$ never happens", (r"$\cos t=-1.001$ never happens",)),
        ("concave up when $x<0$", ("concave up when $x<0$",)),
        (r"\text{Evelyn}", (r"\text{Evelyn}",)),
    ],
)
def test_golds_are_read_as_their_data_sets_mean_them(gold: str, read: tuple[str, ...]) -> None:
    assert readings(gold) == read


@pytest.mark.parametrize(
    ("gold", "answer", "state"),
    [
        ("080 or 081 (both were accepted)", "81", "equal"),
        ("080 or 081 (both were accepted)", "80", "equal"),
        ("080 or 081 (both were accepted)", "82", "unequal"),
        ("4.5e33", r"45 \times 10^{32} \text{ erg}", "equal"),
        ("4.5e33", r"4.5 \times 10^{32} \text{ erg}", "unequal"),
        ("np.arcsin(10/13)", r"\arcsin(\frac{10}{13})", "equal"),
        ("69$,$84", "84, 69", "equal"),
        ("69$,$84", "69", "unequal"),
        ("27.0", "27", "equal"),
        ("033", "33", "equal"),
        ("$241,920,000$ cans", "241920000", "equal"),
        ("all real numbers", r"\text{All real numbers}", "equal"),
        ("all real numbers", "no real numbers", "unequal"),
        ("(1,2)", "[1,2]", "unequal"),
        ("(1,2]", "(1,2)", "unequal"),
    ],
)
def test_answers_are_compared_with_what_the_gold_means(
    grader: Grader, gold: str, answer: str, state: str
) -> None:
    assert grader.compare(gold, answer).state == state


def test_numbers_need_no_algebra() -> None:
    assert is_number("080 or 081")
    assert is_number("4.5e33")
    assert not is_number("x")


def test_the_check_names_golds_that_only_their_own_words_match(grader: Grader) -> None:
    golds = {
        "4.5e33": "number",
        r"\frac{x}{2}": "algebra",
        "x is late or early": "words",
        "9^{9^{9}}": "none",
    }
    checks = check_golds([Sample("t", str(n), "?", g) for n, g in enumerate(golds)], grader)
    assert [(c.id, c.gold, c.means) for c in checks] == [
        (str(n), gold, means) for n, (gold, means) in enumerate(golds.items())
    ]
    assert "power of more than 100000 digits" in checks[3].reason


@needs_data
def test_every_gold_of_the_usual_sets_can_be_compared(grader: Grader) -> None:
    for name in ("gsm8k", "aime24", "aime83_23", "amc23", "amc22_23"):
        samples = load_task(str(PROBLEMS / f"{name}.jsonl")).samples
        assert {check.means for check in check_golds(samples, grader)} == {"number"}
