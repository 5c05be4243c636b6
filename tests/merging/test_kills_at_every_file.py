"""What can go wrong beside a merge: kills at every file it touches, full disks, changing inputs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from laconic.errors import CheckpointError
from laconic.merging.engine.options import ExecutionOptions
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe
from tests.conftest import CONFIG, MakeCheckpoint
from tests.merging.test_killed_merges import digests

#: Merges in children of its own, each killed at another of the files that a merge opens, moves,
#: copies or deletes, and then again to the end by other threads in other blocks.
EVERY_FILE = """
import os, signal, sys
from pathlib import Path
from laconic.merging.engine.options import ExecutionOptions
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe

base, model, folder = sys.argv[1:]
recipe = Recipe([model], "ties", base=base, before=["dare"], params={"density": 0.5})
EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.truncate", "shutil.copyfile"}

def attempt(output, last, options):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    touched = 0

    def touch(event, args):
        nonlocal touched
        if event in EVENTS and any(output in str(arg) for arg in args):
            touched += 1
            if touched == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(touch)
    merge(recipe, Path(folder) / output, shard_bytes=300, options=options)
    os._exit(0)

options = ExecutionOptions(threads=2, block=10)
merge(recipe, Path(folder) / "whole", shard_bytes=300, options=options)
last = 1
while not attempt(f"out{last}", last, ExecutionOptions(threads=3, block=17)):
    if (Path(folder) / f"out{last}").exists():
        break
    assert attempt(f"out{last}", None, ExecutionOptions(threads=1, block=50)), last
    last += 1
