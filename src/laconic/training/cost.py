"""The cost of a training, before anything is loaded: tokens, memory and GPU-hours."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.errors import TrainError
from laconic.training.prepare import prepare, read_controller
from laconic.training.presets.load import ModelSize, TrainingPreset
from laconic.training.recipe import GivenFigures
from laconic.training.rounding import outlook, outlook_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.training.prepare import PreparedTraining
    from laconic.training.recipe import TrainRecipe

#: Bytes of a trained parameter in float32: weight, gradient and AdamW's two averages.
TRAINED: Final = 16
#: A frozen weight in bfloat16.
FROZEN: Final = 2
#: Bytes of activations per token, layer and unit of width in bfloat16 (attention scores are never
#: kept): all of them, and with activation checkpointing the layer's input alone.
ALL_ACTIVATIONS: Final = 34
LAYER_INPUT: Final = 2


@dataclass(frozen=True)
class Rates:
    """The speed of one GPU in tokens per second; the defaults are guesses.

    Attributes:
        training: Trained tokens, prompts included.
        generation: Generated tokens, many completions at a time.
    """

    training: float = 5000.0
    generation: float = 2500.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value > 0):
                raise TrainError(f"The rate of {name} is {value:g} tokens/s; give more than 0.")


def preview(
    recipe: TrainRecipe, *, processes: int, rates: Rates, preset: TrainingPreset | None = None
) -> dict[str, Any]:
    """Check a training and estimate its cost; nothing is written, no weights are downloaded.

    Args:
        recipe: The training.
        processes: The number of GPUs.
        rates: Their speed.
        preset: Its assumed lengths are used where the recipe's data does not exist yet.

    Raises:
        LaconicError: As `train` does for parts that do not fit.
    """
    folder = recipe.pools.folder if recipe.pools else ""
    if preset is not None and not Path(folder).exists():
        read_controller(recipe)
        lengths, size, prepared = dict(preset.lengths), preset.size, None
        answers = round((recipe.dev.limit or 1) * (1 - recipe.dev.heldout)) * recipe.dev.samples
        heldout = (recipe.dev.limit or 1) * recipe.dev.samples - answers
        basis = f"assumed by the preset {preset.name}, as there is no folder {folder}"
    else:
        prepared = prepare(recipe, processes)
        lengths = {pool.name: pool.mean_length for pool in prepared.rows.pools}
        size, answers = _size(recipe), prepared.dev.answers
        heldout = (
            len(prepared.dev.heldout.samples) * recipe.dev.samples if prepared.dev.heldout else 0
        )
        basis = prepared.rows.origin
    in_training = recipe.objective.generated_tokens(recipe.steps)
    lengths = {name: length + in_training for name, length in lengths.items()}
    block = recipe.batch.per_device * recipe.batch.accumulation * processes
    row = _mean_row(recipe, lengths)
    evaluations = math.ceil(recipe.steps / recipe.every)
    length, basis_of_length = _answer(recipe, prepared, preset)
    models = 2 if recipe.bounds else 1
    in_evaluation = length * (answers * (evaluations + models) + heldout * (models + 1))
    generated = round(in_evaluation + recipe.steps * block * in_training)
    trained = round(recipe.steps * block * row)
    hours = {
        "training": trained / rates.training / 3600,
        "generation": generated / rates.generation / 3600,
    }
    return {
        "steps": recipe.steps,
        "rows_per_step": block,
        "tokens_per_row": round(row, 1),
        "rows_are": basis,
        "tokens_trained": trained,
        "evaluations": evaluations,
        "answers_per_evaluation": answers,
        "heldout_answers": heldout,
        "tokens_generated": generated,
        "an_answer_is": basis_of_length,
        "parameters": size.parameters,
        "bytes_of_states": _states(recipe, size),
        "bytes_of_activations": _activations(recipe, size),
        "gpus": processes,
        "rates": asdict(rates),
        "gpu_hours": {name: round(value, 2) for name, value in hours.items()},
        "delivery": outlook(recipe, prepared.checkpoint) if prepared else None,
        "warnings": list(prepared.warnings) if prepared else [],
    }


def to_text(facts: Mapping[str, Any]) -> str:
    """The facts of `preview` for people."""
    from laconic.checkpoints.resources import human

    hours, rates = facts["gpu_hours"], facts["rates"]
    each = human(round(facts["bytes_of_states"] / facts["gpus"]))
    return "\n".join(
        [
            f"training: {facts['steps']:,} steps of {facts['rows_per_step']:,} rows of "
            f"{facts['tokens_per_row']:,} trained tokens ({facts['rows_are']}): "
            f"{facts['tokens_trained']:,} tokens at the first weights",
            f"evaluation: {facts['evaluations']:,} times {facts['answers_per_evaluation']:,} "
            f"answers, the references, and {facts['heldout_answers']:,} held out for each model: "
            f"{facts['tokens_generated']:,} tokens; an answer is {facts['an_answer_is']}",
            f"memory: {human(facts['bytes_of_states'])} of weights, gradients and optimizer for "
            f"{facts['parameters']:,} parameters ({each} on each of {facts['gpus']} where FSDP or "
            f"ZeRO-3 divides them), and about {human(facts['bytes_of_activations'])} of "
            "activations on each",
            f"time: {hours['training']:,} GPU-hours of training and {hours['generation']:,} of "
            f"generation at {rates['training']:,.0f} and {rates['generation']:,.0f} tokens per "
            "second and GPU (--train-rate and --generate-rate state yours)",
            *([outlook_text(facts["delivery"])] if facts["delivery"] else []),
            *(f"warning: {warning}" for warning in facts["warnings"]),
        ]
    )


def _mean_row(recipe: TrainRecipe, lengths: Mapping[str, float]) -> float:
    """Trained tokens of a row at the first weights."""
    weights = dict(recipe.pools.weights if recipe.pools else {}) or {
        name: 1 / len(lengths) for name in lengths
    }
    known = {name: lengths.get(name, max(lengths.values())) for name in weights}
    if recipe.unit == "samples":
        return math.fsum(share * known[name] for name, share in weights.items())
    return 1 / math.fsum(share / known[name] for name, share in weights.items())


def _answer(
    recipe: TrainRecipe, prepared: PreparedTraining | None, preset: TrainingPreset | None
) -> tuple[float, str]:
    """The tokens of a dev answer, and where this number comes from."""
    bound = recipe.bounds.system2 if recipe.bounds else None
    if isinstance(bound, GivenFigures):
        return bound.length, f"{bound.length:,.0f} tokens, as given for System 2"
    if preset is not None:
        return preset.answer, f"{preset.answer:,.0f} tokens, System 2's in {preset.source}"
    budget = (prepared and prepared.dev.sampling.max_tokens) or 0
    return budget, f"at most {budget:,} tokens, the budget"


def _size(recipe: TrainRecipe) -> ModelSize:
    """The size of the recipe's model, from its headers and its config."""
    checkpoint = open_checkpoint(recipe.model)
    return ModelSize(
        parameters=sum(math.prod(spec.shape) for spec in checkpoint.specs.values()),
        layers=int(checkpoint.config.get("num_hidden_layers", 0)),
        hidden=int(checkpoint.config.get("hidden_size", 0)),
    )


def _states(recipe: TrainRecipe, size: ModelSize) -> int:
    """Bytes of weights, gradients and optimizer states, over all GPUs."""
    if recipe.lora is None:
        return TRAINED * size.parameters
    adapters = 14 * size.layers * recipe.lora.rank * size.hidden  # seven linear layers, two factors
    return FROZEN * size.parameters + TRAINED * adapters


def _activations(recipe: TrainRecipe, size: ModelSize) -> int:
    """Bytes of activations on one GPU, for its rows at the greatest length."""
    answers = 2 if recipe.objective.data == "pairs" else 1
    tokens = recipe.batch.per_device * recipe.max_length * answers
    layer = tokens * size.hidden
    if recipe.checkpointing:
        return layer * (LAYER_INPUT * size.layers + ALL_ACTIVATIONS)
    return layer * ALL_ACTIVATIONS * size.layers
