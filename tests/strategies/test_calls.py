"""Answers that take two calls: one for a budget of tokens, one within it, and both count."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from laconic.runs.experiment import Sampling
from laconic.runs.run import Generation, Sample
from laconic.strategies.calls import ROUND, calls, complete, digest, estimated
from laconic.tasks.contract.prompts import PROMPTS, put
from laconic.tasks.contract.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SAMPLES = tuple(Sample("t", str(n), f"What is {n} + 1?", str(n + 1)) for n in range(ROUND + 3))
SAMPLING = Sampling(max_tokens=100)


class Estimator:
    """An engine that wants ten tokens for each digit of a problem, and answers in what it got."""

    fingerprint, dtype, device, template = "f", "float32", "cpu", "t"
    window: int | None = None
    versions: dict[str, str] = {}  # noqa: RUF012  # as the protocol has it

    def __init__(self) -> None:
        self.asked: list[str] = []

    def render(self, sample: Sample) -> str:
        return f"<user>{sample.problem}"

    def prompt_length(self, sample: Sample) -> int:
        return len(sample.problem)

    def generate(
        self, samples: Sequence[Sample], sampling: Sampling
    ) -> Iterator[list[tuple[Sample, Generation]]]:
        for sample in reversed(samples):
            self.asked.append(sample.problem)
            if "[[budget]]" in sample.problem:
                text = f"<think>9 digits?</think>Budget: [[{10 * len(sample.id)}]]"
                made = Generation(text, 7, 3, True, "stop")
            else:
                made = Generation("\\boxed{5}", 20, 15, True, "length")
            yield [(sample, made)]

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("Budget: [[12]]", 12),
        ("[[budget]], so [[ 40 tokens ]]", 40),
        ("<think>[[9]] or 8?</think>About 1,50 tokens", 150),
        ("It takes 20 to 30 tokens.", 30),
        ("No idea.", 500),
        ("[[0]]", 500),
        ("[[99999999999999999999]]", 500),
    ],
)
def test_the_budget_is_the_number_the_model_names(text: str, budget: int) -> None:
    assert estimated(text, 500) == budget


def test_both_calls_count_and_the_second_holds_the_budget() -> None:
    engine = Estimator()
    asked = [put(PROMPTS["tale-ep"], sample) for sample in SAMPLES]
    found = {s.id: (s, g) for batch in complete(engine, asked, SAMPLING) for s, g in batch}
    assert set(found) == {sample.id for sample in SAMPLES}
    for name, (sample, made) in found.items():
        assert f"use less than {10 * len(name)} tokens" in sample.problem
        assert sample.key == ("t", name, 0)
        assert (made.length, made.thinking_length, made.finish) == (27, 18, "length")
    estimates = ["[[budget]]" in problem for problem in engine.asked]
    assert estimates == [True] * ROUND + [False] * ROUND + [True] * 3 + [False] * 3


def test_one_call_is_as_it_was() -> None:
    engine = Estimator()
    found = [pair for batch in complete(engine, SAMPLES[:2], SAMPLING) for pair in batch]
    assert [sample for sample, _ in found] == list(SAMPLES[1::-1])
    assert [made.length for _, made in found] == [20, 20]
    assert list(complete(engine, (), SAMPLING)) == []
    assert calls(SAMPLES[0]) == SAMPLES[:1]


def test_another_estimate_is_another_experiment() -> None:
    first = put(PROMPTS["tale-ep"], SAMPLES[0])
    other = replace(first, estimate="How many?")
    records = [Task("t", "t", (sample,)).record(9).digest for sample in (first, other)]
    assert records[0] != records[1]
    assert digest(Estimator(), [first])["first"].endswith("for example, Budget: [[12]].")
    assert len({digest(Estimator(), [one])["sha256"] for one in (first, other)}) == 2
