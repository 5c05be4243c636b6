"""A call: one completion that is asked of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from laconic.runs.run import Key, Sample

#: What a backend may declare beyond completing a prompt. ``continue``: go on from given token ids,
#: and return the ids of what it generates; ``stop``: end at given texts; ``logprobs``: return the
#: log-probability of every generated token; ``thought_budget``: close a thought at a limit itself.
Capability = Literal["continue", "stop", "logprobs", "thought_budget"]
#: The engine that is measured; every other engine of a strategy is a helper.
MODEL: Final = "model"


@dataclass(frozen=True)
class Call:
    """One completion to ask for.

    The prompt is given in words, not in token ids: a helper has a tokenizer of its own, and a chat
    server takes words only.

    Attributes:
        sample: The words of the prompt; its task, id and repeat pick the random numbers.
        engine: ``model``, or the name of a helper.
        prefix_ids: Token ids of this engine that its turn begins with, behind the prompt and the
            sample's prefill. They are no part of the completion. Takes ``continue``.
        max_tokens: The budget of this completion in tokens; None is the budget of the evaluation.
        stop: Texts that end the completion, beside those of the sample.
        logprobs: Whether the log-probability of every token is wanted: the model's own, at
            temperature 1. Takes ``logprobs``.
        final: Whether the strategy returns this completion as it stands, so that whoever drives
            one question may pass its tokens on while they are generated.
    """

    sample: Sample
    engine: str = MODEL
    prefix_ids: tuple[int, ...] = ()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    final: bool = False

    @property
    def key(self) -> Key:
        """What no two calls of one batch share."""
        return self.sample.key

    @property
    def stops(self) -> tuple[str, ...]:
        """All texts that end the completion."""
        return (*self.sample.stop, *self.stop)

    @property
    def takes(self) -> frozenset[Capability]:
        """What the engine must be able to do for this call."""
        wanted: dict[Capability, bool] = {
            "continue": bool(self.prefix_ids),
            "stop": bool(self.stop),
            "logprobs": self.logprobs,
        }
        return frozenset(name for name, needed in wanted.items() if needed)

    def budget(self, max_tokens: int | None) -> int:
        """The budget of this completion in tokens, if `max_tokens` is that of the evaluation."""
        return self.max_tokens or max_tokens or 0
