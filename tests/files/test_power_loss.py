"""What a loss of power leaves: each verb's output is whole on the disk before the verb says so."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from laconic.cli import main
from laconic.files.atomic import make_folder, publish, sync, write_file, writing
from tests.support.disk_record import Disk
from tests.support.trainings import recipe_values, write_pools
from tests.training.test_train import BRIEF

if TYPE_CHECKING:
    from pathlib import Path

PROBLEMS = 4
MERGE = ("merge", "--base", "lab:base", "--model", "lab:system2", "--method", "task_arithmetic")
Command = Callable[..., str]


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command line in this process, in the test's folder: what it prints to both streams."""

    def run(*words: object, code: int = 0) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["laconic", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert ended.value.code == code, told.err
        return told.out + told.err

    return run


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    """Problems, and a model's answers to them."""
    rows = [
        {"id": str(i), "problem": f"{i}+1?", "answer": str(i + 1), "question": f"{i}+1?"}
        for i in range(PROBLEMS)
    ]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = [
        {
            "id": str(i),
            "text": f"It is \\boxed{{{i + 1}}}.",
            "response": f"It is \\boxed{{{i + 1}}}.",
            "length": 5,
        }
        for i in range(PROBLEMS)
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def evaluation(answers: Path, output: str, *more: object) -> tuple[object, ...]:
    words = ("eval", "lab:system2", "--task", "sums.jsonl", "--backend", f"replay:path={answers}")
    return (*words, "-o", output, *more)


def check(disk: Disk, *outputs: Path) -> None:
    for output in outputs:
        assert output.exists()
        assert not disk.unsafe(output)
        assert disk.named(output)
    inside = tuple(f"{output.parent}{os.sep}" for output in outputs)
    moved = [one for one in disk.renamed if one[1].startswith(inside)]
    assert not [one for one in moved if one[2]]


@pytest.mark.slow
def test_every_verbs_output_is_on_the_disk_when_the_verb_ends(
    command: Command, disk: Disk, answers: Path, tmp_path: Path
) -> None:
    command(*MERGE, "-o", "new/models/merged")
    check(disk, tmp_path / "new" / "models" / "merged", tmp_path / "new" / "models")
    assert disk.named(tmp_path / "new")
    command(*evaluation(answers, "runs/plain"))
    command(*evaluation(answers, "runs/packed", "--gzip"))
    check(disk, tmp_path / "runs" / "plain", tmp_path / "runs" / "packed")
    command("grade", "runs/plain")
    check(disk, tmp_path / "runs" / "plain")
    mapped = ("--map", "length=length", "--task", "sums", "--data", "sums.jsonl", "--no-cache")
    command("import", "answers.jsonl", *mapped, "-o", "runs/imported", "--cap", 100)
    check(disk, tmp_path / "runs" / "imported")
    command("report", "runs", "-o", "out/report.md", "-o", "out/report.csv")
    check(disk, tmp_path / "out" / "report.md", tmp_path / "out" / "report.csv")
    command("data", "select", "runs/plain", "-o", "rows/long.jsonl")
    check(disk, tmp_path / "rows" / "long.jsonl", tmp_path / "rows" / "long.meta.json")
    packing = ("--model", "lab:system2", "--no-cache", "--policy", "keep")
    command("data", "pack", "long=rows/long.jsonl", *packing, "-o", "pools/data")
    check(disk, tmp_path / "pools" / "data")
    command("inspect", "lab:base", "lab:system2", "--json", "pair.json")
    check(disk, tmp_path / "pair.json")
    sample = ("--data", "random", "--limit", 2, "--max-tokens", 16, "--stats", "fisher")
    command("calibrate", "lab:base", *sample, "-o", "stats/base.safetensors")
    check(disk, tmp_path / "stats" / "base.safetensors")
    command("lab", "family")
    check(disk, tmp_path / "family")


def test_an_interrupted_evaluation_has_on_the_disk_what_it_was_asked(
    command: Command, disk: Disk, answers: Path, tmp_path: Path
) -> None:
    rows = answers.read_text().splitlines(keepends=True)
    answers.write_text("".join(rows[:2]))
    command(*evaluation(answers, "run", "--limit", 2))
    check(disk, tmp_path / "run")


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_file(path, b"old")

    def interrupted() -> None:
        with writing(path) as beside:
            beside.write_bytes(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["x"]
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "no" / "x", b"")
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "nothing")


def test_a_folder_is_renamed_when_all_in_it_is_on_the_disk(tmp_path: Path, disk: Disk) -> None:
    make_folder(tmp_path / "a" / "b" / "made" / "inner")
    for name in ("one", "inner/two"):
        (tmp_path / "a" / "b" / "made" / name).write_text(name)
    (tmp_path / "a" / "b" / "made" / "link").symlink_to("nowhere")
    publish(tmp_path / "a" / "b" / "made", tmp_path / "a" / "there")
    check(disk, tmp_path / "a" / "there", tmp_path / "a")
    assert disk.named(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "there" / "inner" / "two").read_text() == "inner/two"


def test_a_folder_that_a_file_system_does_not_sync_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def picky(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):  # noqa: PTH112
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(handle)

    monkeypatch.setattr(os, "fsync", picky)
    write_file(tmp_path / "x", b"x")
    assert (tmp_path / "x").read_bytes() == b"x"


def test_a_file_system_without_locks_is_named_in_one_sentence_with_the_way_on(
    command: Command, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    command(*evaluation(answers, "kept"))
    monkeypatch.setattr(fcntl, "flock", none)
    sample = ("--data", "random", "--limit", 2, "--max-tokens", 16, "--stats", "fisher")
    for words in (
        (*MERGE, "-o", "merged"),
        evaluation(answers, "run"),
        ("grade", "kept"),
        ("calibrate", "lab:base", *sample, "-o", "base.safetensors"),
    ):
        told = " ".join(command(*words, code=2).split())
        assert "knows no locks (No locks available). Choose an output on another one" in told
        assert "Traceback" not in told


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    made = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(made, capture_output=True, check=False).returncode:
        pytest.skip("a small tmpfs cannot be mounted here: that needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place: Path, but: int) -> Path:
    """Fill a disk up to some bytes."""
    path = place / "filler"
    free = shutil.disk_usage(place).free
    path.write_bytes(bytes(max(free - but, 0)))
    return path


def test_a_full_disk_ends_every_verb_in_one_sentence_and_costs_nothing(
    command: Command, answers: Path, tmp_path: Path, small: Path
) -> None:
    command(*evaluation(answers, "small/run", "--limit", 2))
    before = (small / "run" / "results.jsonl").read_bytes()
    mapped = ("--map", "length=length", "--task", "sums", "--data", "sums.jsonl", "--no-cache")
    imported = ("import", "answers.jsonl", *mapped, "-o", "small/imported", "--cap", 100)
    filler = fill(small, 0)
    rest = evaluation(answers, "small/more")
    for words in (rest, ("grade", "small/run"), imported):
        told = " ".join(command(*words, code=2).split())
        assert "cannot be written: No space left on device." in told
        assert "Traceback" not in told
    assert (small / "run" / "results.jsonl").read_bytes() == before
    assert not (small / "imported").exists()
    assert not list(small.glob(".*partial"))
    filler.unlink()
    command(*rest)
    command("grade", "small/run")
    command(*imported)
    for name in ("run", "more", "imported"):
        assert json.loads((small / name / "run.json").read_text())["complete"]
    assert tmp_path in small.parents


@pytest.mark.slow
def test_a_trainings_output_is_on_the_disk_when_it_ends(disk: Disk, tmp_path: Path) -> None:
    from laconic.training.train import TrainRecipe, train

    values = recipe_values(write_pools(tmp_path / "pools"), **BRIEF)
    train(TrainRecipe.from_dict(values), tmp_path / "run")
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert tmp_path / "run" / "best" / "model.safetensors" in files
    assert not [path for path in files if path.name != ".lock" and disk.unsafe(path)]
    check(disk, tmp_path / "run" / "best")


class Machine:
    """A disk in a file, and what it holds after a loss of power at each moment it is written to.

    Nothing reaches that disk but what was brought to it: its file system commits by itself only
    every few minutes, and the moments are seconds apart.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.image, self.place, self.copy = folder / "image", folder / "disk", folder / "copy"
        self.after = folder / "after"
        for path in (self.place, self.after):
            path.mkdir()
        with self.image.open("wb") as stream:
            stream.truncate(48 * 2**20)
        self._run("mkfs.ext4", "-q", str(self.image))
        self._mount(self.image, self.place)
        self.moments = 0
        self.look: Callable[[Path], None] = lambda place: None
        for name in ("fsync", "rename", "replace", "unlink"):
            patch.setattr(os, name, self._followed(getattr(os, name)))

    def lose_power(self) -> None:
        """Look at what the disk would hold if the power were lost now."""
        shutil.copyfile(self.image, self.copy)
        self._mount(self.copy, self.after)
        try:
            self.look(self.after)
        finally:
            self._run("umount", str(self.after))

    def close(self) -> None:
        self._run("umount", str(self.place))

    def _followed(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(*words: Any, **more: Any) -> None:
            real(*words, **more)
            self.moments += 1
            self.lose_power()

        return call

    def _mount(self, image: Path, place: Path) -> None:
        self._run("mount", "-o", "loop,commit=300", str(image), str(place))

    @staticmethod
    def _run(*words: str) -> None:
        try:
            subprocess.run(words, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip(f"{words[0]} is not permitted here: that needs root and loop devices")


@pytest.mark.slow
def test_power_lost_at_any_moment_leaves_outputs_whole_or_absent(
    command: Command, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs: dict[str, set[Any]] = {"merged": set(), "imported": set(), "data": set()}
    lines = {"run/results.jsonl": 0}

    def look(place: Path) -> None:
        for name, seen in outputs.items():
            if not (place / name).exists():
                continue
            files = [path for path in (place / name).rglob("*") if path.is_file()]
            seen.add(tuple(sorted((str(p.relative_to(place)), p.read_bytes()) for p in files)))
        for head in place.rglob("*.json"):
            if not any(part.startswith(".") for part in head.relative_to(place).parts):
                assert json.loads(head.read_bytes())
        for rows in place.rglob("results.jsonl"):
            written = rows.read_bytes()
            assert all(map(json.loads, written.split(b"\n")[:-1]))
            name = str(rows.relative_to(place))
            assert written.count(b"\n") >= lines.get(name, 0)
            lines[name] = written.count(b"\n")

    with monkeypatch.context() as patch:
        machine = Machine(tmp_path, patch)
        machine.look = look
        try:
            mapped = ("--map", "length=length", "--task", "sums", "--data", "sums.jsonl")
            command(*MERGE, "-o", "disk/merged")
            command(*evaluation(answers, "disk/run"))
            command("grade", "disk/run")
            command("import", "answers.jsonl", *mapped, "-o", "disk/imported", "--cap", 100)
            command("data", "select", "disk/run", "-o", "disk/long.jsonl")
            packing = ("--model", "lab:system2", "--policy", "keep")
            command("data", "pack", "long=disk/long.jsonl", *packing, "-o", "disk/data")
            command("report", "disk/run", "-o", "disk/report.md")
            machine.look = lambda place: lose(machine.place, place)
            machine.lose_power()
        finally:
            machine.close()
    assert machine.moments > 50
    for name in ("merged", "imported", "data"):
        assert len(outputs[name]) == 1
    assert lines["run/results.jsonl"] == PROBLEMS


def lose(place: Path, after: Path) -> None:
    """Compare all that a disk holds with what it holds after the power was lost."""
    names = [path.relative_to(place) for path in sorted(place.rglob("*")) if path.is_file()]
    assert len(names) > 15
    for name in names:
        assert (after / name).read_bytes() == (place / name).read_bytes(), name
