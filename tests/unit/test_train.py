"""Training end to end on the lab's System 2, with answers of 6 tokens so that it takes seconds."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from laconic.checkpoint import open_checkpoint
from laconic.errors import LaconicError, RecipeError, TrainError
from laconic.run import read_run
from laconic.train import TrainRecipe, train
from laconic.train.places import Places
from tests.training import recipe_values, write_pools

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORK: Any = multiprocessing.get_context("fork")
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
DEADLINE = 300.0


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


def join(ranks: int, rank: int, port: int) -> None:
    """Make this process one of several, as a launcher would."""
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()
    for name, value in (
        ("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", ranks), ("LOCAL_WORLD_SIZE", ranks),
        ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port), ("ACCELERATE_USE_CPU", "true"),
    ):  # fmt: skip
        os.environ[name] = str(value)


def start(work: Callable[[], object], ranks: int = 1) -> list[Any]:
    """Run some work in processes of its own, connected where there are several."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(rank: int) -> None:
        os.setsid()
        if ranks > 1:
            join(ranks, rank, port)
        work()

    started = [FORK.Process(target=run, args=(rank,)) for rank in range(ranks)]
    for process in started:
        process.start()
    return started


def kill_when(path: Path, processes: list[Any]) -> None:
    """Kill processes, and their loaders, as soon as a path is there."""
    end = time.monotonic() + DEADLINE
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        assert all(process.is_alive() for process in processes), f"over before {path} was there"
        time.sleep(0.002)
    for process in processes:
        os.killpg(process.pid, 9)
        process.join()


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
    assert len(read_run(whole / "evals" / "step-000002").results) == 4
    kept = {path.name for path in (whole / "candidates").iterdir()}
    assert len(kept) == 3
    assert not list((whole / "candidates").glob("*/optimizer*"))
    assert [path.name for path in (whole / "checkpoints").iterdir()] == ["step-000008"]


@pytest.mark.slow
def test_kills_and_a_full_disk_cost_nothing(pools: Path, whole: Path, tmp_path: Path) -> None:
    asked, folder = recipe(pools), tmp_path / "unlucky"

    def go_on() -> None:
        train(asked, folder, resume=True)

    def go_on_without_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        try:
            go_on()
        except TrainError as error:
            (tmp_path / "told").write_text(str(error))

    kill_when(folder / "checkpoints" / ".partial" / "checkpoint-4", start(go_on))
    (process,) = start(go_on_without_room)
    process.join(DEADLINE)
    told = (tmp_path / "told").read_text()
    assert "step-000004 cannot be written: " in told
    assert "The checkpoint of step 2 is whole: mend it, then run the same command" in told
    assert not (folder / "checkpoints" / ".partial").exists()
    kill_when(folder / "evals" / "step-000006", start(go_on))
    assert not (folder / "best").exists()
    go_on()
    assert held(folder) == held(whole)


@pytest.mark.slow
def test_a_run_with_loader_processes_resumes_exactly(pools: Path, tmp_path: Path) -> None:
    asked = recipe(pools, **BRIEF, workers=2)
    train(asked, tmp_path / "whole")
    kill_when(
        tmp_path / "killed" / "checkpoints" / "step-000002",
        start(lambda: train(asked, tmp_path / "killed")),
    )
    train(asked, tmp_path / "killed", resume=True)
    assert held(tmp_path / "killed") == held(tmp_path / "whole")
    assert [r["from_step"] for r in lines(tmp_path / "whole" / "mixture.jsonl")] == [7, 9]


@pytest.mark.slow
def test_two_processes_train_as_one_run_and_resume_exactly(pools: Path, tmp_path: Path) -> None:
    asked = recipe(pools, **BRIEF, batch={"per_device": 2})

    def run(folder: Path, *, resume: bool = False) -> list[Any]:
        return start(lambda: train(asked, folder, resume=resume), ranks=2)

    for process in run(tmp_path / "whole"):
        process.join(DEADLINE)
        assert process.exitcode == 0
    kill_when(tmp_path / "killed" / "checkpoints" / "step-000002", run(tmp_path / "killed"))
    for process in run(tmp_path / "killed", resume=True):
        process.join(DEADLINE)
        assert process.exitcode == 0
    assert held(tmp_path / "killed") == held(tmp_path / "whole")
    assert json.loads((tmp_path / "whole" / "run.json").read_text())["processes"] == 2


def test_the_failure_of_one_process_reaches_all(tmp_path: Path) -> None:
    from laconic.train.ranks import find_ranks

    def run() -> None:
        ranks = find_ranks()

        def fail() -> None:
            raise TrainError("no room")

        told = []
        for work in (lambda: ranks.on_first(fail), lambda: ranks.on_all(only_on_second)):
            try:
                work()
            except LaconicError as error:
                told.append(str(error))
        try:
            ranks.agree("their seed", ranks.index)
        except TrainError as error:
            told.append(str(error).split(":")[0])
        (tmp_path / str(ranks.index)).write_text(json.dumps(told))

    def only_on_second() -> None:
        if os.environ["RANK"] == "1":
            raise RecipeError("no recipe")

    for process in start(run, ranks=2):
        process.join(DEADLINE)
    told = [json.loads((tmp_path / rank).read_text()) for rank in "01"]
    assert told[0] == told[1]
    assert told[0] == ["no room", "no recipe (process 1)", "The processes differ in their seed"]


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
    with Places(tmp_path / "new").claim("digest", resume=False):
        (tmp_path / "new" / "run.json").write_text('{"kind": "train", "digest": "digest"}')
        with pytest.raises(TrainError, match="in use by another training"):
            Places(tmp_path / "new").claim("digest", resume=True)


@pytest.mark.slow
def test_a_launcher_starts_the_command_line(pools: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    import yaml

    values = recipe_values(pools, batch={"per_device": 2}, steps=4)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc_per_node", "2", "-m", "laconic", "train", "recipe.yaml", "-o", "short"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained 4 steps") == 1
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
