"""The processes of a training: one decides, all get the result, an error of one reaches all."""

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
FAILED: Final = "failed"
DONE: Final = "done"
FIRST: Final = "the first process"
#: What the extra ``train`` installs.
EXTRA: Final = ("accelerate", "datasets", "peft", "pyarrow", "trl")
#: Set in the environment of one of several processes, by torch's launcher or those of MPI.
RANK_VARIABLES: Final = frozenset(
    ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")
)
LAUNCHES: Final = (
    "Start N processes with: torchrun --nproc_per_node N -m laconic train ..., or accelerate "
    "launch --multi_gpu --num_processes N -m laconic train ..."
)


@dataclass(frozen=True)
class Processes:
    """The processes that accelerate or torchrun started; one where neither did.

    Attributes:
        index: The number of this process, from 0.
        count: How many there are.
    """

    index: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process decides and writes."""
        return self.index == 0

    def on_main_process(self, work: Callable[[], T]) -> T:
        """Run `work` on the main process, and return its result on all processes.

        Raises:
            LaconicError: The error of `work`, on all processes.
        """
        outcomes: list[Any] = [_outcome(work)] if self.is_main else [None]
        if self.count > 1:
            from torch import distributed

            distributed.broadcast_object_list(outcomes, src=0)
        result: T = _result(outcomes[0], FIRST)
        return result

    def on_all(self, work: Callable[[], T]) -> list[T]:
        """Run `work` on every process, and return all results on all processes, in their order.

        Raises:
            LaconicError: The error of the first process that had one, on all processes.
        """
        own = _outcome(work)
        if self.count == 1:
            return [_result(own, FIRST)]
        from torch import distributed

        outcomes: list[Any] = [None] * self.count
        distributed.all_gather_object(outcomes, own)
        return [_result(outcome, f"process {rank}") for rank, outcome in enumerate(outcomes)]

    def wait(self) -> None:
        """Wait until every process is here."""
        self.on_all(lambda: None)

    def agree(self, what: str, value: object) -> None:
        """Refuse to go on where a value differs between processes.

        Raises:
            TrainError: Naming what differs.
        """
        values = self.on_all(lambda: value)
        if any(other != values[0] for other in values):
            raise TrainError(
                f"The processes differ in {what}: {values}. Start all of them with one command, "
                "from one folder of the same files."
            )


def find_processes() -> Processes:
    """The processes of this run, connected with one another.

    Raises:
        TrainError: Where they are fewer than the launcher was asked for, or a library that training
            needs is not installed.
    """
    refuse_without_extra()
    import torch
    from accelerate import PartialState

    refuse_launch(os.environ)
    state = PartialState(cpu=not torch.cuda.is_available())
    processes = Processes(int(state.process_index), int(state.num_processes))
    expected = os.environ.get("WORLD_SIZE", "")
    if expected.isdigit() and int(expected) != processes.count:
        raise TrainError(
            f"The launcher expects {expected} processes (WORLD_SIZE), but {processes.count} "
            f"{'is' if processes.count == 1 else 'are'} connected. {LAUNCHES}"
        )
    return processes


def refuse_without_extra() -> None:
    """Refuse to train without the libraries of the extra ``train``.

    Raises:
        TrainError: Naming those that are missing, with the command that installs them.
    """
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise TrainError(
            f"Training takes {', '.join(EXTRA)}; {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install 'laconic[train]'."
        )


def refuse_launch(environment: Mapping[str, str]) -> None:
    """Refuse a single process where accelerate was asked for several.

    Without GPUs, and without ``--multi_gpu``, ``accelerate launch`` starts a single process
    whatever ``--num_processes`` says. It sets the address for a rendezvous, but no ranks.

    Args:
        environment: The variables of the process.

    Raises:
        TrainError: With the commands that start several.
    """
    launched, alone = (
        "ACCELERATE_MIXED_PRECISION" in environment,
        not RANK_VARIABLES & environment.keys(),
    )
    if launched and alone and "MASTER_ADDR" in environment:
        raise TrainError(
            "accelerate launch was asked for several processes and started one, as it does where "
            f"there are no GPUs. {LAUNCHES} (If one is meant, unset MASTER_ADDR and leave "
            "--num_processes out.)"
        )


def _outcome(work: Callable[[], T]) -> tuple[str, Any]:
    """The result or the error of some work, in a form that can be sent to other processes."""
    try:
        return DONE, work()
    except LaconicError as error:
        return FAILED, (type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001  # whatever it is, the other processes must not wait for ever
        return FAILED, error


def _result(outcome: tuple[str, Any], where: str) -> Any:
    """The result of some work; raises its error."""
    how, value = outcome
    if how == DONE:
        return value
    if isinstance(value, Exception):
        raise value
    name, message = value
    kind: type[LaconicError] = getattr(errors, name, TrainError)
    raise kind(message if where == FIRST else f"{message} ({where})")
