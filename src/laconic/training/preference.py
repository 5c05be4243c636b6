"""Preference training, short before long: TRL's DPO and SimPO on pairs that are encoded already.

Pairs come as token ids, proven when they were packed, so nothing is tokenised, cut or given another
BOS or end token here.
"""

from __future__ import annotations

import shutil
import warnings
from typing import TYPE_CHECKING, Any

from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from laconic.training.trainer import Steered, explained

with warnings.catch_warnings():
    # TRL keeps SimPO where it promises nothing; constraints.txt pins its version.
    warnings.filterwarnings("ignore", "You are importing from 'trl.experimental'")
    from trl.experimental.cpo import CPOConfig, CPOTrainer

if TYPE_CHECKING:
    from laconic.training.distributed import Ranks
    from laconic.training.recipe import TrainRecipe
    from laconic.training.rows import Rows
    from laconic.training.run_folder import Places


class DpoTrainer(Steered, DPOTrainer):
    """TRL's DPO over pairs of token ids."""

    def _prepare_dataset(self, dataset: Any, *more: Any) -> Any:
        return dataset


class SimpoTrainer(Steered, CPOTrainer):
    """TRL's SimPO over pairs of token ids."""

    def tokenize_row(self, feature: Any, model: Any = None) -> dict[str, list[int]]:
        """A pair as the trainer's collator takes it: the prompt's tokens are not learnt."""
        prompt = feature["prompt_ids"]
        row = {}
        for side in ("chosen", "rejected"):
            answer = feature[f"{side}_ids"]
            row[f"{side}_input_ids"] = prompt + answer
            row[f"{side}_attention_mask"] = [1] * len(prompt + answer)
            row[f"{side}_labels"] = [-100] * len(prompt) + answer
        return row


def settings(recipe: TrainRecipe, **shared: Any) -> Any:
    """TRL's settings for a recipe."""
    if dpo := recipe.objective.dpo:
        return DPOConfig(
            beta=dpo.beta,
            loss_type=["sigmoid", "sft"] if dpo.sft else ["sigmoid"],
            loss_weights=[1.0, dpo.sft] if dpo.sft else [1.0],
            precompute_ref_log_probs=True,
            max_length=None,  # pairs that are too long are errors before this
            **shared,
        )
    simpo = recipe.objective.simpo
    assert simpo is not None
    return CPOConfig(
        loss_type="simpo",
        beta=simpo.beta,
        simpo_gamma=simpo.gamma,
        cpo_alpha=simpo.sft,
        max_length=recipe.max_length,
        remove_unused_columns=False,
        **shared,
    )


def trainer(recipe: TrainRecipe, rows: Rows, **shared: Any) -> Any:
    """The trainer of a recipe on its pairs."""
    if recipe.objective.simpo:
        return SimpoTrainer(train_dataset=rows.dataset(), **shared)
    pairs = _on_disk(rows, shared["places"], shared["ranks"])
    return DpoTrainer(train_dataset=pairs, **shared)


def _on_disk(rows: Rows, places: Places, ranks: Ranks) -> Any:
    """The pairs in a file: TRL keeps the reference's log-probabilities beside it, for all ranks."""
    from datasets import load_from_disk

    def write() -> None:
        shutil.rmtree(places.pairs, ignore_errors=True)
        with explained(places.pairs, places):
            rows.dataset().save_to_disk(places.pairs)

    ranks.on_first(write)
    return load_from_disk(places.pairs)
