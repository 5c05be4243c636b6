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
from laconic.training.data.problems import read_problems
from laconic.training.data.prompt_check import prompt_warnings
from laconic.training.data.rows import TrainingRows, read_rows, refuse_overlap
from laconic.training.dev import DevProblems, read_dev
from laconic.training.evaluators import refuse_apart
from laconic.training.rounding import outlook
from laconic.training.serving import refuse_unservable

if TYPE_CHECKING:
    from laconic.training.data.mixture import MixturePlan
    from laconic.training.recipe import TrainRecipe


@dataclass(frozen=True)
class PreparedTraining:
    """A training whose parts have been opened and fit together.

    Attributes:
        recipe: The recipe.
        checkpoint: System 2, whose weights may not be downloaded yet.
        tokenizer: Its tokenizer.
        rows: What is trained on.
        plan: The part of the order of the rows that never changes.
        dev: The dev problems.
        controller: What moves the mixture.
        warnings: What the user should know although it is no error.
    """

    recipe: TrainRecipe
    checkpoint: Checkpoint
    tokenizer: Any
    rows: TrainingRows
    plan: MixturePlan
    dev: DevProblems
    controller: Controller
    warnings: tuple[str, ...] = ()


def prepare(recipe: TrainRecipe, processes: int) -> PreparedTraining:
    """Open and check all parts of a training.

    Args:
        recipe: The training.
        processes: How many processes will train.

    Raises:
        LaconicError: For the first part that is missing, damaged or does not fit.
    """
    controller = read_controller(recipe)
    checkpoint = open_checkpoint(recipe.model)
    tokenizer = load_tokenizer(checkpoint)
    template = template_digest(tokenizer)
    data = recipe.objective.data
    if data == "problems":
        rows = read_problems(recipe, tokenizer)
    else:
        digest = tokenizer_digest(tokenizer)
        rows = read_rows(recipe, data, tokenizer=digest, template=template)
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
    prompts = {name: [s.problem for s in rows.samples] for name in rows.questions if rows.samples}
    warnings = prompt_warnings(prompts or rows.questions, recipe.dev.prompt)
    if rounding_warning := outlook(recipe, checkpoint)["warning"]:
        warnings = (*warnings, rounding_warning)
    return PreparedTraining(recipe, checkpoint, tokenizer, rows, plan, dev, controller, warnings)


def read_controller(recipe: TrainRecipe) -> Controller:
    """The recipe's controller, its parameters checked.

    Raises:
        TrainError: For an unknown one, or several.
    """
    value = recipe.controller
    if isinstance(value, str):
        return load_controller(value)
    if len(value) != 1:
        raise TrainError(
            f"controller names {len(value)} controllers ({', '.join(value) or 'none'}); a mixture "
            "has one: controller: {tldr: {eta: 1}}."
        )
    ((name, params),) = value.items()
    return load_controller(name, params)


def _try_mixture(recipe: TrainRecipe, controller: Controller, rows: TrainingRows) -> None:
    """Start the mixture with made-up bounds, so that a controller refuses its inputs early."""
    ends = Measurement(0, 1, 0.0, 0.0, 1.0, 0.0), Measurement(0, 1, 1.0, 0.0, 9.0, 0.0)
    names = (pool.name for pool in rows.pools)
    weights = dict(zip(names, rows.weights, strict=True))
    if recipe.pools and recipe.pools.weights:
        weights = dict(recipe.pools.weights)  # in the recipe's order, for messages
    controller.start(weights, roles=rows.roles, bounds=Bounds(*ends) if recipe.bounds else None)


def load_model(prepared: PreparedTraining) -> Any:
    """System 2's model for the trainer: float32, or for adapters on a GPU bfloat16.

    Raises:
        BackendError: Where transformers cannot load it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    prepared.checkpoint.fetch()
    half = prepared.recipe.lora is not None and torch.cuda.is_available()
    with explained(prepared.checkpoint, "model"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            prepared.checkpoint.folder,
            dtype=torch.bfloat16 if half else torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    model, report = loaded
    if missing := report["missing_keys"]:
        raise BackendError(
            f"{prepared.checkpoint.name} lacks {len(missing)} tensors that its config.json asks "
            f"for, '{min(missing)}' first. Its weights and its config are of different models."
        )
    return model
