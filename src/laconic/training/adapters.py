"""Checks LoRA's target modules against the architecture of a model, without its weights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.chat_template import explained
from laconic.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.training.recipe import LoraSection

#: Every linear layer but the head, as peft has it.
ALL: Final = "all-linear"


def refuse_targets(section: LoraSection, checkpoint: Checkpoint) -> None:
    """Refuse adapters on modules that do not exist, have no matrix, or are the head.

    Args:
        section: The recipe's; ``targets`` that are one text are a regular expression over whole
            names, as in peft.
        checkpoint: The model, of which the config is read.

    Raises:
        RecipeError: For the first such target.
        BackendError: For an architecture that transformers cannot build.
    """
    if section.targets == ALL:
        return
    model = _outline(checkpoint)
    modules: dict[str, Any] = dict(model.named_modules())
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    fit = sorted(
        {
            name.rpartition(".")[2]
            for name, module in modules.items()
            if _is_matrix(module) and module is not head and module is not embedding
        }
    )
    single = isinstance(section.targets, str)
    for target in [section.targets] if isinstance(section.targets, str) else section.targets:
        where = f"lora.targets: '{target}'"
        targeted = [
            module for name, module in modules.items() if _names(target, name, single=single)
        ]
        if not targeted:
            known = did_you_mean(target, fit)
            raise RecipeError(
                f"{where} names no module of {checkpoint.name}. {known} Write a list of names, or "
                f"{ALL}."
            )
        if any(module is head for module in targeted):
            raise RecipeError(
                f"{where} is the head of {checkpoint.name}, which the trainer computes together "
                f"with the loss, without adapters. Take other modules, or {ALL}, which leaves it "
                "out."
            )
        if checkpoint.tied and any(module is embedding for module in targeted):
            raise RecipeError(
                f"{where} is the embedding of {checkpoint.name}, to which its head is tied: an "
                f"adapter would change one of the two. Take other modules, or {ALL}."
            )
        if wrong := next((module for module in targeted if not _is_matrix(module)), None):
            raise RecipeError(
                f"{where} is a {type(wrong).__name__} of {checkpoint.name}, and adapters go on "
                f"matrices: {', '.join(fit)}."
            )


def _outline(checkpoint: Checkpoint) -> Any:
    """The modules of the model, without weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with explained(checkpoint, "model"), torch.device("meta"):
        config = AutoConfig.from_pretrained(
            checkpoint.folder, local_files_only=True, trust_remote_code=False
        )
        untyped: Any = AutoModelForCausalLM
        return untyped.from_config(config, trust_remote_code=False)


def _names(target: str, name: str, *, single: bool) -> bool:
    """Whether a target names a module, as peft reads it."""
    if single:
        return re.fullmatch(target, name) is not None
    return name == target or name.endswith(f".{target}")


def _is_matrix(module: Any) -> bool:
    """Whether a module is one matrix, perhaps with a bias."""
    weight = getattr(module, "weight", None)
    return weight is not None and weight.ndim == 2
