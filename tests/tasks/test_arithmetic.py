"""The lab's problems: levels, answers, and splits that cannot meet."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from laconic.errors import TaskError
from laconic.tasks.contract.arithmetic import (
    LEVELS,
    LONG_LEVELS,
    Chain,
    Split,
    chains,
    draw,
    planted,
    split_of,
)
from laconic.tasks.contract.task import load_task


def solve(question: str) -> str:
    """The answer worked out from the question's text alone."""
    values: dict[str, int] = {}
    for row in question.split("\n")[1:-1]:
        name, right = row.split("=")
        expression = re.sub(r"[a-z]", lambda match: str(values[match.group()]), right)
        left, operator, constant = re.fullmatch(r"(\d+)(?:([+*-])(\d+))?", expression).groups()  # type: ignore[union-attr]  # a mismatch is a failure
        first = int(left)
        second = int(constant or 0)
        values[name] = {
            None: first,
            "+": first + second,
            "-": first - second,
            "*": first * second,
        }[operator] % 100
    asked = question.split("\n")[-1].removesuffix("=?")
    return f"{values[asked]:02d}"


def problems(count: int, split: Split, seed: int = 0) -> tuple[Chain, ...]:
    """Some problems of a split."""
    return chains(count, split=split, rng=random.Random(seed))


def test_a_question_reads_like_the_one_in_the_documentation() -> None:
    chain = draw(1, random.Random(3))
    pattern = r"Work mod 100\.\na=\d\d\nb=a[+-]\d\nc=b[+-]\d\nc=\?"
    assert re.fullmatch(pattern, chain.question)


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_answers_agree_with_an_independent_solver(split: Split) -> None:
    for chain in problems(500, split):
        assert chain.answer == solve(chain.question)


def test_each_level_has_its_operations_and_products() -> None:
    for chain in problems(500, "train"):
        operators = [line.operator for line in chain.lines]
        assert (len(operators), operators.count("*")) == LEVELS[chain.level]
        assert all(line.constant > 1 for line in chain.lines if line.operator == "*")


def test_any_first_n_hold_the_levels_equally_often() -> None:
    found = problems(500, "test")
    assert [chain.level for chain in found[:7]] == [1, 2, 3, 4, 5, 1, 2]
    assert Counter(chain.level for chain in found) == dict.fromkeys(LEVELS, 100)


def test_splits_share_no_question_whatever_the_seed() -> None:
    names: tuple[Split, ...] = ("train", "dev", "test")
    texts = {
        name: {chain.question for seed in (0, 1) for chain in problems(500, name, seed)}
        for name in names
    }
    assert not texts["train"] & texts["dev"]
    assert not texts["train"] & texts["test"]
    assert not texts["dev"] & texts["test"]
    assert all(split_of(text) == name for name in names for text in texts[name])


def test_no_question_appears_twice_in_1000_test_problems() -> None:
    assert len({chain.question for chain in problems(1000, "test")}) == 1000


def test_the_smallest_level_holds_more_than_a_thousand_test_questions() -> None:
    rng = random.Random(0)
    found = {chain.question for chain in (draw(1, rng) for _ in range(60_000))}
    assert sum(split_of(question) == "test" for question in found) > 1000


def test_asking_for_more_than_there_is_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laconic.tasks.contract.arithmetic.PATIENCE", 0)
    with pytest.raises(TaskError, match="no more level-1 problems after 0"):
        problems(5, "test")


def test_the_task_gives_equal_problems_for_equal_seeds_and_others_for_others() -> None:
    first, again = load_task("lab:size=50"), load_task("lab:size=50")
    other = load_task("lab:size=50,seed=1")
    assert first.samples == again.samples
    assert first.samples != other.samples
    assert len({sample.id for sample in first.samples}) == 50
    assert all(sample.gold == solve(sample.problem) for sample in first.samples)


def test_long_chains_have_their_operations_and_the_right_answers() -> None:
    found = chains(50, split="test", rng=random.Random(0), levels=LONG_LEVELS)
    for chain in found:
        operators = [line.operator for line in chain.lines]
        assert (len(operators), operators.count("*")) == LONG_LEVELS[chain.level]
        assert chain.answer == solve(chain.question)
    assert load_task("lab_long:size=50").samples[0].task == "lab-long"


def test_a_planted_thought_is_right_up_to_its_last_line_and_wrong_there() -> None:
    rng = random.Random(0)
    places = Counter[int]()
    for chain in problems(300, "dev"):
        thought = planted(chain, rng)
        assert thought.startswith("<think>\n")
        assert thought.endswith("\n")
        rows = thought.split("\n")[1:-1]
        right = [f"{line.asked()}{line.value:02d}" for line in chain.lines[: len(rows)]]
        assert rows[:-1] == right[:-1]
        assert rows[-1][:-2] == right[-1][:-2]
        assert rows[-1] != right[-1]
        places[len(rows)] += 1
    assert set(places) == {1, 2, 3, 4, 5, 6}


def test_the_planted_task_asks_the_same_problems_with_a_begun_thought() -> None:
    plain, begun = load_task("lab:size=20"), load_task("lab_planted:size=20")
    assert [s.problem for s in plain.samples] == [s.problem for s in begun.samples]
    assert not any(sample.prefill for sample in plain.samples)
    assert all(sample.prefill.startswith("<think>") for sample in begun.samples)
    assert plain.record(None).digest != begun.record(None).digest


@pytest.mark.parametrize("name", ["lab", "lab_long"])
def test_the_task_can_be_drawn_at_one_level_and_from_the_training_split(name: str) -> None:
    made = load_task(f"{name}:split=train,size=20,level=5")
    assert {sample.level for sample in made.samples} == {5}
    assert {split_of(sample.problem) for sample in made.samples} == {"train"}
    assert len({sample.problem for sample in made.samples}) == 20
    with pytest.raises(TaskError, match="level must be"):
        load_task(f"{name}:level=6")
