"""Reinforcement on the lab's System 2: right answers within a limit that tightens."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from laconic.errors import LaconicError, RecipeError, TrainError
from laconic.registry import Plugin
from laconic.training.cost import Rates, preview
from laconic.training.data.mixture import MixturePlan, split_pools
from laconic.training.data.sampler import MixtureSampler
from laconic.training.prepare import prepare
from laconic.training.rewards.contract import (
    REWARDS,
    AnswerGroups,
    RewardState,
    WeightedReward,
)
from laconic.training.train import TrainRecipe, train
from tests.support.trainings import recipe_values

SECTION: dict[str, Any] = {
    "task": "lab:split=train,size=6,level=1",
    "limits": [[0, 200], [2, 12]],
    "group": 2,
}


def values(**section: Any) -> dict[str, Any]:
    """A recipe of four steps of two problems, answered twice each."""
    found = recipe_values(Path("none"), objective={"grpo": {**SECTION, **section}})
    changes = {
        "steps": 4,
        "dev": {"task": "lab:split=dev", "limit": 2, "heldout": 0},
        "controller": "static",
        "rate": 1e-4,
        "keep": 1,
    }
    return {key: value for key, value in (found | changes).items() if key != "pools"}


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"limits": [[1, 9]]}, "begins at step 1: the first is for step 0"),
        ({"limits": [[0, 9], [2, 10]]}, r"\[2, 10\] cannot follow \[0, 9\]: steps rise and limits"),
        ({"limits": [[0, 9], [4, 8]]}, "last stage begins after step 4, but there are only 4"),
        ({"limits": []}, r"objective\.grpo\.limits is \[\]: write at least one stage"),
        ({"limits": [[0]]}, r"objective\.grpo\.limits is \[\[0\]\]: write at least one stage"),
        ({"group": 1}, r"'objective': grpo\.group must be a whole number in \[2, inf\), got 1"),
        ({"grup": 2}, r"objective 'grpo' has no 'grup'\. Did you mean 'group'"),
        ({"rewards": {"corect": 1}}, r"rewards: No reward 'corect'\. .*'?correct_within_limit"),
        ({"rewards": {}}, r"rewards names no reward: name at least one"),
        (
            {"rewards": {"correct_within_limit:max_length=0": 1}},
            r"correct_within_limit\.max_length must be a whole number in \[1, inf\)",
        ),
    ],
)
def test_a_recipe_says_what_is_wrong_with_its_stages(section: Any, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        TrainRecipe.from_dict(values(**section))


def test_pools_have_no_place_beside_problems() -> None:
    with pytest.raises(RecipeError, match="has no use for pools"):
        TrainRecipe.from_dict(values() | {"pools": {"folder": "pools"}})
    lacking = values()
    del lacking["objective"]["grpo"]["task"]
    with pytest.raises(RecipeError, match=r"objective 'grpo' needs 'task'"):
        TrainRecipe.from_dict(lacking)


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"group": 3}, r"A step has 4 answers .* which are no whole groups of 3"),
        ({"limits": [[0, 1000]]}, r"an answer up to 1000, which is more than max_length \(1024\)"),
        ({"prompt": "cot"}, "prompt cot ends answers by texts"),
        ({"task": "lab:split=dev"}, "Pool 'problems' answers 2 of the dev problems"),
        ({"task": "lba"}, "Did you mean 'lab'"),
    ],
)
def test_problems_that_cannot_be_trained_on_are_refused(section: Any, sentence: str) -> None:
    with pytest.raises(LaconicError, match=sentence):
        prepare(TrainRecipe.from_dict(values(**section)), 1)


def test_vllm_without_a_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    recipe = TrainRecipe.from_dict(values(engine="vllm"))
    with pytest.raises(TrainError, match="engine is vllm, and there is no GPU"):
        recipe.objective.trl(recipe)


def test_problems_come_as_often_as_they_are_answered() -> None:
    from laconic.training.answer_trainer import RepeatedProblems

    plan = MixturePlan(split_pools(["problems"], [0] * 6, [5] * 6), block=2, blocks=3)
    order = list(MixtureSampler(plan, [1.0]))
    groups = RepeatedProblems(MixtureSampler(plan, [1.0]), group=2, batches=3)
    read = list(groups)
    assert len(read) == len(groups) == 6 * 2 * 3
    for block in range(3):
        a, b = order[2 * block : 2 * block + 2]
        assert read[12 * block : 12 * block + 12] == [a, a, b, b] * 3


@pytest.mark.slow
def test_a_dry_run_counts_the_answers_of_the_training() -> None:
    recipe = TrainRecipe.from_dict(values())
    facts = preview(recipe, processes=1, rates=Rates())
    (pool,) = prepare(recipe, 1).rows.pools
    assert facts["tokens_per_row"] == pytest.approx(pool.mean_length + 106, abs=0.1)
    assert facts["tokens_trained"] == pytest.approx(4 * 4 * (pool.mean_length + 106), abs=4)
    assert facts["tokens_generated"] == 6 * 2 * (2 + 1) + 4 * 4 * 106


@pytest.mark.slow
def test_the_reward_of_the_training_page_keeps_the_contract(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "training.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    code = next(block for block in blocks if "def shorter_than_the_group" in block)
    (tmp_path / "shorter.py").write_text(code)
    check = (
        "import sys, pytest, shorter; sys.exit(pytest.main(['--pyargs', "
        "'laconic.testing.test_rewards', '-k', 'shorter', '-q', '-p', 'no:cacheprovider']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def counted(results: Sequence[Any], group: AnswerGroups, state: RewardState) -> Any:
    """A reward that is 0 and counts the steps it has seen."""
    return [0.0] * len(results), {"steps": state.get("steps", 0) + 1}


def test_the_digest_of_a_recipe_without_rewards_is_that_of_older_runs() -> None:
    plain = TrainRecipe.from_dict(values())
    assert "rewards" not in plain.to_dict()["objective"]["grpo"]
    assert plain.digest == TrainRecipe.from_dict(values(rewards=None)).digest
    other = TrainRecipe.from_dict(values(rewards={"correct_within_limit": 2.0}))
    assert other.to_dict()["objective"]["grpo"]["rewards"] == {"correct_within_limit": 2.0}
    assert other.digest != plain.digest


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (([1.0], {}), r"Reward odd gave \[1\.0\]\.\.\. for 2 answers"),
        (([1.0, float("nan")], {}), "one finite number an answer"),
        (([1.0, 0.0], {"seen": {1}}), "The state of reward odd cannot be saved as JSON"),
    ],
)
def test_a_reward_that_breaks_its_contract_is_named(
    result: Any, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd: Any = Plugin("odd", "reward", lambda *given: result, {})
    monkeypatch.setitem(REWARDS._members, "odd", odd)
    group: Any = AnswerGroups((0, 0), (100,))
    two: Any = [None, None]
    with pytest.raises(TrainError, match=sentence):
        WeightedReward("odd", {}, 1.0).score(two, group, {})


@pytest.mark.slow
def test_the_limit_tightens_and_a_stopped_run_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from laconic.training import trainer

    torch.set_num_threads(1)
    stateful: Any = Plugin("counted", "reward", counted, {"logged_as": "counted"})
    monkeypatch.setitem(REWARDS._members, "counted", stateful)
    asked = TrainRecipe.from_dict(values(rewards={"correct_within_limit": 1, "counted": 0.5}))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    trained = train(asked, whole)
    first, second = lines(whole / "steps.jsonl")
    assert first["completions/max_length"] > 12
    assert second["completions/max_length"] <= 12
    assert 0 < first["rewards/right/mean"] <= 1
    assert second["rewards/right/mean"] < first["rewards/right/mean"]
    assert trained.tokens == lines(whole / "mixture.jsonl")[-1]["tokens"] > 0
    real = trainer.SaveAndEvaluate.on_step_end

    def stop(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 3:
            raise TrainError("the power went")
        real(self, args, state, control, **more)

    with monkeypatch.context() as patched:
        patched.setattr(trainer.SaveAndEvaluate, "on_step_end", stop)
        with pytest.raises(TrainError, match="the power went"):
            train(asked, broken)
    train(asked, broken, resume=True)
    last = "checkpoints/step-000004/objective.json"
    assert json.loads((whole / last).read_text()) == {"counted": {"steps": 4}}
    for name in ("mixture.jsonl", "best/model.safetensors", last):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
