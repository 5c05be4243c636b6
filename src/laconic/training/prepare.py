"""Everything that can be known to be wrong before a model is loaded or a byte is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laconic.checkpoints.chat_template import explained, template_digest, tokenizer_digest
from laconic.checkpoints.checkpoint import Checkpoint, open_checkpoint
from laconic.checkpoints.tokenizer import load_tokenizer
from laconic.errors import BackendError, TrainError
from laconic.registry import parse_spec
from laconic.training.adapters import refuse_targets
from laconic.training.bounds import Bounds, Measurement
from laconic.training.controllers.contract import Controller, load_controller
from laconic.training.dev import Dev, read_dev
from laconic.training.evaluators import refuse_apart
from laconic.training.problems import read_problems
from laconic.training.rounding import outlook
from laconic.training.rows import Rows, read_rows, refuse_overlap
from laconic.training.serving import refuse_unservable
from laconic.training.wording import other_words

if TYPE_CHECKING:
    from laconic.training.mixture import Plan
    from laconic.training.recipe import TrainRecipe


@dataclass(frozen=True)
class Job:
    """A training whose parts fit together.

    Attributes:
        recipe: What is asked.
        checkpoint: System 2, whose weights may not be here yet.
        tokenizer: Its tokenizer.
        rows: What is trained on.
        plan: In what order, as far as the mixture does not decide it.
        dev: What steers.
        controller: What moves the mixture.
        warnings: What the user should know though it is no error.
    """

    recipe: TrainRecipe
    checkpoint: Checkpoint
    tokenizer: Any
    rows: Rows
    plan: Plan
    dev: Dev
    controller: Controller
    warnings: tuple[str, ...] = ()


def prepare(recipe: TrainRecipe, processes: int) -> Job:
    """Open and check all parts of a training.

    Args:
        recipe: What is asked.
        processes: How many will train.

    Raises:
        LaconicError: For the first part that is missing, damaged or does not fit.
    """
    controller = read_controller(recipe)
    checkpoint = open_checkpoint(recipe.model)
    tokenizer = load_tokenizer(checkpoint)
    template = template_digest(tokenizer)
    if recipe.objective.grpo:
        rows = read_problems(recipe, recipe.objective.grpo, tokenizer)
    else:
        rows = read_rows(recipe, tokenizer=tokenizer_digest(tokenizer), template=template)
    if recipe.lora is not None:
        refuse_targets(recipe.lora, checkpoint)
    plan = rows.plan(recipe, processes)
    dev = read_dev(recipe, template)
    refuse_overlap(rows, [dev.plain])
    _try_mixture(recipe, controller, rows)
    if recipe.evaluator.where == "apart":
        refuse_apart(dev.steer)
    elif recipe.evaluator.where == "served":
        refuse_unservable(recipe)
    elif (engine := parse_spec(recipe.evaluator.backend)[0]) != "transformers":
        raise TrainError(
            f"evaluator.backend {engine} cannot hold the model in training. Take transformers, or "
            "where: apart or served, which evaluate the saved weights."
        )
    window = checkpoint.config.get("max_position_embeddings")
    if isinstance(window, int) and recipe.max_length > window:
        raise TrainError(
            f"max_length is {recipe.max_length}, but the window of {recipe.model} holds {window} "
            "tokens. Make it smaller."
        )
    asked = {name: [s.problem for s in rows.samples] for name in rows.questions if rows.samples}
    warnings = other_words(asked or rows.questions, recipe.dev.prompt)
    if told := outlook(recipe, checkpoint)["warning"]:
        warnings = (*warnings, told)
    return Job(recipe, checkpoint, tokenizer, rows, plan, dev, controller, warnings)


def read_controller(recipe: TrainRecipe) -> Controller:
    """The recipe's controller, its parameters checked.

    Raises:
        TrainError: For an unknown one, or several.
    """
    told = recipe.controller
    if isinstance(told, str):
        found = load_controller(told)
    elif len(told) == 1:
        ((name, params),) = told.items()
        found = load_controller(name, params)
    else:
        raise TrainError(
            f"controller names {len(told)} controllers ({', '.join(told) or 'none'}); a mixture "
            "has one: controller: {tldr: {eta: 1}}."
        )
    return found


def _try_mixture(recipe: TrainRecipe, controller: Controller, rows: Rows) -> None:
    """Start the mixture with bounds that are only a stand-in, for what it can refuse by now."""
    ends = Measurement(0, 1, 0.0, 0.0, 1.0, 0.0), Measurement(0, 1, 1.0, 0.0, 9.0, 0.0)
    names = (pool.name for pool in rows.pools)
    weights = dict(zip(names, rows.weights, strict=True))
    if recipe.pools and recipe.pools.weights:
        weights = dict(recipe.pools.weights)  # in the recipe's order, for what is said of it
    controller.start(weights, roles=rows.roles, bounds=Bounds(*ends) if recipe.bounds else None)


def load_model(job: Job) -> Any:
    """System 2 as the trainer takes it: float32 to train all weights, else as it computes.

    Raises:
        BackendError: Where transformers cannot load it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    job.checkpoint.fetch()
    half = job.recipe.lora is not None and torch.cuda.is_available()
    with explained(job.checkpoint, "model"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            job.checkpoint.folder,
            dtype=torch.bfloat16 if half else torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    model, report = loaded
    if missing := report["missing_keys"]:
        raise BackendError(
            f"{job.checkpoint.name} lacks {len(missing)} tensors that its config.json asks for, "
            f"'{min(missing)}' first. Its weights and its config are of different models."
        )
    return model
