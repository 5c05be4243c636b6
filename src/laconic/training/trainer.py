"""What every TRL trainer gets here: our order of rows, checkpoints that are whole or absent.

Imports torch, transformers and TRL: only what is about to train should import it.
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
from laconic.files.json import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from laconic.training.distributed import Ranks
    from laconic.training.mixture_state import Steering
    from laconic.training.recipe import TrainRecipe
    from laconic.training.run_folder import Places


class Steered(Trainer):
    """Put before a trainer of TRL: a mixture's order of rows, and checkpoints that appear whole.

    Args:
        places: Where checkpoints go.
        ranks: The processes.
        steering: The order of the rows, and what a checkpoint keeps beside the model.
        more: What TRL's trainer takes.
    """

    def __init__(self, *, places: Places, ranks: Ranks, steering: Steering, **more: Any) -> None:
        self._order = steering.sampler
        self._places = places
        self._ranks = ranks
        self._steering = steering
        super().__init__(**more)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._places.partial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = int(self.state.global_step)
        target = self._places.checkpoint(step)

        def save() -> None:
            with explained(target, self._places):
                # TRL's own would write a model card first, which names nothing that helps here.
                Trainer._save_checkpoint(self, model, trial)

        def deliver() -> None:
            made = self._places.partial / f"checkpoint-{step}"
            with explained(target, self._places):
                write_json(made / self._places.STATE, self._steering.to_dict())
                shutil.rmtree(target, ignore_errors=True)
                publish(made, target)
                shutil.rmtree(self._places.partial)

        self._ranks.on_all(save)
        self._ranks.on_first(deliver)


class explained:
    """Turns a failure to write into one sentence, with what is left to go on from.

    Args:
        target: What is written.
        places: The run's folders.
    """

    def __init__(self, target: Path, places: Places) -> None:
        self.target = target
        self.places = places

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        torn = isinstance(error, RuntimeError) and "writ" in str(error)
        if error is None or isinstance(error, LaconicError):
            return
        if not torn and not isinstance(error, OSError | SafetensorError):
            return
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        shutil.rmtree(self.places.partial, ignore_errors=True)
        raise TrainError(
            f"{self.target} cannot be written: {reason}. {self.places.rest()}"
        ) from error


class Watch(TrainerCallback):
    """Saves and evaluates every so many steps.

    Args:
        recipe: Says how often.
        evaluate: Called with the trainer's step when its checkpoint is whole; says whether to
            stop.
        begin: Called before the first step of a run, or of its continuation, with the step it
            stands at; says whether to stop.
    """

    def __init__(
        self, recipe: TrainRecipe, evaluate: Callable[[int], bool], begin: Callable[[int], bool]
    ) -> None:
        self._recipe = recipe
        self._evaluate = evaluate
        self._begin = begin
        self._over = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Look at the model before it is trained on."""
        self._over = self._begin(int(state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Say when a checkpoint is due."""
        step = int(state.global_step)
        control.should_save = not self._over and (
            step % self._recipe.every == 0 or step == self._recipe.steps
        )
        control.should_training_stop |= self._over

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Evaluate what was saved."""
        control.should_training_stop |= self._evaluate(int(state.global_step))


@contextmanager
def quiet() -> Iterator[None]:
    """Train without bars for each file that is written, and notes that nobody can act on."""
    import datasets
    from transformers.utils import logging

    upstream: Any = logging
    shown, verbosity = upstream.is_progress_bar_enabled(), upstream.get_verbosity()
    mapped = datasets.are_progress_bars_disabled()
    upstream.disable_progress_bar()
    datasets.disable_progress_bars()
    upstream.set_verbosity_error()  # a tied head is told as missing from every checkpoint
    try:
        with warnings.catch_warnings():
            # TRL asks for settings by names that transformers has replaced.
            warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
            yield
    finally:
        upstream.set_verbosity(verbosity)
        if shown:
            upstream.enable_progress_bar()
        if not mapped:
            datasets.enable_progress_bars()
