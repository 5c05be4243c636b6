"""What a backend is: an engine that holds one model and completes samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from laconic.errors import BackendError
from laconic.registry import Registry

if TYPE_CHECKING:
    from laconic.run import Generation, Sample, Sampling


class Backend(Protocol):
    """An engine that holds one model.

    Attributes:
        dtype: The type it computes in, such as ``float32``.
        device: Where it computes, such as ``cpu`` or ``NVIDIA H100``.
        template: Digest of the chat template and the special tokens it renders with.
        window: The most tokens, prompt and completion together, that the model can hold; None
            where the engine cannot know.
        versions: The engine's libraries and their versions.
    """

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


BackendFactory = Callable[..., Backend]
F = TypeVar("F", bound=BackendFactory)
BACKENDS: Registry[BackendFactory] = Registry("backend", "laconic.backends", BackendError)


def backend(function: F) -> F:
    """Register a function ``(model: str, *, ...) -> Backend`` that loads a model into an engine.

    `model` is a checkpoint folder, a Hub id or a ``lab:`` name. Its keyword-only arguments say
    where and how fast: ``--backend transformers:batch=64``.
    """
    return BACKENDS.register(function)
