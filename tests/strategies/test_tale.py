"""TALE: one call for a budget of tokens, one within it, and both count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from laconic.errors import StrategyError
from laconic.runs.experiment import Sampling
from laconic.runs.run import Generation, Sample
from laconic.strategies.contract.drive import ROUND, answer_all, planned_calls
from laconic.strategies.contract.strategy import load_strategy
from laconic.strategies.tale import estimated
from laconic.tasks.contract.prompts import PROMPTS, put

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from laconic.backends.contract.call import Call

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
        self, calls: Sequence[Call], sampling: Sampling
    ) -> Iterator[list[tuple[Call, Generation]]]:
        for call in reversed(calls):
            self.asked.append(call.sample.problem)
            if "[[budget]]" in call.sample.problem:
                text = f"<think>9 digits?</think>Budget: [[{10 * len(call.sample.id)}]]"
                made = Generation(text, 7, 3, True, "stop")
            else:
                made = Generation("\\boxed{5}", 20, 15, True, "length")
            yield [(call, made)]

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
    prompt = PROMPTS["tale-ep"]
    samples = [put(prompt, sample) for sample in SAMPLES]
    strategy = load_strategy(prompt.strategy)
    batches = answer_all(strategy, samples, {"model": engine}, SAMPLING)
    answers = {sample.id: (sample, answer) for batch in batches for sample, answer in batch}
    assert set(answers) == {sample.id for sample in SAMPLES}
    for name, (sample, answer) in answers.items():
        assert f"use less than {10 * len(name)} tokens" in sample.problem
        assert sample.key == ("t", name, 0)
        assert (answer.length, answer.thinking_length, answer.finish) == (27, 18, "length")
    estimates = ["[[budget]]" in problem for problem in engine.asked]
    assert estimates == [True] * ROUND + [False] * ROUND + [True] * 3 + [False] * 3


def test_both_prompts_are_known_before_anything_is_generated() -> None:
    engine = Estimator()
    first, second = planned_calls(
        load_strategy("tale"), SAMPLES[:1], {"model": engine}, Sampling(max_tokens=70)
    )
    assert first.sample.problem.endswith("for example, Budget: [[12]].")
    assert "use less than 70 tokens" in second.sample.problem
    assert engine.asked == []


def test_a_problem_may_hold_the_word_budget_in_braces() -> None:
    sample = Sample("t", "1", "What is {budget} here?", "1")
    _, second = planned_calls(load_strategy("tale"), [sample], {"model": Estimator()}, SAMPLING)
    assert second.sample.problem.startswith("What is {budget} here?\n")


def test_a_prompt_without_a_chat_template_is_refused() -> None:
    raw = put(PROMPTS["cot"], SAMPLES[0])
    with pytest.raises(StrategyError, match="without its chat template"):
        planned_calls(load_strategy("tale"), [raw], {"model": Estimator()}, SAMPLING)
