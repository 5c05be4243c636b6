"""The problems that a model answers during training, in place of packed rows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.chat_template import encode_prompt, render
from laconic.errors import TrainError
from laconic.tasks.contract.task import load_task
from laconic.training.data.mixture import split_pools
from laconic.training.data.rows import TrainingRows

if TYPE_CHECKING:
    from laconic.tasks.contract.task import Task
    from laconic.training.recipe import TrainRecipe

#: The name of the only pool of such a training.
PROBLEMS: Final = "problems"


def read_problems(recipe: TrainRecipe, tokenizer: Any) -> TrainingRows:
    """The problems of a recipe's objective as rows: the prompt's text, and its place.

    Args:
        recipe: The training.
        tokenizer: The model's.

    Raises:
        TaskError: For a task that cannot be read.
        TrainError: For programs, which would have to be run, prompts with stop texts, or problems
            that leave no room for an answer.
    """
    import pyarrow

    source = recipe.objective.problems
    bare_task, task = (
        load_task(source.task, limit=source.limit, prompt=prompt, data=source.data)
        for prompt in ("{problem}", source.prompt)
    )
    key = f"objective.{recipe.objective.name}"
    _refuse(task, f"{key}.task {source.task}", f"{key}.prompt {source.prompt}")
    texts = [render(tokenizer, sample, recipe.model) for sample in task.samples]
    pairs = zip(texts, task.samples, strict=True)
    lengths = [len(encode_prompt(tokenizer, text, raw=sample.raw)) for text, sample in pairs]
    if max(lengths) + source.longest > recipe.max_length:
        raise TrainError(
            f"{key}: the longest prompt of {source.task} has {max(lengths)} tokens and "
            f"an answer up to {source.longest}, which is more than max_length "
            f"({recipe.max_length}). Make max_length greater, or the limit smaller."
        )
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()
    return TrainingRows(
        table=pyarrow.table({"prompt": texts, "place": list(range(len(texts)))}),
        pools=split_pools([PROBLEMS], [0] * len(texts), lengths, {PROBLEMS: digest}),
        weights=(1.0,),
        roles={},
        questions={PROBLEMS: tuple(sample.problem for sample in bare_task.samples)},
        tokens={PROBLEMS: sum(lengths) / len(lengths)},
        origin=f"a prompt of {source.task} and an answer at its limit",
        samples=task.samples,
        group=source.group,
    )


def _refuse(task: Task, task_key: str, prompt_key: str) -> None:
    """Refuse problems that cannot be answered and graded in the middle of a training."""
    for sample in task.samples:
        if sample.kind == "program":
            raise TrainError(
                f"{task_key} asks for programs, which would have to be run in training. Take "
                "problems with answers."
            )
        if sample.stop or task.strategy != "single":
            reason = "ends answers by texts" if sample.stop else "asks twice for one answer"
            raise TrainError(
                f"{prompt_key} {reason}, and a model in training is asked once and ends its answer "
                "itself. Take another prompt: laconic list prompts."
            )
