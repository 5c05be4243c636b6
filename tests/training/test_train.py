"""Training end to end on the lab's System 2, with answers of 6 tokens so that it takes seconds."""

from __future__ import annotations

import json
import math
import resource
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.errors import RecipeError, TrainError
from laconic.runs.run import read_run
from laconic.training.run_folder import RunFolder
from laconic.training.train import TrainRecipe, train
from tests.support.killed_trainings import attempt, fail_by_turns, run
from tests.support.trainings import recipe_values, write_pools

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What must be equal, byte for byte, of a run that was killed and one that was not.
SAME = (
    "mixture.jsonl",
    "steps.jsonl",
    "best/model.safetensors",
)
#: A run of half the length, with nothing held out.
BRIEF: dict[str, Any] = {
    "steps": 4,
    "dev": {"task": "lab:split=dev", "limit": 4, "heldout": 0},
    "keep": 1,
}


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_pools(tmp_path_factory.mktemp("train") / "pools")


def recipe(pools: Path, **changes: Any) -> TrainRecipe:
    return TrainRecipe.from_dict(recipe_values(pools, **changes))


@pytest.fixture(scope="module")
def whole(pools: Path) -> Path:
    """An undisturbed run."""
    return train(recipe(pools), pools.parent / "whole").folder


def held(folder: Path) -> dict[str, bytes]:
    last = max((folder / "checkpoints").iterdir())
    found = [folder / name for name in SAME]
    found += [last / "model.safetensors", last / "mixture.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_dev_saw_what_is_delivered(folder: Path) -> None:
    step = json.loads((folder / "run.json").read_text())["result"]["best"]["step"]
    seen = [folder / "evals" / f"step-{step:06}", folder / "heldout" / "best"]
    digests = {read_run(one).experiment.model_digest for one in seen if one.exists()}
    assert digests == {open_checkpoint(str(folder / "best")).fingerprint}


@contextmanager
def room(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes, as if the disk were full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_run_leaves_a_model_its_curves_and_its_verdict(pools: Path, whole: Path) -> None:
    mixture = lines(whole / "mixture.jsonl")
    assert [record["step"] for record in mixture] == [2, 4, 6, 8]
    assert [round(record["after"]["short"], 6) for record in mixture] == [0.6, 0.7, 0.8, 0.9]
    assert [record["from_step"] for record in mixture] == [3, 5, 7, 9]
    first = mixture[0]
    assert first["before"] == {"short": 0.5, "long": 0.5}
    assert sum(first["token_shares"].values()) == pytest.approx(1, abs=1e-5)
    assert first["sample_shares"] == {"short": 0.5, "long": 0.5}
    assert [line["step"] for line in lines(whole / "steps.jsonl")] == [2, 4, 6, 8]
    head = json.loads((whole / "run.json").read_text())
    assert (head["kind"], head["complete"], head["rows_per_step"]) == ("train", True, 4)
    assert head["result"]["tokens"] == mixture[-1]["tokens"]
    assert (whole / "summary.txt").read_text().startswith("Trained 8 steps on ")
    best, origin = open_checkpoint(str(whole / "best")), open_checkpoint("lab:system2")
    assert best.specs == origin.specs
    assert best.config == origin.config
    changed = [name for name in best.specs if (best.stored(name) != origin.stored(name)).any()]
    assert len(changed) > len(best.specs) / 2
    assert read_run(whole / "heldout" / "best").complete
    assert_dev_saw_what_is_delivered(whole)
    delivered = head["result"]["delivered"]
    assert (delivered["dtype"], delivered["rounding"]) == ("bfloat16", "stochastic")
    assert delivered["kept"] == pytest.approx(1, abs=0.05)
    assert not (whole / "exported").exists()
    assert len(read_run(whole / "evals" / "step-000002").results) == 4
    kept = {path.name for path in (whole / "candidates").iterdir()}
    assert len(kept) == 3
    assert not list((whole / "candidates").glob("*/optimizer*"))
    assert [path.name for path in (whole / "checkpoints").iterdir()] == ["step-000008"]


@pytest.mark.slow
def test_kills_and_a_full_disk_cost_nothing(pools: Path, whole: Path, tmp_path: Path) -> None:
    values, folder = recipe_values(pools), tmp_path / "unlucky"
    saving = "checkpoints/.partial/checkpoint-4/trainer_state.json"
    assert run(attempt, values, folder, dies=(saving, 1)) == [-9]
    assert RunFolder(folder).steps() == [2]
    sentence = r"step-000004 cannot be written: .*of step 2 is whole: mend it, then run the same"
    with room(1_000_000), pytest.raises(TrainError, match=sentence):
        train(recipe(pools), folder, resume=True)
    assert not (folder / "checkpoints" / ".partial").exists()
    assert run(attempt, values, folder, dies=("evals/step-000006/run.json", 2)) == [-9]
    assert RunFolder(folder).last() == 6
    train(recipe(pools), folder, resume=True)
    assert held(folder) == held(whole)


@pytest.fixture(scope="module")
def brief(pools: Path) -> Path:
    """An undisturbed run of half the length."""
    return train(recipe(pools, **BRIEF), pools.parent / "brief").folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    [
        ("bounds/steer/system2/run.json", 2),
        ("checkpoints/.partial/checkpoint-2/config.json", 1),
        ("checkpoints/.partial/checkpoint-2/trainer_state.json", 1),
        ("checkpoints/step-000002", 1),
        (".exported.partial/journal.jsonl", 20),
        ("exported", 1),
        ("evals/step-000002/results.jsonl", 1),
        ("evals/step-000002/run.json", 2),
        ("checkpoints/step-000002/mixture.json", 1),
        ("mixture.jsonl", 1),
        ("steps.jsonl", 2),
        ("candidates/step-000002", 1),
        ("checkpoints/step-000004", 1),
        ("evals/step-000004/run.json", 2),
        (".best.partial/journal.jsonl", 20),
        ("best", 1),
        ("summary.txt", 1),
    ],
    ids=str,
)
def test_a_kill_at_any_moment_costs_nothing(
    pools: Path, brief: Path, tmp_path: Path, moment: tuple[str, int]
) -> None:
    asked = recipe_values(pools, **BRIEF)
    assert run(attempt, asked, tmp_path / "killed", dies=moment) == [-9]
    train(recipe(pools, **BRIEF), tmp_path / "killed", resume=True)
    assert held(tmp_path / "killed") == held(brief)


@pytest.mark.slow
def test_a_run_with_loader_processes_resumes_exactly(pools: Path, tmp_path: Path) -> None:
    values = recipe_values(pools, **BRIEF, workers=2)
    assert run(attempt, values, tmp_path / "whole") == [0]
    killed = tmp_path / "killed"
    assert run(attempt, values, killed, dies=("evals/step-000002", 1)) == [-9]
    assert run(attempt, values, killed) == [0]
    assert held(killed) == held(tmp_path / "whole")
    assert [r["from_step"] for r in lines(tmp_path / "whole" / "mixture.jsonl")] == [7, 9]


@pytest.mark.slow
def test_two_processes_train_as_one_run_and_resume_exactly(pools: Path, tmp_path: Path) -> None:
    values = recipe_values(pools, **BRIEF, batch={"per_device": 2})
    assert run(attempt, values, tmp_path / "whole", ranks=2) == [0, 0]
    assert json.loads((tmp_path / "whole" / "run.json").read_text())["processes"] == 2
    for moment in (
        ("checkpoints/.partial/checkpoint-2/trainer_state.json", 1),
        ("evals/step-000002/run.json", 2),
    ):
        killed = tmp_path / f"killed-{moment[1]}"
        assert run(attempt, values, killed, ranks=2, dies=moment) == [-9, -9]
        assert run(attempt, values, killed, ranks=2) == [0, 0]
        assert held(killed) == held(tmp_path / "whole")


@pytest.mark.slow
def test_the_failure_of_one_process_reaches_all(tmp_path: Path) -> None:
    assert run(fail_by_turns, tmp_path, ranks=2) == [0, 0]
    told = [json.loads((tmp_path / rank).read_text()) for rank in "01"]
    assert told[0] == told[1]
    assert told[0] == ["no room", "no recipe (process 1)", "The processes differ in their seed"]


@pytest.mark.slow
def test_adapters_are_trained_and_delivered_as_a_whole_model(pools: Path, tmp_path: Path) -> None:
    lora = {"rank": 2, "alpha": 4}
    asked = recipe(pools, **{**BRIEF, "steps": 2}, lora=lora, rate=1e-2)
    trained = train(asked, tmp_path / "lora")
    last = tmp_path / "lora" / "checkpoints" / "step-000002"
    assert (last / "adapter_model.safetensors").exists()
    assert not (last / "model.safetensors").exists()
    best, origin = open_checkpoint(str(trained.folder / "best")), open_checkpoint("lab:system2")
    assert best.specs == origin.specs
    query = "model.layers.0.self_attn.q_proj.weight"
    assert (best.stored(query) != origin.stored(query)).any()
    assert (best.stored("model.norm.weight") == origin.stored("model.norm.weight")).all()
    assert_dev_saw_what_is_delivered(tmp_path / "lora")


def test_the_excess_loss_of_a_pool_is_that_of_its_tokens(pools: Path) -> None:
    from transformers import AutoModelForCausalLM

    from laconic.data.pools import read_pools
    from laconic.training.excess_loss import _excess, _losses

    folder = open_checkpoint("lab:system2").folder
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    row = read_pools(pools)["long"].table().slice(3, 1).to_pylist()[0]
    ids, labels = row["input_ids"], row["labels"]
    with torch.no_grad():
        found = _losses(model, ids, labels)
        told = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
    assert len(found) == row["length"]
    assert found.mean() == pytest.approx(told.item(), rel=1e-4)
    before = [np.array([1.0, 2.0, 3.0]), np.array([1.0])]
    after = [np.array([1.5, 1.0, 4.0]), np.array([2.0])]
    mean, error = _excess(after, before)
    assert mean == pytest.approx((0.5 + 0 + 1 + 1) / 4)
    assert error == pytest.approx((2 * 2 * 0.375**2) ** 0.5 / 4)


@pytest.mark.slow
def test_doremi_is_steered_by_losses_above_the_starts_and_resumes(
    pools: Path, tmp_path: Path
) -> None:
    values = recipe_values(pools, **BRIEF, controller={"doremi": {"floor": 0.1}})
    values["pools"]["weights"] = {"short": 1.0, "long": 0.0}
    asked = TrainRecipe.from_dict({**values, "rate": 1e-3})
    (first, second) = lines(train(asked, tmp_path / "whole").folder / "mixture.jsonl")
    excess = first["measured"]["excess"]
    assert excess["long"] > excess["short"] >= 0
    assert first["measured"]["excess_se"]["long"] > 0
    assert first["after"]["long"] == pytest.approx(0.05)
    tilted = 0.95 * math.exp(-second["measured"]["excess"]["long"])
    tilted *= math.exp(second["measured"]["excess"]["short"])
    assert second["after"]["long"] == pytest.approx(0.9 * 0.05 / (0.05 + tilted) + 0.05)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "candidates")
    (tmp_path / "cut" / "losses.npz").unlink()
    # What is left says that step 4 was not evaluated: that needs the reference's losses.
    state = tmp_path / "cut" / "checkpoints" / "step-000004" / "mixture.json"
    held_ = json.loads(state.read_text())
    state.write_text(json.dumps({**held_, "evaluated": 2, "records": held_["records"][:1]}))
    with pytest.raises(TrainError, match=r"losses\.npz is missing or damaged: begin the training"):
        train(asked, tmp_path / "cut", resume=True)


