"""The trainer of a recipe: its settings, then the trainer of its objective.

Imports torch, transformers and TRL: only what is about to train should import it. What differs
between objectives is in a module of each: `supervised`, `preference`, `reinforcement`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from transformers import PrinterCallback

if TYPE_CHECKING:
    from laconic.training.distributed import Ranks
    from laconic.training.mixture_state import Steering
    from laconic.training.recipe import TrainRecipe
    from laconic.training.rows import Rows
    from laconic.training.run_folder import Places
    from laconic.training.trainer import Watch

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
        from laconic.training import preference

        return preference
    if recipe.objective.grpo:
        from laconic.training import reinforcement

        return reinforcement
    from laconic.training import supervised

    return supervised
