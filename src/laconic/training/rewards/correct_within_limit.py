"""Correct within the limit: a right answer that is short enough is worth 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.training.rewards.contract import RewardState, reward
from laconic.training.section import Count  # noqa: TC001  # read by the registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.runs.run import Result
    from laconic.training.rewards.contract import AnswerGroups


@reward(logged_as="right")
def correct_within_limit(
    results: Sequence[Result],
    group: AnswerGroups,
    state: RewardState,
    *,
    max_length: Count | None = None,
) -> tuple[list[float], RewardState]:
    """Give 1 where the answer is right and has at most `max_length` tokens, else 0.

    An answer that the limit cut off is graded as it stands.

    Args:
        max_length: The most tokens of a rewarded answer, thinking included; null takes the length
            that the prompt allows, which is the limit of the training's stage.

    Source: ThinkPrune (Hou et al. 2025, arXiv 2504.01296).
    """
    rewards = []
    for result, prompt in zip(results, group.prompts, strict=True):
        allowed = group.max_lengths[prompt] if max_length is None else max_length
        rewards.append(float(result.correct and result.length <= allowed))
    return rewards, state
