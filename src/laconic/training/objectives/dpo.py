"""DPO: prefer the short answer of a pair, compared with the model before training."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt

from laconic.training.objectives.contract import TrlParts, objective
from laconic.training.section import Number  # noqa: TC001  # read by the registry

if TYPE_CHECKING:
    from laconic.training.recipe import TrainRecipe


@objective(data="pairs")
def dpo(
    recipe: TrainRecipe,
    *,
    beta: Annotated[Number, Gt(0)] = 0.1,
    sft: Annotated[Number, Ge(0)] = 1.0,
) -> TrlParts:
    """Prefer the short answer of a pair to the long one, compared with the model before training.

    Equation 7 of DPO. The loss of the short answer is added, as in Pang et al. 2024 (arXiv
    2404.19733), so that the short answer does not become less likely, too.

    Args:
        beta: How strongly the model is held to the model before training.
        sft: The weight of the short answer's own loss, a mean over its tokens; 0 leaves it out.

    Source: Rafailov et al. 2023 (arXiv 2305.18290), with TRL's DPOTrainer.
    """
    from trl.trainer.dpo_config import DPOConfig

    return TrlParts(
        DPOConfig,
        _trainer(),
        {
            "beta": beta,
            "loss_type": ["sigmoid", "sft"] if sft else ["sigmoid"],
            "loss_weights": [1.0, sft] if sft else [1.0],
            "precompute_ref_log_probs": True,
            "max_length": None,  # pairs that are too long are errors before this
        },
    )


def _trainer() -> type[Any]:
    """The class of the trainer; TRL is imported here."""
    from trl.trainer.dpo_trainer import DPOTrainer

    from laconic.training.trainer import MixtureTrainer, explain_write_errors

    class DpoTrainer(MixtureTrainer, DPOTrainer):
        """TRL's DPO over pairs of token ids, which are not tokenised or cut again."""

        def training_set(self) -> Any:
            """The pairs in a file: TRL keeps the reference's log-probabilities beside it."""
            from datasets import load_from_disk

            folder, place = self.run_folder, self.run_folder.pairs

            def write() -> None:
                shutil.rmtree(place, ignore_errors=True)
                with explain_write_errors(place, folder):
                    self.rows.dataset().save_to_disk(place)

            self.processes.on_main_process(write)
            return load_from_disk(place)

        def _prepare_dataset(self, dataset: Any, *more: Any) -> Any:
            return dataset

    return DpoTrainer
