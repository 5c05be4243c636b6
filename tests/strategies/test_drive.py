"""Strategies under way: calls in batches, helpers apart, identities, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from laconic.backends.contract.call import Call
from laconic.errors import RecipeError, StrategyError
from laconic.runs.experiment import Sampling
from laconic.runs.run import Sample
from laconic.strategies.contract.drive import answer_all, drive, planned_calls
from laconic.strategies.contract.strategy import STRATEGIES, load_strategy, strategy
from laconic.testing.test_strategies import Writer

if TYPE_CHECKING:
    from laconic.strategies.contract.strategy import Steps, StrategyInput

SAMPLES = tuple(Sample("t", str(n), f"{n}?", str(n)) for n in range(6))
SAMPLING = Sampling(max_tokens=100)


@pytest.fixture
def cascade(monkeypatch: pytest.MonkeyPatch) -> None:
    """A strategy that continues what the model began, and asks a helper for every other problem."""
    monkeypatch.setattr(STRATEGIES, "_members", {p.name: p for p in STRATEGIES.all()})

    @strategy(needs=["continue"], calls=3, helpers=["second"])
    def cascade(question: StrategyInput, *, second: str, closing: str = "</think>") -> Steps:
        """Try, continue, and ask another model where the number is even."""
        begun = yield Call(question.sample, max_tokens=5)
        ids = (*begun.ids, *question.encode(closing))
        answer = yield Call(question.sample, prefix_ids=ids)
        if int(question.sample.id) % 2:
            return answer
        return (yield Call(question.sample, engine="second", final=True))


@pytest.mark.usefixtures("cascade")
def test_tokens_of_helpers_are_counted_apart() -> None:
    engines = {"model": Writer(), "second": Writer()}
    batches = answer_all(load_strategy("cascade:second=org/m"), SAMPLES, engines, SAMPLING)
    answers = {sample.id: answer for batch in batches for sample, answer in batch}
    assert len(answers) == 6
    for name, answer in answers.items():
        calls = [(call, made) for call, made in engines["model"].calls if call.sample.id == name]
        assert [call.prefix_ids for call, _ in calls] == [(), (*calls[0][1].ids, *b"</think>")]
        assert answer.length == 5 + calls[1][1].length
        assert (answer.helper_length > 0) == (int(name) % 2 == 0)
    assert [call.sample.id for call, _ in engines["second"].calls] == ["4", "2", "0"]


@pytest.mark.usefixtures("cascade")
def test_a_strategy_is_named_with_what_is_not_its_default() -> None:
    assert load_strategy("single").record({}) == "single"
    assert load_strategy("tale").record({}) == "tale"
    assert load_strategy("tale:estimate=How {problem}?").record({}) == (
        'tale:estimate="How {problem}?"'
    )
    plain = load_strategy("cascade:second=org/m")
    assert plain.helpers == {"second": "org/m"}
    assert plain.record({"second": "f1"}) == 'cascade:second="f1"'


@pytest.mark.usefixtures("cascade")
def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    with pytest.raises(StrategyError, match="Did you mean 'tale'"):
        load_strategy("tael")
    with pytest.raises(
        RecipeError, match=r"--strategy tale:words=5: strategy 'tale' has no 'words'"
    ):
        load_strategy("tale:words=5")
    wanting = load_strategy("cascade:second=org/m")
    with pytest.raises(StrategyError, match="cascade needs a backend that can do: continue"):
        wanting.refuse_unable("openai", {"stop"})
    wanting.refuse_unable("transformers", {"stop", "continue"})
    with pytest.raises(StrategyError, match="the engine 'second', which is not open"):
        list(answer_all(wanting, SAMPLES, {"model": Writer()}, SAMPLING))


def test_answers_come_as_soon_as_their_last_call_is_made() -> None:
    def sometimes_twice(sample: Sample) -> Steps:
        first = yield Call(sample)
        if int(sample.id) < 3:
            return first
        return (yield Call(replace(sample, problem="Again: " + sample.problem)))

    engine = Writer()
    batches = drive([sometimes_twice(s) for s in SAMPLES], {"model": engine}, SAMPLING)
    assert [sample.id for batch in batches for sample, _ in batch] == ["2", "1", "0", "5", "4", "3"]
    assert len(engine.calls) == 9


def test_the_strategy_of_the_documentation_asks_twice_where_the_budget_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(STRATEGIES, "_members", {p.name: p for p in STRATEGIES.all()})
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    code = next(b for b in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "@str" in b)
    exec(compile(code, "evaluation.md", "exec"), {"__name__": "page"})
    engine, cut = Writer(), Sampling(max_tokens=12)
    assert len(planned_calls(load_strategy("second_try"), SAMPLES, {"model": engine}, cut)) == 6
    list(answer_all(load_strategy("second_try:words=Why?"), SAMPLES, {"model": engine}, cut))
    assert [call.sample.problem for call, _ in engine.calls[:7:6]] == ["5?", "5?\nWhy?"]
    assert len(engine.calls) == 12


def test_planning_a_strategy_that_never_ends_ends() -> None:
    @strategy()
    def endless(question: StrategyInput) -> Steps:
        """Ask again until something is said."""
        answer = yield Call(question.sample)
        while not answer.text:
            answer = yield Call(question.sample)
        return answer

    try:
        planned = planned_calls(
            load_strategy("endless"), SAMPLES[:1], {"model": Writer()}, SAMPLING
        )
    finally:
        del STRATEGIES._members["endless"]
    assert len(planned) == 64
