"""What a backend is: an engine that holds one model and completes prompts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload, runtime_checkable

from laconic.errors import BackendError
from laconic.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.backends.contract.call import Call, Capability
    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Generation, Sample


class Backend(Protocol):
    """An engine that holds one model.

    Attributes:
        fingerprint: Digest of what identifies the model: its weights, or what the engine can see.
        dtype: The type it computes in, such as ``float32``.
        device: Where it computes, such as ``cpu`` or ``NVIDIA H100``.
        template: Digest of the chat template and the special tokens it renders with.
        window: The most tokens, prompt and completion together, that the model can hold; None
            where the engine cannot know.
        versions: The engine's libraries and their versions.
    """

    fingerprint: str
    dtype: str
    device: str
    template: str
    window: int | None
    versions: dict[str, str]

    def render(self, sample: Sample) -> str:
        """The exact prompt of a sample, as text."""

    def prompt_length(self, sample: Sample) -> int:
        """The number of tokens of that prompt."""

    def generate(
        self, calls: Sequence[Call], sampling: Sampling
    ) -> Iterator[Sequence[tuple[Call, Generation]]]:
        """Complete every call once, and hand batches over as they finish, in any order.

        A completion depends on its call and the sampling only: not on the other calls of the batch.

        Args:
            calls: What to complete, no two of one key; none takes what the backend cannot do.
            sampling: How completions are drawn; its `max_tokens` is a number, and the budget of
                the calls that have none of their own.

        Raises:
            BackendError: If the engine fails, or the window cannot hold a prompt and its budget.
        """

    def close(self) -> None:
        """Give the model's memory back."""


@runtime_checkable
class ServedBackend(Protocol):
    """What a backend adds if its model runs behind a server."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a run keeps of the server: address, version, served model, source of lengths."""

    def request(self, call: Call, sampling: Sampling) -> dict[str, Any]:
        """The request for a call as it would be sent, without secrets."""


@runtime_checkable
class Continuing(Protocol):
    """What a backend adds if it declares ``continue``."""

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without special tokens around it."""


def refuse_overflow(engine: Backend, calls: Sequence[Call], max_tokens: int) -> None:
    """Refuse a budget that the model's window cannot hold beside the longest prompt.

    Args:
        engine: Knows the window, and how long a prompt is.
        calls: All that will be completed.
        max_tokens: The budget, in tokens, of a call that has none of its own.

    Raises:
        BackendError: With the numbers, and the largest budget that fits.
    """
    if engine.window is None or not calls:
        return

    def prompt_length(call: Call) -> int:
        return engine.prompt_length(call.sample) + len(call.prefix_ids)

    longest = max(calls, key=lambda call: prompt_length(call) + call.budget(max_tokens))
    prompt, budget = prompt_length(longest), longest.budget(max_tokens)
    if prompt + budget > engine.window:
        room = engine.window - prompt
        advice = f"Give --max-tokens {room} or less" if room > 0 else "Leave the problem out"
        raise BackendError(
            f"{longest.sample.task}, problem '{longest.sample.id}': a prompt of {prompt} tokens "
            f"and a budget of {budget} (--max-tokens) are {prompt + budget}; the model's window "
            f"holds {engine.window}. {advice}, or use a checkpoint with a larger window "
            "(max_position_embeddings in its config.json; a merge takes it from system2)."
        )


@runtime_checkable
class Resident(Protocol):
    """What a backend adds if its weights are in this process and can be overwritten there."""

    def weights(self) -> dict[str, Tensor]:
        """Flat views of the parameters by their names in the engine; writing changes the model.

        A tied head is there under both names.
        """


@runtime_checkable
class Renewable(Protocol):
    """What a backend adds if it can load the weights of another checkpoint without a restart."""

    def renew(self, checkpoint: Checkpoint) -> None:
        """Replace the weights by those of a checkpoint of the same config, tokenizer and template.

        Raises:
            BackendError: If it cannot. It is then not known which weights the engine has: close
                it, or renew it again.
        """


BackendFactory = Callable[..., Backend]
F = TypeVar("F", bound=BackendFactory)
BACKENDS: Registry[BackendFactory] = Registry("backend", "laconic.backends", BackendError)


@overload
def backend(function: F) -> F: ...
@overload
def backend(*, can: Collection[Capability] = ()) -> Callable[[F], F]: ...
def backend(function: F | None = None, *, can: Collection[Capability] = ()) -> F | Callable[[F], F]:
    """Register a function ``(model: str, *, ...) -> Backend`` that loads a model into an engine.

    `model` is a checkpoint folder, a Hub id or a ``lab:`` name. Its keyword-only arguments say
    where and how fast: ``--backend transformers:batch=64``.

    Args:
        function: The function.
        can: What the engine can do beyond completing a prompt. A strategy that needs more is
            refused before the model is loaded.
    """

    def register(function: F) -> F:
        return BACKENDS.register(function, {"can": frozenset(can)})

    return register if function is None else register(function)
