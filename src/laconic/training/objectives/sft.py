"""Supervised fine-tuning: make the rows of the pools more likely."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.training.objectives.contract import TrlParts, objective

if TYPE_CHECKING:
    from laconic.training.recipe import TrainRecipe


@objective(data="rows")
def sft(recipe: TrainRecipe) -> TrlParts:
    """Fine-tune on the rows of the pools, in the mixture that a controller moves.

    The loss is the mean over all trained tokens of a step.

    Source: Li et al. 2025 (arXiv 2506.02678), with TRL's SFTTrainer.
    """
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from laconic.training.trainer import MixtureTrainer

    class SftTrainer(MixtureTrainer, SFTTrainer):
        """TRL's trainer over a mixture's order of rows."""

    return TrlParts(
        SFTConfig,
        SftTrainer,
        {
            "max_length": None,  # rows that are too long are errors before this
            "packing": False,
            "dataset_kwargs": {"skip_prepare_dataset": True},
        },
    )
