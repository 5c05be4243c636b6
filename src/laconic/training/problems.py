"""The problems that a model in training answers itself, instead of rows it is shown."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.chat_template import encode_prompt, render
from laconic.errors import TrainError
from laconic.tasks.contract.task import load_task
from laconic.training.mixture import split_pools
from laconic.training.rows import Rows

if TYPE_CHECKING:
    from laconic.tasks.contract.task import Task
    from laconic.training.objective import GrpoSection
    from laconic.training.recipe import TrainRecipe

#: What the only pool of such a training is called.
PROBLEMS: Final = "problems"


def read_problems(recipe: TrainRecipe, section: GrpoSection, tokenizer: Any) -> Rows:
    """The problems of a recipe's task as rows: the text that the model is given, and its place.

    Args:
        recipe: The training.
        section: Its objective.
        tokenizer: The model's.

    Raises:
        TaskError: For a task that cannot be read.
        TrainError: For programs, which would have to be run, prompts with stop texts, or problems
            that leave no room for an answer.
    """
    import pyarrow

    plain, asked = (
        load_task(section.task, limit=section.limit, prompt=prompt, data=section.data)
        for prompt in ("{problem}", section.prompt)
    )
    _refuse(asked, section)
    texts = [render(tokenizer, sample, recipe.model) for sample in asked.samples]
    pairs = zip(texts, asked.samples, strict=True)
    lengths = [len(encode_prompt(tokenizer, text, raw=sample.raw)) for text, sample in pairs]
    most = section.limits[0][1]
    if max(lengths) + most > recipe.max_length:
        raise TrainError(
            f"objective.grpo: the longest prompt of {section.task} has {max(lengths)} tokens and "
            f"an answer up to {most}, which is more than max_length ({recipe.max_length}). Make "
            "max_length greater, or the limit smaller."
        )
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "replace")).hexdigest()
    return Rows(
        table=pyarrow.table({"prompt": texts, "place": list(range(len(texts)))}),
        pools=split_pools([PROBLEMS], [0] * len(texts), lengths, {PROBLEMS: digest}),
        weights=(1.0,),
        roles={},
        questions={PROBLEMS: tuple(sample.problem for sample in plain.samples)},
        tokens={PROBLEMS: sum(lengths) / len(lengths)},
        think_policy="",
        samples=asked.samples,
    )


def _refuse(task: Task, section: GrpoSection) -> None:
    """Refuse problems that cannot be answered and graded in the middle of a training."""
    for sample in task.samples:
        if sample.kind == "program":
            raise TrainError(
                f"objective.grpo.task {section.task} asks for programs, which would have to be run "
                "in training. Take problems with answers."
            )
        if sample.stop or task.strategy != "single":
            what = "ends answers by texts" if sample.stop else "asks twice for one answer"
            raise TrainError(
                f"objective.grpo.prompt {section.prompt} {what}, and a model in training is asked "
                "once and ends its answer itself. Take another prompt: laconic list prompts."
            )
