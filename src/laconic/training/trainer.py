"""What every TRL trainer gets here: the mixture's order of rows, checkpoints that appear whole.

Imports torch and transformers: only an objective that is about to train should import it.
"""

from __future__ import annotations

import shutil
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback

from laconic.errors import LaconicError, TrainError
from laconic.files.atomic import publish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from laconic.training.data.rows import TrainingRows
    from laconic.training.distributed import Processes
    from laconic.training.mixture_state import MixtureState
    from laconic.training.recipe import TrainRecipe
    from laconic.training.run_folder import RunFolder


class MixtureTrainer(Trainer):
    """The first base class of every trainer: a mixture's order of rows, and whole checkpoints.

    Args:
        rows: What is trained on.
        run_folder: Where checkpoints go.
        processes: The processes that train.
        mixture: The order of the rows, and what a checkpoint keeps beside the model.
        more: What TRL's trainer takes.
    """

    def __init__(
        self,
        *,
        rows: TrainingRows,
        run_folder: RunFolder,
        processes: Processes,
        mixture: MixtureState,
        **more: Any,
    ) -> None:
        self.rows = rows
        self.run_folder = run_folder
        self.processes = processes
        self.mixture = mixture
        super().__init__(train_dataset=self.training_set(), **more)

    def training_set(self) -> Any:
        """The data set that TRL's trainer reads."""
        return self.rows.dataset()

    def objective_state(self) -> Mapping[str, Any]:
        """What the objective needs to go on from a checkpoint, as JSON; empty for nothing."""
        return {}

    def load_objective_state(self, state: Mapping[str, Any]) -> None:
        """Take what `objective_state` gave when a checkpoint was saved; called before training."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.mixture.sampler

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.run_folder.partial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = int(self.state.global_step)
        target = self.run_folder.checkpoint(step)

        def save() -> None:
            with explain_write_errors(target, self.run_folder):
                # TRL's own would write a model card first, which names nothing that helps here.
                Trainer._save_checkpoint(self, model, trial)

        def deliver() -> None:
            saved = self.run_folder.partial / f"checkpoint-{step}"
            with explain_write_errors(target, self.run_folder):
                self.run_folder.write_state(saved, self.mixture.to_dict(), self.objective_state())
                shutil.rmtree(target, ignore_errors=True)
                publish(saved, target)
                shutil.rmtree(self.run_folder.partial)

        self.processes.on_all(save)
        self.processes.on_main_process(deliver)


@contextmanager
def explain_write_errors(target: Path, folder: RunFolder) -> Iterator[None]:
    """Turn a failure to write into one sentence that says what training can go on from.

    Args:
        target: What is written.
        folder: The run's folder.

    Raises:
        TrainError: In place of an error of the file system, safetensors or torch's writer.
    """
    try:
        yield
    except LaconicError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "writ" not in str(error):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        shutil.rmtree(folder.partial, ignore_errors=True)
        raise TrainError(
            f"{target} cannot be written: {reason}. {folder.what_is_left()}"
        ) from error


class SaveAndEvaluate(TrainerCallback):
    """Saves and evaluates every so many steps.

    Args:
        recipe: Says how often.
        evaluate: Called with the step when its checkpoint is whole; returns whether to stop.
        begin: Called before the first step of a run, or of its continuation, with the number of
            finished steps; returns whether to stop.
    """

    def __init__(
        self, recipe: TrainRecipe, evaluate: Callable[[int], bool], begin: Callable[[int], bool]
    ) -> None:
        self._recipe = recipe
        self._evaluate = evaluate
        self._begin = begin
        self._over = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Look at the model before it is trained."""
        self._over = self._begin(int(state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Say when a checkpoint is due."""
        step = int(state.global_step)
        control.should_save = not self._over and (
            step % self._recipe.every == 0 or step == self._recipe.steps
        )
        control.should_training_stop |= self._over

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Evaluate the checkpoint that was saved."""
        control.should_training_stop |= self._evaluate(int(state.global_step))


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Train without progress bars for each written file, and without notes on nothing to mend."""
    import datasets
    from transformers.utils import logging

    upstream: Any = logging
    bars, verbosity = upstream.is_progress_bar_enabled(), upstream.get_verbosity()
    no_data_bars = datasets.are_progress_bars_disabled()
    upstream.disable_progress_bar()
    datasets.disable_progress_bars()
    upstream.set_verbosity_error()  # a tied head is reported as missing from every checkpoint
    try:
        with warnings.catch_warnings():
            # TRL asks for settings by names that transformers has replaced.
            warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
            yield
    finally:
        upstream.set_verbosity(verbosity)
        if bars:
            upstream.enable_progress_bar()
        if not no_data_bars:
            datasets.enable_progress_bars()
