"""What a strategy is: how one question is put to one or several engines.

A strategy is a generator function. For one question it yields a `Call`, receives the `Generation`
of that call, yields the next call or returns the answer:

    @strategy(calls=1)
    def single(question: StrategyInput) -> Steps:
        return (yield Call(question.sample, final=True))

It does not count tokens: `laconic.strategies.contract.drive` counts those of every call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from laconic.backends.contract.call import Call
from laconic.errors import StrategyError
from laconic.registry import Registry, parse_spec
from laconic.runs.run import Generation

if TYPE_CHECKING:
    from laconic.backends.contract.call import Capability
    from laconic.registry import Plugin
    from laconic.runs.run import Sample

#: What a strategy makes of one question: calls out, generations in, an answer at the end.
Steps = Generator[Call, Generation, Generation]


@dataclass(frozen=True)
class StrategyInput:
    """What a strategy is given.

    Attributes:
        sample: The question in the words of the prompt; every call keeps its task, id and repeat.
        max_tokens: The budget of one call in tokens, unless the call sets a smaller one.
        encode: The model's token ids of a text, for calls that continue a completion. Only a
            strategy that declares ``continue`` may use it.
    """

    sample: Sample
    max_tokens: int
    encode: Callable[[str], Sequence[int]]


StrategyFunction = Callable[..., Steps]
F = TypeVar("F", bound=StrategyFunction)
STRATEGIES: Registry[StrategyFunction] = Registry("strategy", "laconic.strategies", StrategyError)


def strategy(
    *,
    needs: Collection[Capability] = (),
    calls: int | None = None,
    helpers: Collection[str] = (),
) -> Callable[[F], F]:
    """Register a generator function ``(question: StrategyInput, *, ...) -> Steps``.

    Its keyword-only arguments are its settings: ``--strategy NAME:key=value``.

    Args:
        needs: What the measured engine and the helpers must be able to do beyond completing a
            prompt.
        calls: The most calls for one question; None if that is not known before.
        helpers: The settings that name another model, which is opened as an engine of that name.
    """

    def register(function: F) -> F:
        traits = {"needs": frozenset(needs), "calls": calls, "helpers": tuple(helpers)}
        return STRATEGIES.register(function, traits)

    return register


@dataclass(frozen=True)
class Strategy:
    """A strategy with its settings.

    Attributes:
        plugin: The registered function.
        settings: Every setting with its value.
    """

    plugin: Plugin[StrategyFunction]
    settings: Mapping[str, Any]

    @property
    def calls(self) -> int | None:
        """The most calls for one question; None if that is not known before."""
        most: int | None = self.plugin.traits["calls"]
        return most

    @property
    def helpers(self) -> dict[str, str]:
        """The models of the helpers, by the name of the engine."""
        return {name: str(self.settings[name]) for name in self.plugin.traits["helpers"]}

    def start(self, question: StrategyInput) -> Steps:
        """The steps of one question."""
        return self.plugin.function(question, **self.settings)

    def record(self, digests: Mapping[str, str]) -> str:
        """How a run names the strategy: settings that are not the defaults, digests of helpers.

        Args:
            digests: The fingerprint of every helper, by the name of its engine.
        """
        defaults = {parameter.name: parameter.default for parameter in self.plugin.parameters}
        changed = {k: v for k, v in self.settings.items() if v != defaults[k]} | dict(digests)
        written = ",".join(f"{key}={json.dumps(value)}" for key, value in sorted(changed.items()))
        return f"{self.plugin.name}:{written}" if written else self.plugin.name

    def refuse_unable(self, backend: str, can: Collection[Capability]) -> None:
        """Refuse a backend that lacks what the strategy needs.

        Args:
            backend: Its name.
            can: What it declares.

        Raises:
            StrategyError: Naming what is missing.
        """
        missing = sorted(self.plugin.traits["needs"] - set(can))
        if missing:
            raise StrategyError(
                f"The strategy {self.plugin.name} needs a backend that can do: "
                f"{', '.join(missing)}. The backend {backend} cannot: choose another one."
            )


def load_strategy(spec: str) -> Strategy:
    """The strategy of ``NAME`` or ``NAME:key=value,...``.

    Raises:
        StrategyError: For an unknown name.
        RecipeError: For an unknown setting, or a value that it cannot have.
    """
    name, values = parse_spec(spec)
    plugin = STRATEGIES.get(name)
    return Strategy(plugin, plugin.bind(values, where=f"--strategy {spec}"))
