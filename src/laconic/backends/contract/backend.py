"""What a backend is: an engine that holds one model and completes samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from laconic.errors import BackendError
from laconic.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

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
        """The exact text the model is given for a sample."""

    def prompt_length(self, sample: Sample) -> int:
        """The tokens of that text."""

    def generate(
        self, samples: Sequence[Sample], sampling: Sampling
    ) -> Iterator[Sequence[tuple[Sample, Generation]]]:
        """Complete every sample once, handing batches over as they finish, in any order.

        Args:
            samples: What to complete; a sample's `repeat` and id pick its random numbers.
            sampling: How; its `max_tokens` is a number.

        Raises:
            BackendError: Where the engine fails.
        """

    def close(self) -> None:
        """Give the model's memory back."""


@runtime_checkable
class Remote(Protocol):
    """What a backend adds whose model runs elsewhere."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a run keeps of it: address, server, version, served model, how lengths came."""

    def request(self, sample: Sample, sampling: Sampling) -> dict[str, Any]:
        """The request for a sample as it would be sent, without secrets."""


def refuse_overflow(engine: Backend, samples: Sequence[Sample], max_tokens: int) -> None:
    """Refuse a budget that the model's window cannot hold beside the longest prompt.

    Args:
        engine: Knows the window, and how long a prompt is.
        samples: All that will be completed.
        max_tokens: The budget of one completion.

    Raises:
        BackendError: With the numbers, and the largest budget that fits.
    """
    if engine.window is None or not samples:
        return
    prompt, sample = max(((engine.prompt_length(s), s) for s in samples), key=lambda pair: pair[0])
    if prompt + max_tokens > engine.window:
        room = engine.window - prompt
        advice = f"Give --max-tokens {room} or less" if room > 0 else "Leave the problem out"
        raise BackendError(
            f"{sample.task}, problem '{sample.id}': a prompt of {prompt} tokens and a budget of "
            f"{max_tokens} (--max-tokens) are {prompt + max_tokens}; the model's window holds "
            f"{engine.window}. {advice}, or use a checkpoint with a larger window "
            "(max_position_embeddings in its config.json; a merge takes it from system2)."
        )


@runtime_checkable
class Resident(Protocol):
    """What a backend adds whose model's weights lie in this process and can be replaced there."""

    def weights(self) -> dict[str, Tensor]:
        """Every parameter by its name in a checkpoint, flat, where it lies; writing changes it.

        A tied head is there under both names.
        """


@runtime_checkable
class Renewable(Protocol):
    """What a backend adds that takes the weights of another checkpoint without a new start."""

    def renew(self, checkpoint: Checkpoint) -> None:
        """Go on with the weights of a checkpoint of the same config, tokenizer and template.

        Raises:
            BackendError: Where it cannot, and why. Which weights the engine then has is not known:
                close it, or renew it again.
        """


BackendFactory = Callable[..., Backend]
F = TypeVar("F", bound=BackendFactory)
BACKENDS: Registry[BackendFactory] = Registry("backend", "laconic.backends", BackendError)


def backend(function: F) -> F:
    """Register a function ``(model: str, *, ...) -> Backend`` that loads a model into an engine.

    `model` is a checkpoint folder, a Hub id or a ``lab:`` name. Its keyword-only arguments say
    where and how fast: ``--backend transformers:batch=64``.
    """
    return BACKENDS.register(function)
