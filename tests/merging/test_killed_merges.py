"""Merges that are killed, or that the disk has no room for."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from laconic.checkpoints.header import TensorSpec
from laconic.checkpoints.writer import CheckpointWriter

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeCheckpoint

KILLS = 40
#: Merges again and again in children of its own, each killed at another moment, until one is done.
DRILL = """
import json, os, random, signal, sys, time
from pathlib import Path
from laconic.merging.engine.options import ExecutionOptions
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe

base, model, folder, kills = *sys.argv[1:4], int(sys.argv[4])
recipe = Recipe([model], "ties", base=base, before=["dare"], params={"density": 0.5})

options = ExecutionOptions(threads=2, block=1000)

def run(output):
    merge(recipe, Path(folder) / output, shard_bytes=400_000, options=options)

def attempt(output, seconds):
    child = os.fork()
    if not child:
        run(output)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == 0

run("warm")
begin = time.perf_counter()
assert attempt("whole", None)
whole = time.perf_counter() - begin
draw, killed, resumed, round = random.Random(0), 0, 0, 0
while killed < kills:
    output = f"out{round}"
    journal = Path(folder) / f".{output}.partial" / "journal.jsonl"
    while not attempt(output, draw.uniform(0, whole)):
        killed += 1
        if (Path(folder) / output).exists():
            break
        resumed += journal.exists() and journal.read_bytes().count(b"\\n") > 1
    round += 1
print(json.dumps([killed, resumed, round]))
"""


def digests(folder: Path) -> dict[str, str]:
    """Of every file that the merge decides; run.json and the card hold the command."""
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.iterdir()
        if p.name not in {"run.json", "README.md"}
    }


@pytest.mark.slow
def test_a_merge_killed_at_any_moment_ends_with_the_bytes_of_an_undisturbed_one(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    draw = torch.Generator().manual_seed(0)
    shapes = {f"model.layers.{i % 2}.w{i}.weight": (101, 83) for i in range(100)}
    folders = [
        make_checkpoint(name, {n: torch.randn(s, generator=draw) for n, s in shapes.items()})
        for name in ("base", "model")
    ]
    done = subprocess.run(
        [sys.executable, "-c", DRILL, *map(str, folders), str(tmp_path), str(KILLS)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    killed, resumed, rounds = json.loads(done.stdout)
    assert killed >= KILLS
    assert resumed > 0, "no kill came while tensors were finished"
    whole = digests(tmp_path / "whole")
    assert len(whole) > 3
    for number in range(rounds):
        assert digests(tmp_path / f"out{number}") == whole
    notes = [
        json.loads((tmp_path / name / "run.json").read_text())["notes"]
        for name in ("whole", "out0")
    ]
    assert notes[0] == notes[1]


def merge_command(base: Path, model: Path, out: Path) -> list[str]:
    command = [sys.executable, "-m", "laconic", "merge", "--base", str(base), "--model", str(model)]
    return [*command, "--method", "task_arithmetic", "-o", str(out)]


def test_a_disk_that_refuses_a_file_leaves_the_reason_and_nothing_else(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = subprocess.run(
        merge_command(base, model, tmp_path / "out"),
        capture_output=True,
        text=True,
        preexec_fn=small_files,
    )
    assert done.returncode == 2
    assert "out cannot be written: File too large. Nothing was left in" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "model"]


@pytest.mark.slow
def test_a_full_disk_leaves_the_reason_and_no_model(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small tmpfs cannot be mounted here: that needs root")
    try:
        writer = CheckpointWriter(disk / "out", [TensorSpec("w", "U8", (100_000,))], digest="x")
        with writer, pytest.raises(OSError, match="No space left"):
            writer.open()
        shutil.rmtree(writer.work)
        weights = {f"model.layers.{i}.w": torch.ones(100, 100) for i in range(2)}
        base, model = (make_checkpoint(n, weights) for n in ("base", "model"))
        done = subprocess.run(
            merge_command(base, model, disk / "out"), capture_output=True, text=True
        )
        assert done.returncode == 2
        assert "free" in done.stderr
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_work_from_before_a_restart_of_the_computer_is_not_trusted(tmp_path: Path) -> None:
    specs = [TensorSpec("a", "U8", (4,)), TensorSpec("b", "U8", (4,))]

    def started() -> CheckpointWriter:
        return CheckpointWriter(tmp_path / "out", specs, digest="x")

    with started() as writer:
        writer.open()
        writer.finish("a", moved=[0])
        journal = writer.work / "journal.jsonl"
    with started() as writer:
        assert writer.finished == {"a": {"moved": [0]}}
    first, *rest = journal.read_text().splitlines()
    lines = [json.dumps({**json.loads(first), "boot": "another"}), *rest, ""]
    journal.write_text("\n".join(lines))
    with started() as writer:
        assert writer.finished == {}


def test_a_line_that_a_kill_has_cut_is_no_finished_tensor(tmp_path: Path) -> None:
    specs = [TensorSpec("a", "U8", (4,)), TensorSpec("b", "U8", (4,))]
    with CheckpointWriter(tmp_path / "out", specs, digest="x") as writer:
        writer.open()
        writer.finish("a")
        writer.finish("b")
        journal = writer.work / "journal.jsonl"
    os.truncate(journal, journal.stat().st_size - 1)
    with CheckpointWriter(tmp_path / "out", specs, digest="x") as writer:
        assert set(writer.finished) == {"a"}
