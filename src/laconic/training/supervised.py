"""Supervised fine-tuning on a mixture: TRL's SFTTrainer on rows that are encoded already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from laconic.training.trainer import Steered

if TYPE_CHECKING:
    from laconic.training.recipe import TrainRecipe
    from laconic.training.rows import Rows


class MixtureTrainer(Steered, SFTTrainer):
    """TRL's trainer over a mixture's order of rows."""


def settings(recipe: TrainRecipe, **shared: Any) -> Any:
    """TRL's settings for a recipe."""
    return SFTConfig(
        max_length=None,  # rows that are too long are errors before this
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        **shared,
    )


def trainer(recipe: TrainRecipe, rows: Rows, **shared: Any) -> MixtureTrainer:
    """The trainer of a recipe on its rows."""
    return MixtureTrainer(train_dataset=rows.dataset(), **shared)
