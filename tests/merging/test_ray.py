"""Merges divided over the workers of a real Ray cluster of two processors on this machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from typer.testing import CliRunner

from laconic.checkpoints.writer import CheckpointWriter
from laconic.cli import app
from laconic.errors import CheckpointError, WorkerError
from laconic.merging.engine.options import ExecutionOptions
from laconic.merging.merge import execute, merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from tests.conftest import MakeCheckpoint, tensors
from tests.support.hub_server import serve

ray: Any = pytest.importorskip("ray", reason="Ray is not installed: pip install 'laconic[ray]'")
pytestmark = pytest.mark.slow  # clusters of real workers, minutes in all

#: Bytes of an output file: six of them, of several tensors each.
SHARD = 120_000
MODEL = {"density": 0.3, "scope": "model"}
RECIPES: dict[str, dict[str, Any]] = {
    "ties": {"method": "ties", "params": {"density": 0.3}},
    "ties over the model": {"method": "ties", "params": MODEL},
    "exactly k over the model": {"method": "ties", "params": {**MODEL, "ties": "exact"}},
    "two rounds": {"method": "ties", "params": MODEL, "before": [{"trim": MODEL}]},
    "dare": {"method": "task_arithmetic", "before": [{"dare": {"density": 0.5}}]},
    "whole tensors": {"method": "task_arithmetic", "before": [{"sparsify": {"density": 0.5}}]},
    "slerp": {"method": "slerp", "params": {"t": 0.4}},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster that this process is part of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # Ray's 15 starves workers on a busy machine
        context = ray.init(
            "local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error"
        )
        try:
            yield context.address_info["address"]
        finally:
            ray.shutdown()


@pytest.fixture
def pair(make_checkpoint: MakeCheckpoint) -> tuple[str, str]:
    """Two checkpoints of 40 tensors each."""
    draw = torch.Generator().manual_seed(0)
    shapes = {f"model.layers.{i % 2}.w{i}.weight": (101, 83) for i in range(40)}
    base, model = (
        make_checkpoint(
            name, {n: torch.randn(s, generator=draw).bfloat16() for n, s in shapes.items()}
        )
        for name in ("base", "model")
    )
    return str(base), str(model)


def recipe(pair: tuple[str, str], **values: Any) -> Recipe:
    return Recipe([pair[1]], base=pair[0], **values)


def digests(folder: Path) -> dict[str, str]:
    """Of every file that the merge decides; run.json and the card hold the command."""
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.iterdir()
        if p.name not in {"run.json", "README.md"}
    }


@pytest.mark.parametrize("values", RECIPES.values(), ids=RECIPES)
def test_workers_give_the_bytes_of_one_process(
    cluster: str, pair: tuple[str, str], tmp_path: Path, values: dict[str, Any]
) -> None:
    seen: list[tuple[int, int]] = []
    merge(recipe(pair, **values), tmp_path / "plain", shard_bytes=SHARD)
    merge(
        recipe(pair, **values),
        tmp_path / "split",
        shard_bytes=SHARD,
        options=ExecutionOptions(ray=cluster),
        progress=lambda done, total, note="": seen.append((done, total)),
    )
    assert len(list((tmp_path / "split").glob("*.safetensors"))) > 5
    assert digests(tmp_path / "split") == digests(tmp_path / "plain")
    assert seen[-1] == (40, 40)


def workers() -> list[int]:
    """The processes of this test's cluster that merge a file at this moment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (place / "cmdline").read_bytes().startswith(b"ray::_merge") and ours(place.name):
                found.append(int(place.name))
    return found


def ours(process: str) -> bool:
    """Whether a process descends from this one."""
    while int(process) > 1:
        process = (Path("/proc") / process / "stat").read_text().rpartition(")")[2].split()[1]
        if int(process) == os.getpid():
            return True
    return False


class Killer:
    """A progress that kills a worker at work, once."""

    def __init__(self) -> None:
        self.killed: list[int] = []

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if not self.killed:
            self.killed = workers()[:1]
            for process in self.killed:
                os.kill(process, signal.SIGKILL)


def test_a_killed_worker_is_replaced(cluster: str, pair: tuple[str, str], tmp_path: Path) -> None:
    killer = Killer()
    asked = recipe(pair, **RECIPES["ties"])
    merge(asked, tmp_path / "plain", shard_bytes=SHARD)
    merge(
        asked,
        tmp_path / "out",
        shard_bytes=SHARD,
        options=ExecutionOptions(ray=cluster),
        progress=killer,
    )
    assert killer.killed
    assert digests(tmp_path / "out") == digests(tmp_path / "plain")


