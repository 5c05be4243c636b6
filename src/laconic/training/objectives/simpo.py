"""SimPO: prefer the short answer of a pair by its mean log-probability."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt

from laconic.training.objectives.contract import TrlParts, objective
from laconic.training.section import Number  # noqa: TC001  # read by the registry

if TYPE_CHECKING:
    from laconic.training.recipe import TrainRecipe


@objective(data="pairs")
def simpo(
    recipe: TrainRecipe,
    *,
    beta: Annotated[Number, Gt(0)] = 2.0,
    gamma: Annotated[Number, Ge(0)] = 1.0,
    sft: Annotated[Number, Ge(0)] = 0.0,
) -> TrlParts:
    """Prefer the short answer of a pair by its mean log-probability, without a reference model.

    Equation 6 of SimPO. TRL's trainer for it (CPOTrainer) is marked experimental.

    Args:
        beta: The scale of the difference between the two answers.
        gamma: The margin by which the scaled short answer should lead.
        sft: The weight of the short answer's own loss, a mean over its tokens; 0 leaves it out.

    Source: Meng et al. 2024 (arXiv 2405.14734), with TRL's CPOTrainer.
    """
    with warnings.catch_warnings():
        # TRL promises nothing for its experimental modules; constraints.txt pins its version.
        warnings.filterwarnings("ignore", "You are importing from 'trl.experimental'")
        from trl.experimental.cpo import CPOConfig

        trainer = _trainer()
    return TrlParts(
        CPOConfig,
        trainer,
        {
            "loss_type": "simpo",
            "beta": beta,
            "simpo_gamma": gamma,
            "cpo_alpha": sft,
            "max_length": recipe.max_length,
            "remove_unused_columns": False,
        },
    )


def _trainer() -> type[Any]:
    """The class of the trainer; TRL is imported here."""
    from trl.experimental.cpo import CPOTrainer

    from laconic.training.trainer import MixtureTrainer

    class SimpoTrainer(MixtureTrainer, CPOTrainer):
        """TRL's SimPO over pairs of token ids, which are not tokenised or cut again."""

        def tokenize_row(self, feature: Any, model: Any = None) -> dict[str, list[int]]:
            """A pair as the trainer's collator takes it: the prompt's tokens are not trained."""
            prompt = feature["prompt_ids"]
            row = {}
            for side in ("chosen", "rejected"):
                answer = feature[f"{side}_ids"]
                row[f"{side}_input_ids"] = prompt + answer
                row[f"{side}_attention_mask"] = [1] * len(prompt + answer)
                row[f"{side}_labels"] = [-100] * len(prompt) + answer
            return row

    return SimpoTrainer
