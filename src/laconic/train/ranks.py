"""The processes of a run: one decides, all of them hear it, and a failure of one reaches all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from laconic import errors
from laconic.errors import LaconicError, TrainError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
#: What a failure is sent as: its class, its message.
Failure = tuple[str, str]
FAILED: Final = "failed"
DONE: Final = "done"
FIRST: Final = "the first process"


@dataclass(frozen=True)
class Ranks:
    """The processes that accelerate or torchrun started; one, where nobody did.

    Attributes:
        index: This process, from 0.
        count: How many there are.
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process decides and writes."""
        return self.index == 0

    def on_first(self, work: Callable[[], T]) -> T:
        """What `work` gives on the first process, on all of them.

        Raises:
            LaconicError: What it raised there, on all of them.
        """
        told: list[Any] = [_outcome(work)] if self.first else [None]
        if self.count > 1:
            from torch import distributed

            distributed.broadcast_object_list(told, src=0)
        found: T = _opened(told[0], FIRST)
        return found

    def on_all(self, work: Callable[[], T]) -> list[T]:
        """What `work` gives on every process, in their order, on all of them.

        Raises:
            LaconicError: What it raised on the first process where it did, on all of them.
        """
        told: list[Any] = [None] * self.count
        mine = _outcome(work)
        if self.count > 1:
            from torch import distributed

            distributed.all_gather_object(told, mine)
        else:
            told = [mine]
        alone = self.count == 1
        return [
            _opened(one, FIRST if alone else f"process {rank}") for rank, one in enumerate(told)
        ]

    def wait(self) -> None:
        """Go on when every process is here."""
        self.on_all(lambda: None)

    def agree(self, what: str, value: object) -> None:
        """Refuse to go on where processes differ.

        Raises:
            TrainError: Naming what differs.
        """
        found = self.on_all(lambda: value)
        if any(other != found[0] for other in found):
            raise TrainError(
                f"The processes differ in {what}: {found}. Start all of them with one command, "
                "from one folder of the same files."
            )


def find_ranks() -> Ranks:
    """The processes of this run, connected with one another."""
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available())
    return Ranks(int(state.process_index), int(state.num_processes))


def _outcome(work: Callable[[], T]) -> tuple[str, Any]:
    """What came of some work, in a form that can be sent."""
    try:
        return DONE, work()
    except LaconicError as error:
        return FAILED, (type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001  # whatever it is, the others must not wait for ever
        return FAILED, error


def _opened(outcome: tuple[str, Any], where: str) -> Any:
    """The result of some work, or what it raised."""
    how, value = outcome
    if how == DONE:
        return value
    if isinstance(value, Exception):
        raise value
    name, message = value
    kind: type[LaconicError] = getattr(errors, name, TrainError)
    raise kind(message if where == FIRST else f"{message} ({where})")
