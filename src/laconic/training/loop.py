"""The trainer of a recipe: the settings that all objectives share, and those of its objective.

Imports torch, transformers and TRL: only what is about to train should import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from transformers import PrinterCallback

if TYPE_CHECKING:
    from laconic.training.distributed import Processes
    from laconic.training.mixture_state import MixtureState
    from laconic.training.objectives.contract import TrlParts
    from laconic.training.prepare import PreparedTraining
    from laconic.training.recipe import LoraSection, TrainRecipe
    from laconic.training.run_folder import RunFolder
    from laconic.training.trainer import SaveAndEvaluate

#: Steps between two lines of steps.jsonl, at most.
LOG: Final = 10
#: Seconds that processes wait for one another: an evaluation of long answers takes hours.
PATIENCE: Final = 86_400
#: How transformers calls the recipe's schedules.
SCHEDULES: Final = {
    "constant": "constant_with_warmup",
    "linear": "linear",
    "cosine": "cosine",
}


def settings(recipe: TrainRecipe, parts: TrlParts, run_folder: RunFolder) -> Any:
    """TRL's settings for a recipe.

    Args:
        recipe: What is trained and how.
        parts: What its objective takes from TRL.
        run_folder: Where checkpoints go.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    half = on_gpu if recipe.precision == "auto" else recipe.precision == "bfloat16"
    return parts.config(
        output_dir=str(run_folder.partial),
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
        **parts.options,
    )


def build_trainer(
    prepared: PreparedTraining,
    parts: TrlParts,
    mixture: MixtureState,
    run_folder: RunFolder,
    processes: Processes,
    *,
    args: Any,
    model: Any,
    callback: SaveAndEvaluate,
) -> Any:
    """The trainer of a run.

    Args:
        prepared: What is trained, on what.
        parts: What its objective takes from TRL.
        mixture: The order of the rows.
        run_folder: Where checkpoints go.
        processes: The processes that train.
        args: The result of `settings`.
        model: The model, loaded after the settings, because DeepSpeed divides it while it loads.
        callback: Saves and evaluates.
    """
    trainer = parts.trainer(
        rows=prepared.rows,
        run_folder=run_folder,
        processes=processes,
        mixture=mixture,
        model=model,
        args=args,
        processing_class=prepared.tokenizer,
        callbacks=[callback],
        peft_config=_adapters(prepared.recipe.lora),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _adapters(section: LoraSection | None) -> Any:
    """Peft's settings; None trains all weights."""
    if section is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=section.rank,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules=section.targets,
        task_type="CAUSAL_LM",
    )
