"""The study's pieces of work, each done once: a seed's data and bounds, and one training."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import TrainError
from laconic.files.append_log import read_lines
from laconic.files.json import read_json, write_json
from laconic.searching.workers import pool
from laconic.training.run_folder import RunFolder
from laconic.training.train import train
from studies.tldr.arms import recipe
from studies.tldr.data import make_pools, measure_bounds

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.training.train import TrainRecipe
    from studies.tldr.arms import Arm, Scale, StudyFolders

#: What a piece of work cost, in its folder.
COST: Final = "cost.json"
#: Called with the name of a finished piece of work.
OnDone = Callable[[str], None]


@dataclass(frozen=True)
class Training:
    """The result of one training.

    Attributes:
        folder: Its folder; the model is in ``best``.
        records: Each evaluation and its effect on the mixture, as mixture.jsonl has them.
        step: The step of the checkpoint that dev chose.
        accuracy: Of that checkpoint on the dev problems, a fraction.
        length: Its mean tokens there.
        lacking: Why it is not good enough there; empty where it is.
        seconds: CPU seconds; None where it was stopped in between.
    """

    folder: Path
    records: tuple[Mapping[str, Any], ...]
    step: int
    accuracy: float
    length: float
    lacking: str
    seconds: float | None

    @classmethod
    def read(cls, folder: Path) -> Training:
        """Read a finished training from its folder.

        Raises:
            TrainError: Where a file is missing or damaged.
        """
        result = read_json(folder / "run.json", TrainError)["result"]
        lines = read_lines(folder / "mixture.jsonl")
        return cls(
            folder=folder,
            records=tuple(json.loads(line) for line in lines),
            step=result["best"]["step"],
            accuracy=result["best"]["accuracy"],
            length=result["best"]["length"],
            lacking=result["lacking"],
            seconds=cost_of(folder),
        )

    @property
    def last(self) -> Path:
        """The run of its last evaluation."""
        return RunFolder(self.folder).evaluation(self.records[-1]["step"])

    @property
    def shares(self) -> dict[str, float]:
        """The share of each pool in all tokens that were trained on."""
        tokens = dict.fromkeys(self.records[0]["token_shares"], 0.0)
        before = 0
        for record in self.records:
            for name, share in record["token_shares"].items():
                tokens[name] += share * (record["tokens"] - before)
            before = record["tokens"]
        return {name: count / before for name, count in tokens.items()}


def cost_of(folder: Path) -> float | None:
    """The CPU seconds that a piece of work took; None where it was stopped in between."""
    seconds: float | None = read_json(folder / COST, TrainError)["cpu_seconds"]
    return seconds


def make_data(seed: int, arms: Sequence[Arm], scale: Scale, folders: StudyFolders) -> None:
    """Build a seed's pools, and measure System 1 and 2 on its dev problems."""
    with _timed(folders.seed(seed)):
        for pools in dict.fromkeys(arm.pools for arm in arms):
            make_pools(pools, seed, scale, folders)
        first = next(arm for arm in arms if not arm.like)
        measure_bounds(recipe(first, seed, scale, folders), folders)


def train_arm(arm: Arm, seed: int, scale: Scale, folders: StudyFolders) -> None:
    """Train an arm on a seed's data; a stopped training goes on where it stood."""
    shares = None
    if arm.like:
        short = round(Training.read(folders.training(arm.like, seed)).shares["short"], 4)
        shares = {"short": short, "long": round(1 - short, 4)}
    trained_as, folder = recipe(arm, seed, scale, folders, shares), folders.training(arm.name, seed)
    if _finished(folder, trained_as):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _timed(folder):
        train(trained_as, folder, resume=folder.exists())


def side_by_side(
    task: Callable[..., None], jobs: Mapping[str, tuple[Any, ...]], workers: int, on_done: OnDone
) -> None:
    """Do a piece of work for each of several arguments, in processes where there are several.

    Args:
        task: The work.
        jobs: Its arguments, by what the piece is called.
        workers: Processes.
        on_done: Called with the name of a piece when it is finished.

    Raises:
        LaconicError: The first failure; what was finished is kept.
    """
    if workers == 1 or len(jobs) < 2:
        for name, given in jobs.items():
            task(*given)
            on_done(name)
        return
    with pool(min(workers, len(jobs))) as executor:
        futures = {executor.submit(task, *given): name for name, given in jobs.items()}
        for future in as_completed(futures):
            future.result()
            on_done(futures[future])


def _finished(folder: Path, trained_as: TrainRecipe) -> bool:
    """Whether a folder holds this very training, whole."""
    if not (folder / COST).exists():
        return False
    head = read_json(folder / "run.json", TrainError)
    return bool(head.get("complete")) and head.get("digest") == trained_as.digest


@contextmanager
def _timed(folder: Path) -> Iterator[None]:
    """Write the cost of a piece of work into its folder, unless it is there already."""
    fresh, before = not folder.exists(), os.times()
    yield
    after = os.times()
    seconds = sum(after[i] - before[i] for i in range(4)) if fresh else None
    if not (folder / COST).exists():
        write_json(folder / COST, {"cpu_seconds": seconds})
