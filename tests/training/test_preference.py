"""Preference training on the lab's System 2: pairs of a short and a long right answer."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.data.answers import AnswerPair, Selection, TrainingAnswer
from laconic.data.pack import pack
from laconic.data.pools import read_pools
from laconic.errors import LaconicError, RecipeError, TrainError
from laconic.lab.styles import STYLES, respond
from laconic.tasks.contract.arithmetic import chains
from laconic.training.cost import Rates, _activations, _size, preview
from laconic.training.prepare import PreparedTraining, prepare
from laconic.training.train import TrainRecipe, train
from tests.support.trainings import MODEL, recipe_values, write_pools

#: A run of four steps in which nothing is held out.
BRIEF: dict[str, Any] = {
    "steps": 4,
    "dev": {"task": "lab:split=dev", "limit": 2, "heldout": 0},
    "controller": "static",
    "keep": 1,
}


def pair(chain: Any, rng: random.Random) -> AnswerPair:
    """The lab's short and long answer to a problem."""
    texts = (
        "".join(piece.text for piece in respond(chain, STYLES[style], mute=0.0, rng=rng))
        for style in ("base", "thinking")
    )
    short, long = (TrainingAnswer(chain.name, chain.question, chain.answer, text) for text in texts)
    return AnswerPair(short, replace(long, id=f"{chain.name}#1"))


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pairs, and beside them one whose long answer is wrong."""
    torch.set_num_threads(1)
    rng = random.Random(0)
    good = [pair(chain, rng) for chain in chains(8, split="train", rng=rng)]
    other = pair(next(iter(chains(1, split="train", rng=random.Random(9)))), rng)
    wrong = replace(other.rejected, response="So it is \\boxed{-1}.")
    rows = (*good, AnswerPair(other.chosen, wrong))
    folder = tmp_path_factory.mktemp("pairs") / "pools"
    pack({"pairs": Selection(rows, "pairs")}, MODEL, folder, policy="keep")
    return folder


def recipe(pools: Path, objective: Any, **changes: Any) -> TrainRecipe:
    return TrainRecipe.from_dict(recipe_values(pools, objective=objective, **BRIEF | changes))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_pairs_are_packed_as_tokens_and_both_answers_are_proven(pools: Path) -> None:
    from laconic.checkpoints.tokenizer import load_tokenizer

    pool = read_pools(pools)["pairs"]
    assert pool.dropped == {"rejected_not_right": 1}
    tokenizer = load_tokenizer(open_checkpoint(MODEL))
    rows = pool.table().to_pylist()
    assert len(rows) == 8
    for row in rows:
        assert tokenizer.decode(row["prompt_ids"]) == row["prompt"]
        assert row["question"] in row["prompt"]
        for side in ("chosen", "rejected"):
            ids = row[f"{side}_ids"]
            assert tokenizer.decode(ids) == row[side]
            assert len(ids) == row[f"{side}_length"]
            assert [i for i in ids if i == tokenizer.eos_token_id] == ids[-1:]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"objective": "dop"}, r"No objective 'dop'\. Did you mean 'dpo'"),
        ({"objective": {"dpo": {"bta": 1}}}, r"objective 'dpo' has no 'bta'\. .*'beta'"),
        ({"objective": {"dpo": {"beta": 0}}}, r"dpo\.beta must be a number in \(0, inf\), got 0"),
        ({"objective": {"dpo": {}, "simpo": {}}}, r"names 2 objectives \(dpo, simpo\)"),
        (
            {"objective": "simpo", "controller": "tldr"},
            r"controller tldr moves the shares of pools, and objective simpo has one source",
        ),
        ({"objective": "dpo", "pools": None}, r"lacks 'pools'"),
    ],
)
def test_a_recipe_says_what_is_wrong_with_its_objective(
    changes: dict[str, Any], sentence: str
) -> None:
    values = recipe_values(Path("pools"), controller="static")
    with pytest.raises(RecipeError, match=sentence):
        TrainRecipe.from_dict(values | changes)


def test_an_objective_is_written_as_it_is_read(pools: Path) -> None:
    values = recipe_values(pools, objective="dpo")
    del values["controller"]
    read = TrainRecipe.from_dict(values)
    plain = read.to_dict()
    assert plain["objective"] == {"dpo": {"beta": 0.1, "sft": 1.0}}
    assert plain["controller"] == "static"
    assert TrainRecipe.from_dict(plain) == read
    before = TrainRecipe.from_dict(recipe_values(pools))
    assert before.to_dict()["objective"] == "sft"
    assert before.digest not in {read.digest, recipe(pools, "simpo").digest}


def test_pools_that_an_objective_cannot_train_on_are_refused(pools: Path, tmp_path: Path) -> None:
    def refuse(asked: TrainRecipe, sentence: str) -> None:
        with pytest.raises(LaconicError, match=sentence):
            prepare(asked, 1)

    refuse(recipe(pools, "sft"), r"holds pairs only \(pairs\); objective sft takes pools of rows")
    refuse(recipe(pools, "dpo", max_length=100), r"longer than max_length \(100 tokens\), first")
    answers = write_pools(tmp_path / "answers")
    refuse(
        recipe(answers, "dpo"),
        r"single answers only \(short, long\); objective dpo takes one pool of p",
    )
    values = recipe(answers, "dpo").to_dict()
    values["pools"]["weights"] = {"short": 1.0}
    sentence = "'short' of .* holds single answers; objective dpo takes one pool of pairs: there is"
    refuse(TrainRecipe.from_dict(values), sentence)
    row = read_pools(pools)["pairs"].table().to_pylist()[0]
    task = tmp_path / "seen.jsonl"
    task.write_text(json.dumps({"problem": row["question"], "answer": row["gold"]}) + "\n")
    seen = {"task": str(task), "heldout": 0}
    refuse(recipe(pools, "dpo", dev=seen), "Pool 'pairs' answers 1 of the dev problems")


@pytest.mark.slow
def test_a_dry_run_counts_both_answers(pools: Path) -> None:
    asked = recipe(pools, "dpo")
    facts = preview(asked, processes=1, rates=Rates())
    rows = prepare(asked, 1).rows.table.to_pylist()
    mean = sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows) / len(rows)
    assert facts["tokens_per_row"] == pytest.approx(mean, abs=0.1)
    single = recipe(pools, "sft")
    assert facts["bytes_of_activations"] == 2 * _activations(single, _size(single))


def log_probabilities(job: PreparedTraining) -> dict[str, list[float]]:
    """Of each row, the log-probability of both answers, and the tokens they have."""
    from laconic.training.prepare import load_model

    model = load_model(job).eval()
    found: dict[str, list[float]] = {"chosen": [], "rejected": []}
    for row in job.rows.table.to_pylist():
        for side, held in found.items():
            ids = torch.tensor([row["prompt_ids"] + row[f"{side}_ids"]])
            with torch.no_grad():
                each = model(ids).logits[0, :-1].log_softmax(-1)
            told = each.gather(1, ids[0, 1:, None])[len(row["prompt_ids"]) - 1 :]
            held.append(float(told.sum()))
    return found


@pytest.mark.slow
def test_dpo_begins_where_preference_is_even_and_leaves_what_a_mixture_leaves(
    pools: Path, tmp_path: Path
) -> None:
    objective = {"dpo": {"beta": 0.1, "sft": 0.5}}
    # A first step that learns nothing: its loss is that of the model before training.
    asked = recipe(pools, objective, batch={"per_device": 8}, warmup=1, steps=2, every=1)
    trained = train(asked, tmp_path / "dpo")
    first, second = lines(tmp_path / "dpo" / "steps.jsonl")
    job = prepare(asked, 1)
    chosen = log_probabilities(job)["chosen"]
    tokens = sum(len(row["chosen_ids"]) for row in job.rows.table.to_pylist())
    assert first["loss"] == pytest.approx(math.log(2) - 0.5 * sum(chosen) / tokens, abs=1e-3)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-4)
    assert second["rewards/margins"] == pytest.approx(0, abs=1e-4)
    mixture = lines(tmp_path / "dpo" / "mixture.jsonl")
    assert [record["after"] for record in mixture] == [{"pairs": 1.0}] * 2
    best, origin = open_checkpoint(str(trained.folder / "best")), open_checkpoint(MODEL)
    assert best.specs == origin.specs
    assert best.config == origin.config
    assert not (trained.folder / "pairs").exists()
    assert (trained.folder / "summary.txt").read_text().startswith("Trained 2 steps on ")


@pytest.mark.slow
def test_simpo_compares_means_over_tokens_and_learns_to_prefer_the_short(
    pools: Path, tmp_path: Path
) -> None:
    objective = {"simpo": {"beta": 2.0, "gamma": 1.0, "sft": 0.0}}
    asked = recipe(pools, objective, batch={"per_device": 8}, warmup=1, every=1, steps=3)
    train(asked, tmp_path / "simpo")
    logged = lines(tmp_path / "simpo" / "steps.jsonl")
    job = prepare(asked, 1)
    found = log_probabilities(job)
    rows = job.rows.table.to_pylist()
    losses = []
    for place, row in enumerate(rows):
        means = (found[side][place] / len(row[f"{side}_ids"]) for side in found)
        margin = 2.0 * (next(means) - next(means)) - 1.0
        losses.append(math.log1p(math.exp(-margin)))
    assert logged[0]["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-3)
    assert logged[2]["rewards/margins"] > logged[0]["rewards/margins"]


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4}], ids=["full", "adapters"])
def test_dpo_that_was_stopped_goes_on_to_the_same_bytes(
    pools: Path, tmp_path: Path, lora: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from laconic.training import trainer

    asked = recipe(pools, "dpo", lora=lora, rate=1e-3)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(asked, whole)
    real = trainer.SaveAndEvaluate.on_step_end

    def stop(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 3:
            raise TrainError("the power went")
        real(self, args, state, control, **more)

    with monkeypatch.context() as patched:
        patched.setattr(trainer.SaveAndEvaluate, "on_step_end", stop)
        with pytest.raises(TrainError, match="the power went"):
            train(asked, broken)
    assert (broken / "pairs").exists()
    train(asked, broken, resume=True)
    for name in ("mixture.jsonl", "steps.jsonl", "best/model.safetensors"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
