"""The contract of strategies, on engines that are no models, with default settings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from laconic.backends.contract.call import MODEL
from laconic.runs.experiment import Sampling
from laconic.runs.run import Generation, Sample
from laconic.strategies.contract.drive import (
    MOST_PLANNED,
    answer_all,
    drive_one,
    planned_calls,
    strategy_input,
)
from laconic.strategies.contract.strategy import STRATEGIES, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from laconic.backends.contract.call import Call
    from laconic.registry import Plugin
    from laconic.runs.run import Finish

SAMPLES = tuple(Sample("t", str(n), f"What is {n} + 1?", str(n + 1)) for n in range(5))
SAMPLING = Sampling(max_tokens=200, temperature=0.6, seed=1)


@dataclass
class Writer:
    """An engine that writes what a hash of the call says; `silent` writes nothing.

    Attributes:
        calls: Every call with its generation, in the order of the calls.
    """

    silent: bool = False
    calls: list[tuple[Call, Generation]] = field(default_factory=list)
    fingerprint: str = "writer"
    dtype: str = "none"
    device: str = "none"
    template: str = "none"
    window: int | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def render(self, sample: Sample) -> str:
        """The problem."""
        return sample.problem

    def prompt_length(self, sample: Sample) -> int:
        """Its characters."""
        return len(sample.problem)

    def encode(self, text: str) -> list[int]:
        """Its bytes."""
        return list(text.encode())

    def generate(
        self, calls: Sequence[Call], sampling: Sampling
    ) -> Iterator[list[tuple[Call, Generation]]]:
        """Complete every call, the last one first."""
        assert len({call.key for call in calls}) == len(calls)
        for call in reversed(calls):
            completed = call, self.complete(call, sampling)
            self.calls.append(completed)
            yield [completed]

    def complete(self, call: Call, sampling: Sampling) -> Generation:
        """The completion: a function of the call, with a thought, an answer and a number."""
        if self.silent:
            return Generation("", 1, 0, thinks=False, finish="stop", ids=(0,))
        asked = repr((call.sample, call.engine, call.prefix_ids, call.stops))
        number = int(hashlib.sha256(asked.encode()).hexdigest()[:6], 16)
        budget = call.budget(sampling.max_tokens)
        text = f"<think>{number % 97}</think>[[{number % 89}]] \\boxed{{{number % 7}}}"
        ids = tuple(text.encode())[:budget]
        finish: Finish = "length" if len(ids) == budget else "stop"
        logprobs = (-0.5,) * len(ids) if call.logprobs else ()
        return Generation(text, len(ids), min(9, len(ids)), True, finish, ids, logprobs)

    def close(self) -> None:
        """Nothing to give back."""


@pytest.fixture
def settings(plugin: Plugin[Any]) -> dict[str, Any]:
    """What a strategy's settings are; override it for one that has required settings."""
    missing = [p.name for p in plugin.parameters if p.required]
    if set(missing) - set(plugin.traits["helpers"]):
        pytest.skip(f"{plugin.name} has required settings: override the fixture 'settings'")
    return dict.fromkeys(missing, "any")


def open_engines(plugin: Plugin[Any], *, silent: bool = False) -> dict[str, Writer]:
    """The model and the helpers that a strategy declares."""
    return {name: Writer(silent) for name in (MODEL, *plugin.traits["helpers"])}


def bind(plugin: Plugin[Any], settings: Mapping[str, Any]) -> Strategy:
    """A strategy with the settings it is tested with."""
    return Strategy(plugin, plugin.bind(settings, where="contract"))


def answers(strategy: Strategy, engines: dict[str, Writer]) -> dict[str, tuple[Sample, Generation]]:
    """What a strategy answers to the samples, by problem, each exactly once."""
    batches = answer_all(strategy, SAMPLES, dict(engines), SAMPLING)
    pairs = [pair for batch in batches for pair in batch]
    by_problem = {sample.id: (sample, generation) for sample, generation in pairs}
    assert len(by_problem) == len(pairs)
    assert by_problem.keys() == {sample.id for sample in SAMPLES}
    return by_problem


