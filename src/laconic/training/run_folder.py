"""The folder of a run: its paths, its checkpoints and which of them are kept, its lock."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RecipeError, TrainError
from laconic.files.atomic import lock, make_folder, publish, write_file
from laconic.files.json import read_json, write_json
from laconic.files.yaml import read_yaml_mapping
from laconic.training.recipe import TrainRecipe

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

SCHEMA: Final = 1
KIND: Final = "train"
#: The files of a checkpoint beside the model, the optimizer and the trainer's state: where the
#: mixture stands, and what the objective needs to go on (missing where it needs nothing).
MIXTURE_STATE: Final = "mixture.json"
OBJECTIVE_STATE: Final = "objective.json"
#: What only resuming needs: a candidate that is not the last checkpoint is kept without it.
FOR_RESUMING: Final = (
    "optimizer*", "scheduler.pt", "scaler.pt", "rng_state*.pth", "training_args.bin",
    "trainer_state.json", OBJECTIVE_STATE, "global_step*", "latest", "zero_to_fp32.py",
    "pytorch_model_fsdp*",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run.

    Attributes:
        folder: The whole of it.
    """

    folder: Path

    @property
    def partial(self) -> Path:
        """The folder of a checkpoint while it is written."""
        return self.folder / "checkpoints" / ".partial"

    @property
    def best(self) -> Path:
        """The model that the run delivers."""
        return self.folder / "best"

    @property
    def exported(self) -> Path:
        """The checkpoint under evaluation, exported as it would be delivered."""
        return self.folder / "exported"

    @property
    def pairs(self) -> Path:
        """Where DPO keeps its pairs and their reference log-probabilities while it trains."""
        return self.folder / "pairs"

    def checkpoint(self, step: int) -> Path:
        """A checkpoint that training can go on from."""
        return self.folder / "checkpoints" / f"step-{step:06}"

    def candidate(self, step: int) -> Path:
        """A checkpoint of which only the model is kept."""
        return self.folder / "candidates" / f"step-{step:06}"

    def evaluation(self, step: int) -> Path:
        """The run folder of an evaluation."""
        return self.folder / "evals" / f"step-{step:06}"

    def model(self, step: int) -> Path:
        """The model of a step, wherever it is kept."""
        candidate = self.candidate(step)
        return candidate if candidate.exists() else self.checkpoint(step)

    def steps(self) -> list[int]:
        """The steps of the checkpoints that training can go on from."""
        return _steps(self.folder / "checkpoints")

    def last(self) -> int:
        """The step of the last checkpoint; 0 where there is none."""
        return max(self.steps(), default=0)

    def what_is_left(self) -> str:
        """What is left after a failure, and what to do, as a sentence for a message."""
        step = self.last()
        left = f"The checkpoint of step {step} is whole" if step else "Nothing was trained yet"
        return f"{left}: mend it, then run the same command with --resume."

    def state(self, step: int) -> dict[str, Any]:
        """The state of the mixture in a checkpoint.

        Raises:
            TrainError: Where it is missing or damaged.
        """
        return read_json(self.checkpoint(step) / MIXTURE_STATE, TrainError)

    def write_state(
        self, checkpoint: Path, mixture: Mapping[str, Any], objective: Mapping[str, Any]
    ) -> None:
        """Write what a checkpoint keeps beside the model and the trainer's state.

        Args:
            checkpoint: Its folder, which is not in its place yet.
            mixture: Where the mixture stands.
            objective: What the objective needs to go on; empty for nothing.
        """
        write_json(checkpoint / MIXTURE_STATE, mixture)
        if objective:
            write_json(checkpoint / OBJECTIVE_STATE, objective)

    def objective_state(self, step: int) -> dict[str, Any]:
        """What the objective needs to go on from a checkpoint; empty for nothing.

        Raises:
            TrainError: Where the file is damaged.
        """
        path = self.checkpoint(step) / OBJECTIVE_STATE
        return read_json(path, TrainError) if path.exists() else {}

    def keep(self, state: Mapping[str, Any], step: int) -> None:
        """Replace a checkpoint's state by that after its evaluation; write the *.jsonl files."""
        write_json(self.checkpoint(step) / MIXTURE_STATE, state)
        _write_lines(self.folder / "mixture.jsonl", state["records"])
        trainer = self.checkpoint(step) / "trainer_state.json"
        if trainer.exists():
            logged = read_json(trainer, TrainError)["log_history"]
            _write_lines(self.folder / "steps.jsonl", _step_records(logged))

    def prune(self, wanted: Collection[int]) -> None:
        """Keep the last checkpoint whole, the models of the wanted ones, and no other."""
        last = self.last()
        for step in self.steps():
            if step == last:
                continue
            checkpoint, candidate = self.checkpoint(step), self.candidate(step)
            if step in wanted:
                make_folder(candidate.parent)
                publish(checkpoint, candidate)
            else:
                shutil.rmtree(checkpoint, ignore_errors=True)
        for step in _steps(self.folder / "candidates"):
            if step not in wanted:
                shutil.rmtree(self.candidate(step), ignore_errors=True)
                continue
            for pattern in FOR_RESUMING:
                for path in self.candidate(step).glob(pattern):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def forget(self, step: int) -> None:
        """Delete what a stopped run left after a step."""
        for unfinished in (self.partial, self.exported):
            shutil.rmtree(unfinished, ignore_errors=True)
        for later in _steps(self.folder / "evals"):
            if later > step:
                shutil.rmtree(self.evaluation(later))

    def write_head(self, facts: Mapping[str, Any], *, complete: bool) -> None:
        """Write run.json."""
        head = {"schema": SCHEMA, "kind": KIND, "complete": complete, **facts}
        write_json(self.folder / "run.json", head)

    def claim(self, digest: str, *, resume: bool) -> Any:
        """Lock the folder for this process.

        Args:
            digest: Of the recipe.
            resume: Whether a run in the folder may be continued.

        Returns:
            An open file; closing it unlocks the folder.

        Raises:
            TrainError: Where the folder holds something else, another run, or is in use.
            RecipeError: Where a run began with another recipe.
        """
        occupied = self.folder.exists() and any(self.folder.iterdir())
        if occupied and not (self.folder / "run.json").exists():
            raise TrainError(f"{self.folder} exists and is no training. Choose another folder.")
        if occupied:
            head = self._head()
            if head.get("kind") != KIND:
                raise TrainError(f"{self.folder} holds no training. Choose another folder.")
            if not resume:
                raise TrainError(
                    f"{self.folder} holds a training{_state(head)}. Go on with --resume, or choose "
                    "another folder."
                )
            if head.get("digest") != digest:
                raise RecipeError(
                    f"{self.folder} was begun with another recipe ({head.get('digest')}, now "
                    f"{digest}): {self.folder / 'recipe.yaml'} is the one it had."
                )
        make_folder(self.folder)
        lock_file = (self.folder / ".lock").open("w")
        try:
            lock(
                lock_file,
                TrainError(
                    f"{self.folder} is in use by another training. Wait for it, or choose another "
                    "folder."
                ),
            )
        except BaseException:
            lock_file.close()
            raise
        return lock_file

    def _head(self) -> dict[str, Any]:
        """What run.json holds; where it is damaged, kind and digest from recipe.yaml.

        Raises:
            TrainError: Where both are damaged.
        """
        try:
            return read_json(self.folder / "run.json", TrainError)
        except TrainError as error:
            try:
                digest = TrainRecipe.from_dict(
                    read_yaml_mapping(self.folder / "recipe.yaml", "The recipe", RecipeError)
                ).digest
            except RecipeError as other:
                raise TrainError(
                    f"{error} And {other} Choose another folder, or delete this one."
                ) from None
            return {"kind": KIND, "digest": digest}


def _steps(folder: Path) -> list[int]:
    names = (path.name.removeprefix("step-") for path in folder.glob("step-*"))
    return sorted(int(name) for name in names if name.isdigit())


def _step_records(logged: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The trainer's records of steps, without its token count, which restarts on a resume."""
    for record in logged:
        if "loss" in record:
            yield {key: value for key, value in record.items() if key != "num_tokens"}


def _state(head: Mapping[str, Any]) -> str:
    return " that is complete" if head.get("complete") else " that is unfinished"


def _write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    write_file(path, "".join(json.dumps(value) + "\n" for value in values).encode("utf-8"))
