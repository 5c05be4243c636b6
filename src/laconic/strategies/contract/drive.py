"""Runs strategies: the calls of many questions in batches, or those of one question.

Every token of every call counts, whatever a strategy returns: those of the measured model in
`Generation.length`, those of helpers in `Generation.helper_length`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from laconic.backends.contract.backend import Continuing
from laconic.backends.contract.call import MODEL
from laconic.errors import StrategyError
from laconic.runs.run import Generation
from laconic.strategies.contract.strategy import StrategyInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from laconic.backends.contract.backend import Backend
    from laconic.backends.contract.call import Call
    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Sample
    from laconic.strategies.contract.strategy import Steps, Strategy

#: Questions whose first calls are made before any of them is answered, where a strategy makes
#: several calls: what an interruption loses.
ROUND: Final = 256
#: Calls of one question after which `planned_calls` looks no further.
MOST_PLANNED: Final = 64
NOTHING: Final = Generation("", 0, 0, thinks=False, finish="stop")


@dataclass
class OpenQuestion:
    """A question whose strategy is under way.

    Args:
        steps: The strategy's generator, not started yet.

    Attributes:
        call: The call that waits for its generation; the last one if `answer` is there.
        answer: What the strategy returned, with the tokens of all calls; None before.
    """

    steps: Steps
    call: Call = field(init=False)
    answer: Generation | None = None
    _received: list[tuple[str, Generation]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.call = next(self.steps)

    def receive(self, generation: Generation) -> None:
        """Hand the generation of the waiting call over, and find out what comes next."""
        self._received.append((self.call.engine, generation))
        key = self.call.key
        try:
            self.call = self.steps.send(generation)
        except StopIteration as stop:
            self.answer = self._counted(stop.value)
        assert self.call.key == key, "a strategy keeps the task, id and repeat of its question"

    def _counted(self, answer: Generation) -> Generation:
        """An answer with the tokens of all calls."""
        own = [generation for engine, generation in self._received if engine == MODEL]
        helpers = [generation for engine, generation in self._received if engine != MODEL]
        return replace(
            answer,
            length=sum(generation.length for generation in own),
            thinking_length=sum(generation.thinking_length for generation in own),
            helper_length=sum(generation.length for generation in helpers),
        )


def drive(
    questions: Sequence[Steps], engines: Mapping[str, Backend], sampling: Sampling
) -> Iterator[Sequence[tuple[Sample, Generation]]]:
    """Answer many questions: the waiting calls of all of them are made together, round by round.

    Args:
        questions: The steps of each, not started yet.
        engines: The measured model as ``model``, and the helpers by name.
        sampling: How completions are drawn; its `max_tokens` is a number.

    Yields:
        Answers as they come, each with the words of its question's last call.

    Raises:
        BackendError: If an engine fails.
    """
    going = [OpenQuestion(steps) for steps in questions]
    while going:
        if unknown := {one.call.engine for one in going} - engines.keys():
            raise StrategyError(
                f"A strategy calls the engine '{min(unknown)}', which is not open. It declares its "
                "helpers: @strategy(helpers=...)."
            )
        for name, engine in engines.items():
            waiting = {one.call.key: one for one in going if one.call.engine == name}
            if not waiting:
                continue
            for batch in engine.generate([one.call for one in waiting.values()], sampling):
                for call, generation in batch:
                    waiting[call.key].receive(generation)
                answered = [waiting[call.key] for call, _ in batch]
                if pairs := [(q.call.sample, q.answer) for q in answered if q.answer is not None]:
                    yield pairs
        going = [one for one in going if one.answer is None]


def drive_one(steps: Steps, complete: Callable[[Call], Generation]) -> tuple[Sample, Generation]:
    """Answer one question: the same as `drive`, for a caller who makes the calls.

    Args:
        steps: The question's, not started yet.
        complete: Makes one call. If the call is `final`, its tokens may be passed on while they
            are generated: the answer is that completion.

    Returns:
        The words of the last call, and the answer with the tokens of all calls.
    """
    question = OpenQuestion(steps)
    while question.answer is None:
        question.receive(complete(question.call))
    return question.call.sample, question.answer


def answer_all(
    strategy: Strategy,
    samples: Sequence[Sample],
    engines: Mapping[str, Backend],
    sampling: Sampling,
) -> Iterator[Sequence[tuple[Sample, Generation]]]:
    """Put samples through a strategy.

    If it makes several calls, samples go in groups of `ROUND`: an interruption loses the calls of
    one group at most.

    Args:
        strategy: How each question is put.
        samples: The questions; no two of one key.
        engines: As in `drive`.
        sampling: As in `drive`.
    """
    size = len(samples) if strategy.calls == 1 else ROUND
    for start in range(0, len(samples), max(size, 1)):
        group = samples[start : start + size]
        steps = [strategy.start(strategy_input(sample, engines, sampling)) for sample in group]
        yield from drive(steps, engines, sampling)


def planned_calls(
    strategy: Strategy,
    samples: Sequence[Sample],
    engines: Mapping[str, Backend],
    sampling: Sampling,
) -> tuple[Call, ...]:
    """The calls that a strategy would make if every generation were empty; none is made.

    They show the prompts and the budgets before anything is generated. A strategy may make others,
    as far as its calls depend on what the model writes.
    """
    planned: list[Call] = []
    for sample in samples:
        one = OpenQuestion(strategy.start(strategy_input(sample, engines, sampling)))
        for _ in range(MOST_PLANNED):
            planned.append(one.call)
            one.receive(NOTHING)
            if one.answer is not None:
                break
    return tuple(planned)


def strategy_input(
    sample: Sample, engines: Mapping[str, Backend], sampling: Sampling
) -> StrategyInput:
    """What a strategy is given for a sample."""
    engine = engines[MODEL]

    def encode(text: str) -> Sequence[int]:
        if not isinstance(engine, Continuing):
            raise StrategyError("This backend cannot continue a completion from token ids.")
        return engine.encode(text)

    return StrategyInput(sample, sampling.max_tokens or 0, encode)
