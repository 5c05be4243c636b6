"""The processes of a run: one decides, all of them hear it, and a failure of one reaches all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar

from laconic import errors
from laconic.errors import LaconicError, TrainError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")
#: What a failure is sent as: its class, its message.
Failure = tuple[str, str]
FAILED: Final = "failed"
DONE: Final = "done"
FIRST: Final = "the first process"
#: What the extra ``train`` installs.
EXTRA: Final = ("accelerate", "datasets", "peft", "pyarrow", "trl")
#: What says that a process is one of several: torch's launcher, or those of MPI.
RANKED: Final = frozenset(
    ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
)
LAUNCHES: Final = (
    "Start N processes with: torchrun --nproc_per_node N -m laconic train ..., or accelerate "
    "launch --multi_gpu --num_processes N -m laconic train ..."
)


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
    """The processes of this run, connected with one another.

    Raises:
        TrainError: Where they are fewer than the launcher was asked for, or what trains is not
            installed.
    """
    refuse_without_extra()
    import torch
    from accelerate import PartialState

    refuse_launch(os.environ)
    state = PartialState(cpu=not torch.cuda.is_available())
    found = Ranks(int(state.process_index), int(state.num_processes))
    told = os.environ.get("WORLD_SIZE", "")
    if told.isdigit() and int(told) != found.count:
        raise TrainError(
            f"The launcher speaks of {told} processes (WORLD_SIZE), and this one finds itself "
            f"among {found.count}. {LAUNCHES}"
        )
    return found


def refuse_without_extra() -> None:
    """Refuse to train without the libraries of the extra that training takes.

    Raises:
        TrainError: Naming those that are missing, with the command that installs them.
    """
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise TrainError(
            f"Training takes {', '.join(EXTRA)}; {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install 'laconic[train]'."
        )


def refuse_launch(environment: Mapping[str, str]) -> None:
    """Refuse one process of which accelerate was asked for several.

    Without GPUs, and without ``--multi_gpu``, ``accelerate launch`` starts a single process
    whatever ``--num_processes`` says. It sets an address for them to meet at, but no ranks.

    Args:
        environment: The process's.

    Raises:
        TrainError: With the commands that start several.
    """
    launched, alone = "ACCELERATE_MIXED_PRECISION" in environment, not RANKED & environment.keys()
    if launched and alone and "MASTER_ADDR" in environment:
        raise TrainError(
            "accelerate launch was asked for several processes and started one, as it does where "
            f"there are no GPUs. {LAUNCHES} (If one is meant, unset MASTER_ADDR and leave "
            "--num_processes out.)"
        )


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
