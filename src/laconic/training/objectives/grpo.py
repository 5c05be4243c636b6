"""GRPO: reward the model's own short right answers, under a length limit that tightens."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from annotated_types import Ge, Gt, Le, Lt

from laconic.errors import RecipeError, TrainError
from laconic.training.objectives.contract import ProblemSource, TrlParts, objective
from laconic.training.rewards.contract import load_rewards
from laconic.training.section import Count, Number  # noqa: TC001  # read by the registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.training.recipe import TrainRecipe
    from laconic.training.rewards.contract import WeightedReward

#: The share of a GPU's memory that vLLM may take beside the training.
VLLM_MEMORY: Final = 0.3
#: The rewards of a recipe that names none, with their weights.
REWARDS: Final[Mapping[str, float]] = {"correct_within_limit": 1.0}
Stages = list[list[int]]


def check(
    steps: int, *, limits: Stages, rewards: Mapping[str, float] | None, **others: Any
) -> None:
    """Refuse limits that are no stages of a run of so many steps, and unknown rewards.

    Raises:
        RecipeError: With the stage, or the reward.
    """
    key = "objective.grpo.limits"
    if not limits or any(len(stage) != 2 for stage in limits):
        raise RecipeError(
            f"{key} is {limits}: write at least one stage as [step, tokens], such as [[0, 4000]]."
        )
    if limits[0][0] != 0:
        raise RecipeError(f"{key} begins at step {limits[0][0]}: the first is for step 0.")
    if (least := min(tokens for _, tokens in limits)) < 1:
        raise RecipeError(f"{key}: a limit is {least} tokens. Every limit must be at least 1.")
    for (step, tokens), (later, fewer) in pairwise(limits):
        if later <= step or fewer > tokens:
            raise RecipeError(
                f"{key}: [{later}, {fewer}] cannot follow [{step}, {tokens}]: steps rise and "
                "limits tighten."
            )
    if limits[-1][0] >= steps:
        raise RecipeError(
            f"{key}: the last stage begins after step {limits[-1][0]}, but there are only "
            f"{steps} steps."
        )
    _chosen(rewards)


def limit_at(step: int, *, limits: Stages, **others: Any) -> int:
    """The most tokens of an answer after so many steps."""
    return next(tokens for first, tokens in reversed(limits) if first <= step)


def problems(
    *,
    task: str,
    limits: Stages,
    group: int,
    limit: int | None,
    prompt: str,
    data: str | None,
    **others: Any,
) -> ProblemSource:
    """The problems that are answered during training."""
    return ProblemSource(task, group, limits[0][1], limit, prompt, data)


@objective(
    data="problems",
    check=check,
    problems=problems,
    generated_tokens=limit_at,
    optional=("rewards",),
    example={"task": "lab", "limits": [[0, 400], [4, 300]]},
)
def grpo(
    recipe: TrainRecipe,
    *,
    task: str,
    limits: list[list[int]],
    group: Annotated[int, Ge(2)] = 8,
    limit: Count | None = None,
    prompt: str = "{problem}",
    data: str | None = None,
    temperature: Annotated[Number, Gt(0)] = 1.0,
    top_p: Annotated[Number, Gt(0), Le(1)] = 1.0,
    clip: Annotated[Number, Gt(0), Lt(1)] = 0.2,
    clip_high: Annotated[Number, Gt(0)] = 0.28,
    kl: Annotated[Number, Ge(0)] = 0.0,
    engine: Literal["auto", "transformers", "vllm"] = "auto",
    rewards: dict[str, float] | None = None,
) -> TrlParts:
    """Reward the model's own answers, several to each problem, under a limit that tightens.

    The stages are those of ThinkPrune (Hou et al. 2025, arXiv 2504.01296); rewards are divided by
    the spread of the whole batch and the upper clip is the higher one, as in DLER (Liu et al. 2025,
    arXiv 2510.15110). ThinkPrune begins each stage from the best checkpoint of the one before and
    states the limit in its prompt; here training goes on from where it stands, and the prompt says
    what `prompt` says.

    Args:
        task: The problems: NAME or NAME:key=value,..., or a file of problems.
        limits: Stages as [step, tokens]: from that many finished steps on, an answer may have so
            many tokens; an answer that is cut off is graded as it stands. The first begins at step
            0.
        group: How many answers to one problem are compared with each other.
        limit: Use only the first so many problems; null uses all.
        prompt: A prompt's name, or the user's turn with {problem}.
        data: The problems of a named task: a file, or a folder of files.
        temperature: The sampling temperature.
        top_p: The probability mass that is sampled from.
        clip: The largest relative decrease of a token's probability that a step rewards.
        clip_high: The largest relative increase of a token's probability that a step rewards.
        kl: The weight of the divergence from the model before training.
        engine: What generates; auto is vLLM where there are a GPU and vLLM, else transformers.
        rewards: Weights by reward, NAME or NAME:key=value,...; null is correct_within_limit alone.

    Source: Shao et al. 2024 (arXiv 2402.03300), with TRL's GRPOTrainer.
    """
    from trl.trainer.grpo_config import GRPOConfig

    from laconic.training.answer_trainer import AnswerTrainer

    chosen = _chosen(rewards)
    return TrlParts(
        GRPOConfig,
        partial(
            AnswerTrainer, rewards=chosen, group=group, limit_at=partial(limit_at, limits=limits)
        ),
        {
            "num_generations": group,
            "max_completion_length": limits[0][1],
            "temperature": temperature,
            "top_p": top_p,
            "beta": kl,
            "epsilon": clip,
            "epsilon_high": clip_high,
            "scale_rewards": "batch",
            "mask_truncated_completions": False,  # what is cut off counts as it stands
            "reward_weights": [reward.weight for reward in chosen],
            "use_vllm": _with_vllm(engine),
            "vllm_mode": "colocate",
            "vllm_gpu_memory_utilization": VLLM_MEMORY,
            "vllm_max_model_length": recipe.max_length,
            "remove_unused_columns": False,
        },
    )


def _chosen(rewards: Mapping[str, float] | None) -> tuple[WeightedReward, ...]:
    """The rewards that a recipe names, or the default."""
    weights = REWARDS if rewards is None else rewards
    return load_rewards(weights, where="objective.grpo.rewards")


def _with_vllm(engine: str) -> bool:
    """Whether vLLM generates.

    Raises:
        TrainError: Where vLLM is asked for and cannot run here.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    available = on_gpu and find_spec("vllm") is not None
    if engine == "vllm" and not available:
        reason = "vLLM is not installed" if on_gpu else "there is no GPU"
        raise TrainError(
            f"objective.grpo.engine is vllm, and {reason}. Take engine: auto, which generates with "
            "transformers then."
        )
    return available and engine != "transformers"
