"""Choosing: the shortest that is shown to be not worse, by numbers made up for the purpose."""

from __future__ import annotations

from laconic.runs.experiment import Experiment, Sampling, TaskRecord
from laconic.runs.run import Result, Run
from laconic.searching.grid import shortest


def made(name: str, length: int, wrong: int, n: int = 400) -> Run:
    """A run of n problems of which the first `wrong` are wrong, all of one length."""
    results = tuple(
        Result(
            task="t",
            id=str(i),
            repeat=0,
            level=None,
            problem="p",
            gold="1",
            text="",
            length=length,
            thinking_length=0,
            thinks=False,
            truncated=False,
            answer="1",
            outcome="wrong" if i < wrong else "correct",
            correct=i >= wrong,
            reflections=0,
        )
        for i in range(n)
    )
    record = TaskRecord("t", "t", "digest", n, 640)
    experiment = Experiment(name, name, (record,), Sampling(), "replay", "x", "x", "x")
    return Run(name, experiment, results, complete=True)


def chosen(*runs: Run) -> str | None:
    named = {run.name: run for run in (made("system2", 200, wrong=2), *runs)}
    return shortest(named, [r.name for r in runs], baseline="system2", margin=0.02)


def test_the_shortest_of_those_not_worse_is_chosen() -> None:
    runs = made("long", 150, wrong=2), made("short", 90, wrong=3), made("mute", 10, wrong=200)
    assert chosen(*runs) == "short"


def test_too_few_problems_to_show_it_leave_nothing_to_choose() -> None:
    # Six more losses in 400 are 1.5 points, with an interval that reaches below -2.
    assert chosen(made("close", 90, wrong=8)) is None


def test_no_candidates_leave_nothing_to_choose() -> None:
    assert chosen() is None