def test_workers_lost_for_good_end_in_a_sentence_and_keep_what_is_finished(
    cluster: str, pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, out = recipe(pair, **RECIPES["ties"]), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setenv("RAY_TASK_MAX_RETRIES", "0")
        with pytest.raises(WorkerError, match=r"died.* kept in .*run the same command again"):
            merge(
                asked,
                out,
                shard_bytes=SHARD,
                options=ExecutionOptions(ray=cluster),
                progress=Killer(),
            )
    assert not out.exists()
    left: list[int] = []
    merge(
        asked,
        out,
        shard_bytes=SHARD,
        options=ExecutionOptions(ray=cluster),
        progress=lambda done, total, note="": left.append(done),
    )
    assert left[0] > 1
    assert digests(merge(asked, tmp_path / "plain", shard_bytes=SHARD).folder) == digests(out)


#: Merges in a process that kills itself when some tensors are finished.
DRIVER = """
import os, signal, sys
from laconic.merging.engine.options import ExecutionOptions
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe

base, model, output, address = sys.argv[1:]

def stop(done, total, note=""):
    if done == 7:
        os.kill(os.getpid(), signal.SIGKILL)

recipe = Recipe([model], "ties", base=base, params={"density": 0.3})
merge(recipe, output, shard_bytes=120_000, options=ExecutionOptions(ray=address), progress=stop)
"""


def test_a_merge_whose_first_process_was_killed_goes_on(
    cluster: str, pair: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", DRIVER, *pair, str(out), cluster]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert not out.exists()
    left: list[int] = []
    merge(
        recipe(pair, **RECIPES["ties"]),
        out,
        shard_bytes=SHARD,
        options=ExecutionOptions(ray=cluster),
        progress=lambda done, total, note="": left.append(done),
    )
    assert left == list(range(8, 41))
    merge(recipe(pair, **RECIPES["ties"]), tmp_path / "plain", shard_bytes=SHARD)
    assert digests(out) == digests(tmp_path / "plain")


def test_a_value_that_is_not_finite_names_tensor_and_model_and_leaves_no_output(
    cluster: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    broken = tensors(1)
    broken["model.layers.1.mlp.up_proj.weight"][3, 3] = float("nan")
    base, model = make_checkpoint("base", 0), make_checkpoint("model", broken)
    asked = recipe((str(base), str(model)), method="task_arithmetic")
    with pytest.raises(CheckpointError, match=r"layers.1.mlp.up_proj.weight' of .*model holds NaN"):
        merge(asked, tmp_path / "out", shard_bytes=200, options=ExecutionOptions(ray=cluster))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "model"]


def test_workers_that_see_other_files_are_refused(
    cluster: str, pair: tuple[str, str], tmp_path: Path
) -> None:
    planned = plan(recipe(pair, **RECIPES["ties"]))
    shutil.copytree(pair[0], tmp_path / "kept")
    shutil.rmtree(pair[1])
    with pytest.raises(WorkerError, match=r"cannot make the same plan: There is no folder .*model"):
        execute(planned, tmp_path / "out", options=ExecutionOptions(ray=cluster))
    (tmp_path / "kept").rename(pair[1])
    with pytest.raises(WorkerError, match=r"sees other checkpoints.*Nothing was left in .*out"):
        execute(planned, tmp_path / "out", options=ExecutionOptions(ray=cluster))
    assert not list(tmp_path.glob("*out*"))


def test_a_worker_without_the_output_folder_is_refused_and_finished_work_is_kept(
    cluster: str, pair: tuple[str, str], tmp_path: Path
) -> None:
    work = tmp_path / ".out.partial"

    def lose(done: int, total: int, note: str = "") -> None:
        for path in work.glob("model-0000[56]*"):
            path.unlink()

    with pytest.raises(WorkerError, match=r"does not see .*model-0000.*kept in .*out.partial"):
        merge(
            recipe(pair, **RECIPES["ties"]),
            tmp_path / "out",
            shard_bytes=SHARD,
            options=ExecutionOptions(ray=cluster),
            progress=lose,
        )
    assert (work / "journal.jsonl").read_text().count("tensor") >= 1


def test_the_command_line_divides_a_merge_of_relative_paths(
    cluster: str,
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_checkpoint("base", 0)
    make_checkpoint("model", 1)
    monkeypatch.chdir(tmp_path)
    command = ["merge", "--base", "base", "--model", "model", "--method", "ties"]
    for extra in ["-o", "plain"], ["-o", "split", "--ray", cluster]:
        done = CliRunner().invoke(app, [*command, *extra])
        assert done.exit_code == 0, done.output
    assert "Merged 8 tensors into split." in done.output
    assert digests(tmp_path / "split") == digests(tmp_path / "plain")


def test_more_threads_than_any_machine_has_are_refused(
    cluster: str, pair: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(WorkerError, match="has 64 processors: the largest has 2"):
        merge(
            recipe(pair, method="task_arithmetic"),
            tmp_path / "out",
            options=ExecutionOptions(threads=64, ray=cluster),
        )
    assert not list(tmp_path.glob("*out*"))


def test_an_output_folder_that_another_merge_holds_is_refused(
    cluster: str, pair: tuple[str, str], tmp_path: Path
) -> None:
    asked = recipe(pair, method="task_arithmetic")
    held = CheckpointWriter(tmp_path / "out", plan(asked).specs, digest="x")
    with held, pytest.raises(CheckpointError, match="Another merge is writing"):
        merge(asked, tmp_path / "out", options=ExecutionOptions(ray=cluster))


def test_models_of_the_hub_are_fetched_once_and_workers_read_the_cache(
    cluster: str, pair: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = RECIPES["dare"]
    with serve({"org/base": Path(pair[0]), "org/model": Path(pair[1])}) as hub:
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        asked = Recipe(["org/model"], base="org/base", **method)
        merge(asked, tmp_path / "split", shard_bytes=SHARD, options=ExecutionOptions(ray=cluster))
        served = hub.served.total()
        assert served < 3.5 * (Path(pair[0]) / "model.safetensors").stat().st_size
    merge(recipe(pair, **method), tmp_path / "plain", shard_bytes=SHARD)
    assert digests(tmp_path / "split") == digests(tmp_path / "plain")
