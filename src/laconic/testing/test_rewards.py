"""The contract of rewards: pure, one finite number an answer, and a state that JSON holds."""

from __future__ import annotations

import copy
import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from laconic.runs.run import Result
from laconic.training.rewards.contract import REWARDS, AnswerGroups, WeightedReward, load_rewards

if TYPE_CHECKING:
    from laconic.registry import Plugin

#: Of each answer: its length in tokens, whether it is right, whether the limit cut it off.
ANSWERS = (
    (40, True, False), (900, True, False), (1, False, False), (1000, False, True),
    (300, True, False), (1000, True, True), (250, False, False), (0, False, False),
)  # fmt: skip
#: Two prompts with different limits, four answers each.
GROUP = AnswerGroups(prompts=(0, 0, 0, 0, 1, 1, 1, 1), max_lengths=(1000, 400))


def answer(place: int, length: int, *, correct: bool, truncated: bool) -> Result:
    """A graded answer."""
    return Result(
        task="lab",
        id=f"p{GROUP.prompts[place]}",
        repeat=place % 4,
        level=1,
        problem="1+1",
        gold="2",
        text="So it is \\boxed{2}." if correct else "So it is \\boxed{3}.",
        length=length,
        thinking_length=length // 2,
        thinks=not truncated,
        truncated=truncated,
        answer="2" if correct else "3",
        outcome="correct" if correct else "wrong",
        correct=correct,
        reflections=0,
    )


RESULTS = [
    answer(place, length, correct=correct, truncated=truncated)
    for place, (length, correct, truncated) in enumerate(ANSWERS)
]


def begin(plugin: Plugin[Any]) -> WeightedReward:
    """A reward with the arguments it is tested with."""
    (chosen,) = load_rewards({plugin.name: 1.0}, where="rewards")
    return chosen


@pytest.mark.parametrize("plugin", REWARDS.all(), ids=lambda p: p.name)
def test_a_reward_gives_one_finite_number_an_answer(plugin: Plugin[Any]) -> None:
    rewards, state = plugin.function(RESULTS, GROUP, {}, **begin(plugin).params)
    assert len(rewards) == len(RESULTS)
    assert all(math.isfinite(value) for value in rewards)
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    none, _ = plugin.function([], AnswerGroups((), ()), {}, **begin(plugin).params)
    assert list(none) == []


@pytest.mark.parametrize("plugin", REWARDS.all(), ids=lambda p: p.name)
def test_a_reward_changes_nothing_it_was_given_and_repeats_itself(plugin: Plugin[Any]) -> None:
    chosen = begin(plugin)
    state: dict[str, Any] = {}
    for _ in range(3):
        before = copy.deepcopy((RESULTS, GROUP, state, dict(chosen.params)))
        first = plugin.function(RESULTS, GROUP, state, **chosen.params)
        again = plugin.function(RESULTS, GROUP, state, **chosen.params)
        assert (list(first[0]), first[1]) == (list(again[0]), again[1])
        assert (RESULTS, GROUP, state, dict(chosen.params)) == before
        state = dict(first[1])


@pytest.mark.parametrize("plugin", REWARDS.all(), ids=lambda p: p.name)
def test_a_reward_goes_on_from_json_as_if_it_had_never_stopped(plugin: Plugin[Any]) -> None:
    chosen = begin(plugin)
    direct: dict[str, Any] = {}
    saved: dict[str, Any] = {}
    for _ in range(3):
        expected, direct = chosen.score(RESULTS, GROUP, direct)
        rewards, saved = chosen.score(RESULTS, GROUP, json.loads(json.dumps(saved)))
        assert (rewards, saved) == (expected, direct)


@pytest.mark.parametrize("plugin", REWARDS.all(), ids=lambda p: p.name)
def test_the_order_of_the_answers_to_a_prompt_decides_nothing(plugin: Plugin[Any]) -> None:
    chosen = begin(plugin)
    rewards, state = chosen.score(RESULTS, GROUP, {})
    order = [2, 0, 3, 1, 7, 5, 4, 6]
    moved, other_state = chosen.score([RESULTS[place] for place in order], GROUP, {})
    assert moved == [rewards[place] for place in order]
    assert other_state == state


@pytest.mark.parametrize("plugin", REWARDS.all(), ids=lambda p: p.name)
def test_a_reward_explains_itself(plugin: Plugin[Any]) -> None:
    assert plugin.summary.endswith(".")
    assert plugin.source
    assert [p.name for p in plugin.parameters if not p.help] == []
    assert plugin.traits["logged_as"]
