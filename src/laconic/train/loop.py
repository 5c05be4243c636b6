"""The training itself: TRL's trainers with our order of rows, checkpoints whole or absent.

Imports torch, transformers and TRL: only what is about to train should import it. What differs
between objectives is in a module of each: `supervised`, `preference`, `reinforcement`.
"""

from __future__ import annotations

import shutil
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainerCallback

from laconic.errors import LaconicError, TrainError
from laconic.files import publish
from laconic.jsonfile import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from laconic.train.places import Places
    from laconic.train.ranks import Ranks
    from laconic.train.recipe import TrainRecipe
    from laconic.train.rows import Rows
    from laconic.train.steering import Steering

#: Steps between two lines of steps.jsonl, at most.
LOG: Final = 10
#: Seconds that processes wait for one another: an evaluation of long answers takes hours.
PATIENCE: Final = 86_400
#: How the recipe's schedules are called by transformers.
SCHEDULES: Final = {
    "constant": "constant_with_warmup",
    "linear": "linear",
    "cosine": "cosine",
}


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


def settings(recipe: TrainRecipe, places: Places) -> Any:
    """TRL's settings for a recipe."""
    import torch

    on_gpu = torch.cuda.is_available()
    half = on_gpu if recipe.precision == "auto" else recipe.precision == "bfloat16"
    return _objective(recipe).settings(
        recipe,
        output_dir=str(places.partial),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch.per_device,
        gradient_accumulation_steps=recipe.batch.accumulation,
        learning_rate=recipe.rate,
        lr_scheduler_type=SCHEDULES[recipe.schedule],
        warmup_steps=recipe.warmup,
        weight_decay=recipe.decay,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=half,
        use_cpu=not on_gpu,
        activation_checkpointing=recipe.checkpointing,
        dataloader_num_workers=recipe.workers,
        eval_strategy="no",
        save_strategy="no",
        logging_steps=min(LOG, recipe.every),
        report_to=[],
        disable_tqdm=True,
        ddp_timeout=PATIENCE,
        ddp_find_unused_parameters=False,
    )


def build(
    recipe: TrainRecipe,
    rows: Rows,
    steering: Steering,
    places: Places,
    ranks: Ranks,
    *,
    args: Any,
    model: Any,
    tokenizer: Any,
    watch: Watch,
) -> Any:
    """The trainer of a run.

    Args:
        recipe: What is trained and how.
        rows: What on.
        steering: In which mixture.
        places: Where checkpoints go.
        ranks: The processes.
        args: What `settings` gave.
        model: The model, loaded after the settings: DeepSpeed divides it then.
        tokenizer: Its tokenizer.
        watch: Saves and evaluates.
    """
    lora = None
    if recipe.lora is not None:
        from peft import LoraConfig

        lora = LoraConfig(
            r=recipe.lora.rank,
            lora_alpha=recipe.lora.alpha,
            lora_dropout=recipe.lora.dropout,
            target_modules=recipe.lora.targets,
            task_type="CAUSAL_LM",
        )
    trainer = _objective(recipe).trainer(
        recipe,
        rows,
        places=places,
        ranks=ranks,
        steering=steering,
        model=model,
        args=args,
        processing_class=tokenizer,
        callbacks=[watch],
        peft_config=lora,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _objective(recipe: TrainRecipe) -> Any:
    """The module of a recipe's objective: its ``settings`` and its ``trainer``."""
    if recipe.objective.kind == "pairs":
        from laconic.train import preference

        return preference
    if recipe.objective.grpo:
        from laconic.train import reinforcement

        return reinforcement
    from laconic.train import supervised

    return supervised