@pytest.mark.slow
def test_figures_given_for_another_model_are_refused_before_the_first_step(
    pools: Path, tmp_path: Path
) -> None:
    given = {"accuracy": 0.9, "length": 400, "n": 100}
    short = {"accuracy": 0.7, "length": 50, "n": 100}
    asked = recipe(pools, bounds={"system1": short, "system2": given}, controller="tldr")
    with pytest.raises(TrainError, match=r"accuracy 0\.9, but the model before its first step has"):
        train(asked, tmp_path / "given")
    assert not list((tmp_path / "given" / "checkpoints").glob("step-*"))
    swapped = recipe(pools, bounds={"system1": given, "system2": short}, controller="tldr")
    with pytest.raises(TrainError, match="The bounds are swapped"):
        train(swapped, tmp_path / "swapped")


@pytest.mark.slow
def test_a_folder_is_taken_once_and_goes_on_with_its_own_recipe(
    pools: Path, whole: Path, tmp_path: Path
) -> None:
    asked = recipe(pools)
    with pytest.raises(TrainError, match=r"holds a training that is complete\. Go on with"):
        train(asked, whole)
    with pytest.raises(RecipeError, match="was begun with another recipe"):
        train(recipe(pools, rate=1e-4), whole, resume=True)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(TrainError, match="exists and is no training"):
        train(asked, tmp_path)
    with RunFolder(tmp_path / "new").claim("digest", resume=False):
        (tmp_path / "new" / "run.json").write_text('{"kind": "train", "digest": "digest"}')
        with pytest.raises(TrainError, match="in use by another training"):
            RunFolder(tmp_path / "new").claim("digest", resume=True)


