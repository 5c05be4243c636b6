"""Every statistic against the reference of the real logs, within its stated tolerance."""

from __future__ import annotations

from functools import cache

import pytest

from laconic.runs.run import Generation, Sample
from laconic.scoring.score import Grader, score_all
from laconic.stats import (
    Responses,
    columns,
    front_chances,
    pair,
    pareto,
    pass_rates,
    read_texts,
    rebudget,
    summarise,
    trend,
)
from laconic.stats.intervals import error
from tests.support.results import expected, logged, needs_logs

pytestmark = needs_logs
RUNS = [
    ("aime24", "r1-14b-merge-ties"),
    ("amc23", "r1-14b-thinkprune"),
    ("math500", "r1-14b-merge-task-arithmetic"),
    ("gsm8k", "r1-7b-tldr"),
]
DATASETS = ["aime24", "amc23"]


@cache
def responses(dataset: str, run: str) -> Responses:
    return columns(logged(run, dataset))


@pytest.mark.parametrize(("dataset", "run"), RUNS)
def test_tokens_truncation_and_thinking_are_exact(dataset: str, run: str) -> None:
    row = expected()["table"][dataset][run]
    found = summarise(responses(dataset, run))
    assert (found.n, found.problems) == (row["n"], row["problems"])
    assert found.truncated == pytest.approx(row["truncation_rate"], abs=1e-6)
    assert found.thinking == pytest.approx(row["has_think_close"], abs=1e-6)
    assert found.length.value == pytest.approx(row["tokens"]["mean"], abs=1e-4)
    assert found.length_error == pytest.approx(row["tokens"]["se_clustered"], abs=1e-4)
    assert found.accuracy.value == pytest.approx(row["logged_accuracy"], abs=1e-6)
    assert found.accuracy_error == pytest.approx(row["se_clustered"], abs=0.003)
    cap = rebudget(responses(dataset, run), row["max_tokens"])
    assert (cap.accuracy, cap.length.value) == (found.accuracy, found.length.value)


@pytest.mark.parametrize(("dataset", "run"), RUNS)
def test_reflection_loops_and_first_places_are_the_references(dataset: str, run: str) -> None:
    row = expected()["table"][dataset][run]
    found = read_texts(responses(dataset, run))
    words, reference = found.reflection["words"], row["reflection"]
    assert {k: v.total for k, v in words.keywords.items()} == {
        k: v["total"] for k, v in reference["by_keyword"].items()
    }
    for keyword, shares in reference["by_keyword"].items():
        assert words.keywords[keyword].share == pytest.approx(shares["ratio"], abs=1e-6)
    assert words.share == pytest.approx(reference["any_ratio"], abs=1e-6)
    assert words.per_response == pytest.approx(reference["per_response"], abs=1e-6)
    assert words.per_thousand == pytest.approx(reference["per_1k_tokens"], abs=1e-5)
    assert found.loops == pytest.approx(row["loop_rate"], abs=1e-6)
    assert found.after_right == pytest.approx(row["first_correct"]["mean_share_after"], abs=0.03)


def test_length_goes_with_level_as_in_the_reference() -> None:
    for run, row in expected()["table"]["math500"].items():
        one = responses("math500", run)
        found = trend(one, pass_rates([one])).level
        assert found is not None
        wanted = row["difficulty"]["spearman_level_vs_tokens"]
        assert found.value == pytest.approx(wanted, abs=1e-5)
        by_level = summarise(one).by_level
        assert [str(level) for level in by_level] == list(row["by_level"])
        for level, there in row["by_level"].items():
            assert by_level[int(level)].n == there["n"]
            assert by_level[int(level)].length.value == pytest.approx(
                there["mean_tokens"], abs=1e-3
            )


@pytest.mark.parametrize("dataset", DATASETS)
def test_pairs_and_votes_are_the_references(dataset: str) -> None:
    table = expected()["table"][dataset]
    for names, row in expected()["paired"][dataset].items():
        left, right = names.split(" - ")
        found = pair(
            responses(dataset, left),
            responses(dataset, right),
            name=left,
            against=right,
            margin=0.02,
        )
        assert found.n == row["problems"]
        assert found.length_diff.value == pytest.approx(row["d_tokens"], abs=1e-3)
        tokens = responses(dataset, left).lengths - responses(dataset, right).lengths
        assert error(tokens) == pytest.approx(row["d_tokens_se"], abs=1e-3)
        gap = table[left]["logged_accuracy"] - table[right]["logged_accuracy"]
        assert found.accuracy_diff.value == pytest.approx(gap, abs=1e-5)
        assert found.accuracy_error == pytest.approx(row["d_accuracy_se"], abs=0.005)
    for run, row in table.items():
        found_run = summarise(responses(dataset, run))
        for k, wanted in row["pass_at_k"].items():
            assert found_run.pass_at[int(k)].value == pytest.approx(wanted, abs=0.035)
        # the reference breaks a tie for the vote its own way
        assert found_run.majority_at[8].value == pytest.approx(row["maj_at_k"]["8"], abs=0.03)


def test_fronts_are_the_references() -> None:
    for dataset, front in expected()["pareto"].items():
        table = expected()["table"][dataset]
        points = {name: (row["accuracy"], row["tokens"]["mean"]) for name, row in table.items()}
        assert set(pareto(points)) == set(front)


def test_the_front_is_surest_where_the_gaps_are_widest() -> None:
    names = expected()["table"]["amc23"]
    found = front_chances({name: responses("amc23", name) for name in names})
    assert found["r1-14b-thinkprune"] == found["r1-14b-merge-task-arithmetic"] == 1
    assert 0.2 < found["r1-14b-merge-ties"] < 0.8  # level with a shorter run


@pytest.mark.slow
def test_graded_runs_have_the_reference_errors() -> None:
    def graded(run: str, dataset: str, grader: Grader) -> Responses:
        rows = logged(run, dataset)
        completions = [
            (
                Sample(r.task, r.id, r.problem, r.gold, repeat=r.repeat),
                Generation(r.text, r.length, 0, r.thinks, "length" if r.truncated else "stop"),
            )
            for r in rows
        ]
        return columns(score_all(completions, grader))

    with Grader() as grader:
        runs = {
            (dataset, run): graded(run, dataset, grader)
            for dataset, table in expected()["table"].items()
            for run in table
        }
    for dataset, pairs in expected()["paired"].items():
        for names, row in pairs.items():
            left, right = names.split(" - ")
            found = pair(
                runs[dataset, left], runs[dataset, right], name=left, against=right, margin=0.02
            )
            exact = dataset in DATASETS  # elsewhere answers without a box are read otherwise
            assert found.accuracy_diff.value == pytest.approx(
                row["d_accuracy"], abs=1e-5 if exact else 0.005
            )
            assert found.accuracy_error == pytest.approx(
                row["d_accuracy_se"], abs=1e-4 if exact else 1e-3
            )
    for (dataset, run), one in runs.items():
        row = expected()["table"][dataset][run]
        for k, wanted in row.get("pass_at_k", {}).items():
            assert summarise(one).pass_at[int(k)].value == pytest.approx(wanted, abs=1e-5)
        if wanted := row.get("difficulty", {}).get("spearman_failrate_vs_meantokens"):
            found_trend = trend(one, pass_rates([one]))
            assert found_trend.failed.value == pytest.approx(wanted, abs=0.005)
        place = read_texts(one).after_right
        assert place == pytest.approx(row["first_correct"]["mean_share_after"], abs=0.03)