@pytest.mark.parametrize("silent", [False, True], ids=["writes", "silent"])
@pytest.mark.parametrize("plugin", STRATEGIES.all(), ids=lambda p: p.name)
def test_a_strategy_ends_and_counts_the_tokens_of_every_call(
    plugin: Plugin[Any], settings: dict[str, Any], silent: bool
) -> None:
    engines = open_engines(plugin, silent=silent)
    for name, (sample, answer) in answers(bind(plugin, settings), engines).items():
        assert sample.key == ("t", name, 0)
        counted = {MODEL: 0, "helpers": 0, "thought": 0}
        calls = 0
        for engine, writer in engines.items():
            own = [made for call, made in writer.calls if call.sample.id == name]
            counted[MODEL if engine == MODEL else "helpers"] += sum(made.length for made in own)
            counted["thought"] += sum(m.thinking_length for m in own) * (engine == MODEL)
            calls += len(own)
        assert (answer.length, answer.thinking_length) == (counted[MODEL], counted["thought"])
        assert answer.helper_length == counted["helpers"]
        assert 1 <= calls <= (plugin.traits["calls"] or MOST_PLANNED)


@pytest.mark.parametrize("plugin", STRATEGIES.all(), ids=lambda p: p.name)
def test_a_strategy_asks_only_for_what_it_declared(
    plugin: Plugin[Any], settings: dict[str, Any]
) -> None:
    engines = open_engines(plugin)
    answers(bind(plugin, settings), engines)
    for name, writer in engines.items():
        for call, _ in writer.calls:
            assert call.engine == name
            assert call.takes <= plugin.traits["needs"]
            assert call.budget(SAMPLING.max_tokens) <= (SAMPLING.max_tokens or 0)


@pytest.mark.parametrize("plugin", STRATEGIES.all(), ids=lambda p: p.name)
def test_a_strategy_gives_the_same_calls_and_answers_every_time(
    plugin: Plugin[Any], settings: dict[str, Any]
) -> None:
    strategy = bind(plugin, settings)
    first, second = open_engines(plugin), open_engines(plugin)
    assert answers(strategy, first) == answers(strategy, second)
    assert {n: w.calls for n, w in first.items()} == {n: w.calls for n, w in second.items()}


@pytest.mark.parametrize("plugin", STRATEGIES.all(), ids=lambda p: p.name)
def test_one_question_is_answered_as_among_many_and_a_final_call_is_the_answer(
    plugin: Plugin[Any], settings: dict[str, Any]
) -> None:
    strategy = bind(plugin, settings)
    engines = open_engines(plugin)
    among_many = answers(strategy, engines)
    for sample in SAMPLES:
        final: list[str] = []

        def complete(call: Call, final: list[str] = final) -> Generation:
            assert not final, "a final call is the last one"
            completion = engines[call.engine].complete(call, SAMPLING)
            final += [completion.text] if call.final else []
            return completion

        steps = strategy.start(strategy_input(sample, dict(engines), SAMPLING))
        asked, answer = drive_one(steps, complete)
        assert (asked, answer) == among_many[sample.id]
        assert not final or final == [answer.text]


@pytest.mark.parametrize("plugin", STRATEGIES.all(), ids=lambda p: p.name)
def test_the_first_call_of_a_strategy_is_known_before_anything_is_generated(
    plugin: Plugin[Any], settings: dict[str, Any]
) -> None:
    strategy = bind(plugin, settings)
    engines = open_engines(plugin)
    planned = planned_calls(strategy, SAMPLES, dict(engines), SAMPLING)
    assert not any(writer.calls for writer in engines.values())
    answers(strategy, engines)
    made = [call for writer in engines.values() for call, _ in writer.calls]
    for sample in SAMPLES:
        first = next(call for call in planned if call.key == sample.key)
        assert first in made


@pytest.mark.parametrize("plugin", STRATEGIES.all(), ids=lambda p: p.name)
def test_a_strategy_explains_itself(plugin: Plugin[Any]) -> None:
    assert plugin.summary.endswith(".")
    assert [p.name for p in plugin.parameters if not p.help] == []
    assert set(plugin.traits["helpers"]) <= {p.name for p in plugin.parameters}