def test_a_damaged_run_json_is_made_up_for_by_the_recipe(pools: Path, tmp_path: Path) -> None:
    asked = recipe(pools)
    places = RunFolder(tmp_path / "run")
    with places.claim(asked.digest, resume=False):
        (tmp_path / "run" / "recipe.yaml").write_text(json.dumps(asked.to_dict()))
    for damaged in (b"", bytes(40), b'{"kind": "tra'):
        (tmp_path / "run" / "run.json").write_bytes(damaged)
        places.claim(asked.digest, resume=True).close()
        with pytest.raises(TrainError, match=r"unfinished\. Go on with --resume"):
            places.claim(asked.digest, resume=False)
        with pytest.raises(RecipeError, match="begun with another recipe"):
            places.claim("other", resume=True)
    (tmp_path / "run" / "recipe.yaml").write_bytes(b"")
    with pytest.raises(TrainError, match=r"run\.json is damaged.* And .*Choose another folder"):
        places.claim(asked.digest, resume=True)


@pytest.mark.slow
def test_a_launcher_starts_the_command_line(pools: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    import yaml

    values = recipe_values(pools, **{**BRIEF, "batch": {"per_device": 2}})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))

    def launch(*launcher: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", *launcher),
                *("-m", "laconic", "train", "recipe.yaml", "-o", "short"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )

    lone = launch("accelerate.commands.launch", "--num_processes", "2", "--cpu")
    assert lone.returncode
    assert "asked for several processes and started one" in lone.stderr
    assert not (tmp_path / "short").exists()
    done = launch("accelerate.commands.launch", "--num_processes", "2", "--multi_gpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained 4 steps") == 1
    assert done.stderr.count("Training in 2 processes: a step has 4 rows") == 1
    assert json.loads((tmp_path / "short" / "run.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_the_evaluation_apart_sees_what_the_one_inside_sees(pools: Path, tmp_path: Path) -> None:
    apart = recipe(pools, steps=2, evaluator={"where": "apart"})
    train(apart, tmp_path / "apart")
    train(recipe(pools, steps=2), tmp_path / "inside")
    texts = [
        {r.key: r.text for r in read_run(tmp_path / where / "evals" / "step-000002").results}
        for where in ("apart", "inside")
    ]
    assert texts[0] == texts[1]