print(last)
"""


@pytest.mark.slow
def test_a_merge_killed_at_any_file_it_touches_ends_with_the_same_bytes(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    folders = [make_checkpoint(name, seed) for seed, name in enumerate(("base", "model"))]
    done = subprocess.run(
        [sys.executable, "-c", EVERY_FILE, *map(str, folders), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kills = int(done.stdout) - 1
    assert kills >= 30
    whole = digests(tmp_path / "whole")
    assert {"config.json", "tokenizer.json", "chat_template.jinja"} < whole.keys()
    for number in range(1, kills + 2):
        assert digests(tmp_path / f"out{number}") == whole


SIZE, TENSORS = 10_000, 30


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """A base and a model of two shards, the first ten tensors in the first."""
    draw, folders = torch.Generator().manual_seed(0), [tmp_path / "base", tmp_path / "model"]
    names = [f"model.layers.{i}.w" for i in range(TENSORS)]
    for folder in folders:
        folder.mkdir()
        config = {**CONFIG, "num_hidden_layers": TENSORS}
        (folder / "config.json").write_text(json.dumps(config))
        homes: dict[str, str] = {}
        for file, part in (("a.safetensors", names[:10]), ("b.safetensors", names[10:])):
            save_file({n: torch.randn(SIZE, generator=draw) for n in part}, folder / file)
            homes |= dict.fromkeys(part, file)
        index = {"metadata": {}, "weight_map": homes}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folders


def recipe_of(pair: list[Path]) -> Recipe:
    return Recipe([str(pair[1])], "task_arithmetic", base=str(pair[0]), params={"scale": 0.5})


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 1.5 MB: the merge needs 1.2."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small tmpfs cannot be mounted here: that needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


class Hook:
    """Does something once, when a merge has finished some tensors; counts what it finishes."""

    def __init__(self, action: Callable[[], object], after: int = 1) -> None:
        self.action, self.after, self.calls = action, after, 0

    def __call__(self, done: int, total: int, note: str = "") -> None:
        self.calls += 1
        if self.calls == self.after:
            self.action()


def fill(disk: Path) -> None:
    with (disk / "other").open("wb", buffering=0) as stream:
        try:
            while stream.write(b"x" * 4096):
                pass
        except OSError:
            return


MEANS = ExecutionOptions(threads=2, block=1000)


@pytest.mark.parametrize("reserved", [True, False], ids=["reserved", "not reserved"])
def test_a_disk_that_fills_up_midway_leaves_the_reason_and_resumes(
    reserved: bool, pair: list[Path], disk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not reserved:
        monkeypatch.delattr(os, "posix_fallocate")
    out = disk / "out"
    # Where the room for the weights is reserved, it is the files beside them that do not fit.
    hook = Hook(lambda: fill(disk), after=TENSORS if reserved else 3)
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        merge(recipe_of(pair), out, progress=hook, options=MEANS)
    assert f"{out} cannot be written" in str(caught.value)
    assert "What is finished is kept" in str(caught.value)
    assert sorted(p.name for p in disk.iterdir()) == [".out.partial", "other"]
    (disk / "other").unlink()
    again = Hook(lambda: None)
    merge(recipe_of(pair), out, progress=again, options=MEANS)
    assert again.calls < TENSORS - 1
    assert [p.name for p in disk.iterdir()] == ["out"]
    merge(recipe_of(pair), tmp_path / "whole", options=MEANS)
    assert digests(out) == digests(tmp_path / "whole")


def test_a_read_only_place_is_refused_in_one_sentence(pair: list[Path], disk: Path) -> None:
    if os.geteuid():
        disk.chmod(0o555)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(CheckpointError, match=r"out cannot be written: .*(Read-only|Permission)"):
        merge(recipe_of(pair), disk / "deep" / "out")
    assert not list(disk.iterdir())


@pytest.mark.parametrize("after", [1, TENSORS], ids=["early", "before the other files"])
def test_a_merge_whose_work_is_deleted_says_so(
    after: int, pair: list[Path], tmp_path: Path
) -> None:
    place = tmp_path / "place"
    hook = Hook(lambda: shutil.rmtree(place), after)
    with pytest.raises(CheckpointError, match=r"out.partial, where it was being made, is gone"):
        merge(recipe_of(pair), place / "out", progress=hook, options=MEANS)
    assert not place.exists()
    merge(recipe_of(pair), place / "out", options=MEANS)


def replace_whole(path: Path) -> None:
    new = path.with_suffix(".new")
    shutil.copyfile(path, new)
    new.replace(path)


def rewrite_last_byte(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"?")


MISHAPS: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "deleted": Path.unlink,
    "replaced": replace_whole,
    "written": rewrite_last_byte,
}


@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("after", [1, TENSORS], ids=["before it is read", "after it was read"])
def test_an_input_that_changes_under_a_merge_stops_it(
    mishap: str, after: int, pair: list[Path], tmp_path: Path
) -> None:
    path = pair[1] / "b.safetensors"
    kept = path.read_bytes()
    hook = Hook(lambda: MISHAPS[mishap](path), after)
    with pytest.raises(CheckpointError, match=r"b.safetensors was changed or removed") as caught:
        merge(recipe_of(pair), tmp_path / "out", progress=hook, options=MEANS)
    assert str(path) in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "model"]
    path.write_bytes(kept)
    merge(recipe_of(pair), tmp_path / "out", options=MEANS)


def test_work_on_other_inputs_of_the_same_headers_is_not_taken_over(
    pair: list[Path], tmp_path: Path
) -> None:
    recipe = recipe_of(pair)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(recipe, tmp_path / "out", progress=Hook(stop, after=9), options=MEANS)
    place = pair[1] / "a.safetensors"
    data = bytearray(place.read_bytes())
    # A byte of the first tensor that none of the samples of the fingerprint sees.
    data[24_000] ^= 0xFF
    place.write_bytes(data)
    merge(recipe, tmp_path / "out", options=MEANS)
    merge(recipe, tmp_path / "whole", options=MEANS)
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


CUT = """
import os, sys
from pathlib import Path
from laconic.merging.engine.options import ExecutionOptions
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe

base, model, out = sys.argv[1:]
recipe = Recipe([model], "task_arithmetic", base=base)
merge(recipe, out, progress=lambda *_: os.truncate(Path(model) / "a.safetensors", 4096),
      options=ExecutionOptions(threads=2, block=10))
"""


@pytest.mark.slow
def test_an_input_cut_off_under_its_map_leaves_no_model(pair: list[Path], tmp_path: Path) -> None:
    path, out = pair[1] / "a.safetensors", tmp_path / "out"
    kept = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", CUT, *map(str, pair), str(out)], capture_output=True, text=True
    )
    assert done.returncode in {1, -signal.SIGBUS}
    assert done.returncode != 1 or "was changed or removed" in done.stderr
    assert not out.exists()
    with pytest.raises(CheckpointError, match="is damaged"):
        merge(recipe_of(pair), out)
    path.write_bytes(kept)
    merge(recipe_of(pair), out, options=MEANS)
    merge(recipe_of(pair), tmp_path / "whole", options=MEANS)
    assert digests(out) == digests(tmp_path / "whole")
