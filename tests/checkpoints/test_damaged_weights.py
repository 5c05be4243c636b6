"""Weight files that are damaged in any way: refused in one sentence, or read as they were."""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from laconic.checkpoints.checkpoint import Checkpoint, open_checkpoint
from laconic.checkpoints.header import INDEX, SINGLE
from laconic.cli import main
from laconic.errors import CheckpointError, LaconicError
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe
from tests.conftest import CONFIG, MakeCheckpoint

TENSORS = {
    "model.embed_tokens.weight": torch.arange(24).reshape(12, 2).bfloat16(),
    "model.layers.0.w": torch.linspace(-1, 1, 6).reshape(2, 3).half(),
    "model.layers.1.w": torch.linspace(0, 2, 6).reshape(3, 2),
    "model.layers.1.empty": torch.zeros(0, 4),
    "model.layers.1.scale": torch.tensor(0.25),
    "model.rotary.inv_freq": torch.ones(3),
    "model.mask": torch.tensor([[True], [False]]),
}


def held(checkpoint: Checkpoint) -> dict[str, tuple[object, bytes]]:
    """What a checkpoint says of each tensor, and the bytes that it reads."""
    return {
        name: (spec, checkpoint.stored(name).tobytes()) for name, spec in checkpoint.specs.items()
    }


def write(folder: Path, file: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / SINGLE).write_bytes(file)
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / SINGLE
    save_file(TENSORS, path, metadata={"format": "pt"})
    return path.read_bytes()


def one_sentence(error: LaconicError) -> None:
    """What every refusal must be: short, of one line, that stderr can show."""
    text = str(error)
    assert "\n" not in text
    assert len(text) < 1000
    text.encode("utf-8")


@pytest.mark.slow
@settings(max_examples=300)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_header_is_refused_or_changes_nothing(
    sound: bytes, place: float, bit: int
) -> None:
    length = 8 + struct.unpack("<Q", sound[:8])[0]
    damaged = bytearray(sound)
    damaged[int(place * length)] ^= 1 << bit
    with tempfile.TemporaryDirectory() as parent:
        whole = write(Path(parent) / "base", sound)
        folder = write(Path(parent) / "model", bytes(damaged))
        try:
            out = merge(
                Recipe([str(folder)], "task_arithmetic", base=str(whole), params={"scale": 1.0}),
                Path(parent) / "out",
            )
        except LaconicError as error:
            one_sentence(error)
            assert sorted(p.name for p in Path(parent).iterdir()) == ["base", "model"]
            return
        assert held(open_checkpoint(folder)) == held(open_checkpoint(whole))
        assert held(out) == held(open_checkpoint(whole))


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 70)
    | st.sampled_from([2**31, 2**63, 2**64, 10**400, 1e400, float("nan"), 3.0, -0.0])
    | st.text(max_size=3)
    | st.sampled_from(["BF16", "F32", "F8_E4M3", "F4", "C64", "I64", "\ud800", "\x1b[31m"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
PATHS = st.tuples(
    st.sampled_from(sorted(TENSORS)),
    st.sampled_from([None, ("dtype",), ("shape",), ("shape", 0), ("data_offsets",)])
    | st.sampled_from([("data_offsets", 0), ("data_offsets", 1), ("shape", 1)]),
)


def with_header(file: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A weight file whose header was read, changed and written again."""
    length = struct.unpack("<Q", file[:8])[0]
    header = json.loads(file[8 : 8 + length])
    change(header)
    return headed(json.dumps(header).encode(), file[8 + length :])


def headed(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    *inner, last = path
    for key in inner:
        value = value[key]
    if isinstance(value, list) and last >= len(value):
        value.append(new)
    else:
        value[last] = new


@pytest.mark.slow
@settings(max_examples=200)
@given(st.lists(st.tuples(PATHS, JSON), min_size=1, max_size=2))
def test_a_header_that_says_anything_is_refused_or_read_whole(
    sound: bytes, changes: list[tuple[tuple[str, tuple[Any, ...] | None], Any]]
) -> None:
    def change(header: dict[str, Any]) -> None:
        for (name, path), new in changes:
            try:
                put(header, (name, *(path or ())), new)
            except (TypeError, KeyError):
                header[name] = new

    file = with_header(sound, change)
    with tempfile.TemporaryDirectory() as parent:
        folder = write(Path(parent) / "model", file)
        try:
            checkpoint = open_checkpoint(folder)
        except CheckpointError as error:
            one_sentence(error)
            return
        data = len(file) - 8 - struct.unpack("<Q", file[:8])[0]
        read = held(checkpoint)
        assert sum(len(values) for _, values in read.values()) == data
        assert set(read) == set(TENSORS)


def entry(dtype: str, shape: list[Any], first: int, last: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


def file_of(data: int = 0, **entries: Any) -> bytes:
    return headed(json.dumps(entries).encode(), bytes(data))


BOMBS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "has no safetensors header"),
    "one byte": (b"\x08", "has no safetensors header"),
    "a length and no header": (struct.pack("<Q", 64), "has no safetensors header"),
    "a length of 2**63": (struct.pack("<Q", 1 << 63) + b"{}", "has no safetensors header"),
    "a hundred thousand nested lists": (headed(b"[" * 100_000), "header is broken"),
    "a number of 5,000 digits": (headed(b'{"a":' + b"9" * 5000 + b"}"), "header is broken"),
    "a list": (headed(b"[]"), "it is no JSON object"),
    "UTF-16": (headed('{"__metadata__":{}}'.encode("utf-16")), "header is broken"),
    "a name that is no text": (headed(b'{"\\ud800": {}}'), "name cannot be shown"),
    "a name twice": (
        headed(b'{"a":' + json.dumps(entry("U8", [1], 0, 1)).encode() + b',"a":{}}', b"x"),
        "it says one thing twice",
    ),
    "a key of an entry twice": (
        headed(b'{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}', b"x"),
        "it says one thing twice",
    ),
    "negative sizes": (file_of(4, a=entry("U8", [-2, -2], 0, 4)), "no lists of sizes"),
    "a size that is true": (file_of(1, a=entry("U8", [True], 0, 1)), "no lists of sizes"),
    "a size that is a fraction": (file_of(1, a=entry("U8", [1.0], 0, 1)), "no lists of sizes"),
    "a shape that is text": (
        file_of(1, a={**entry("U8", [1], 0, 1), "shape": "1"}),
        "no lists of sizes",
    ),
    "more dimensions than arrays have": (
        file_of(1, a=entry("U8", [1] * 65, 0, 1)),
        "no lists of sizes",
    ),
    "sizes whose product overflows 64 bits": (
        file_of(0, a=entry("U8", [1 << 32, 1 << 32], 0, 0)),
        "larger than any memory",
    ),
    "no elements, but of endless rows": (
        file_of(0, a=entry("U8", [0, 1 << 40, 1 << 40], 0, 0)),
        "larger than any memory",
    ),
    "places that overlap": (
        file_of(6, a=entry("U8", [4], 0, 4), b=entry("U8", [4], 2, 6)),
        "'b' begins at byte 2 of the tensors and not at 4",
    ),
    "a gap": (
        file_of(6, a=entry("U8", [2], 0, 2), b=entry("U8", [2], 4, 6)),
        "'b' begins at byte 4 of the tensors and not at 2",
    ),
    "places beyond the end": (file_of(4, a=entry("U8", [4], 4, 8)), "its header needs"),
    "places before the beginning": (file_of(4, a=entry("U8", [8], -4, 4)), "no places"),
    "places the wrong way round": (file_of(4, a=entry("U8", [4], 4, 0)), "no places"),
    "one place": (file_of(4, a={**entry("U8", [4], 0, 4), "data_offsets": [4]}), "no places"),
    "a type that nobody knows": (
        file_of(8, a=entry("C64", [1], 0, 8)),
        "type C64, which cannot be read. Save the checkpoint in one of bfloat16",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_file_made_to_hurt_is_refused_in_one_sentence(bomb: str, tmp_path: Path) -> None:
    file, message = BOMBS[bomb]
    folder = write(tmp_path / "model", file)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(folder)
    one_sentence(caught.value)
    assert SINGLE in str(caught.value)


def header_end(path: Path) -> int:
    return 8 + int(struct.unpack("<Q", path.read_bytes()[:8])[0])


def exchange(first: Path, second: Path) -> None:
    between = first.with_suffix(".between")
    first.rename(between)
    second.rename(first)
    between.rename(second)


def replaced(path: Path) -> Path:
    path.unlink()
    return path


def rehome(folder: Path, **homes: Any) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] |= homes
    (folder / INDEX).write_text(json.dumps(index))


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
UP = "model.layers.0.mlp.up_proj.weight"
SHARDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "half of it": (lambda d: os.truncate(d / FIRST, (d / FIRST).stat().st_size // 2), "needs"),
    "all but a byte": (lambda d: os.truncate(d / FIRST, (d / FIRST).stat().st_size - 1), "needs"),
    "one byte": (lambda d: os.truncate(d / FIRST, 1), "no safetensors header"),
    "nothing": (lambda d: os.truncate(d / FIRST, 0), "no safetensors header"),
    "its header only": (
        lambda d: os.truncate(d / FIRST, header_end(d / FIRST)),
        "its header needs",
    ),
    "half of its header": (
        lambda d: os.truncate(d / FIRST, header_end(d / FIRST) // 2),
        "no safetensors header",
    ),
    "a byte too many": (lambda d: os.truncate(d / FIRST, (d / FIRST).stat().st_size + 1), "needs"),
    "its sibling's name": (lambda d: exchange(d / FIRST, d / SECOND), "but it does not"),
    "its sibling's content": (
        lambda d: (d / FIRST).write_bytes((d / SECOND).read_bytes()),
        "but it does not",
    ),
    "a folder's place": (
        lambda d: replaced(d / FIRST).mkdir(),
        "cannot be read: it is a folder, not a file",
    ),
    "a link to nothing": (
        lambda d: replaced(d / FIRST).symlink_to(d / "gone"),
        "cannot be read: No such file",
    ),
    "no file at all": (lambda d: (d / FIRST).unlink(), "is missing from"),
    "a place outside the folder": (
        lambda d: rehome(d, **{UP: "../base/" + SINGLE}),
        "is damaged: ",
    ),
    "a place that is no text": (lambda d: rehome(d, **{UP: ["x"]}), "is damaged: "),
    "an index of nested lists": (
        lambda d: (d / INDEX).write_text("[" * 100_000),
        "is damaged: it is not JSON",
    ),
    "an index of long numbers": (
        lambda d: (d / INDEX).write_text('{"weight_map": ' + "9" * 5000 + "}"),
        "is damaged: it is not JSON",
    ),
}


@pytest.mark.parametrize("damage", SHARDS)
def test_a_damaged_shard_is_refused_by_the_command_line(
    damage: str,
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1, shards=2)
    arrange, message = SHARDS[damage]
    arrange(model)
    command = ["laconic", "merge", "--base", str(base), "--model", str(model)]
    command += ["--method", "task_arithmetic", "-o", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stop:
        main()
    told = " ".join(capsys.readouterr().err.split())
    assert stop.value.code == 2, told
    assert message in told
    assert "model" in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "model"]


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("F8_E4M3", r"is quantised: .* packed weights \(FP8 without scales\)"),
        ("F8_E5M2", r"is quantised: .* packed weights \(FP8 without scales\)"),
        ("F64", "has type F64. Only bfloat16, float16, float32 can be merged"),
        ("F4", "has type F4, which cannot be read. Save the checkpoint in one of bfloat16"),
        ("I64", "one of them holds numbers to merge"),
    ],
)
def test_a_type_that_cannot_be_merged_is_refused(dtype: str, message: str, tmp_path: Path) -> None:
    width = {"F8_E4M3": 1, "F8_E5M2": 1, "F4": 1, "F64": 8, "I64": 8}[dtype]
    name = "model.layers.1.w"
    base = write(tmp_path / "base", file_of(8, **{name: entry("F32", [2], 0, 8)}))
    size = 2 * width
    model = write(tmp_path / "model", file_of(size, **{name: entry(dtype, [2], 0, size)}))
    for system2 in (base, model):
        recipe = Recipe([str(model)], "task_arithmetic", base=str(base), system2=str(system2))
        with pytest.raises(CheckpointError, match=message) as caught:
            merge(recipe, tmp_path / "out")
        assert name in str(caught.value)
        assert dtype in str(caught.value)


@pytest.mark.parametrize("dtype", ["I64", "U8", "BOOL"])
def test_what_is_no_number_to_merge_is_copied_from_system2(dtype: str, tmp_path: Path) -> None:
    numpy: Mapping[str, Any] = {"I64": np.int64, "U8": np.uint8, "BOOL": np.bool_}
    name, values = "model.layers.1.ids", np.array([0, 1, 1], numpy[dtype])
    data = len(values.tobytes())
    zeros = file_of(data, **{name: entry(dtype, [3], 0, data)})
    base = write(tmp_path / "base", zeros)
    model = write(tmp_path / "model", zeros[:-data] + values.tobytes())
    out = merge(
        Recipe([str(model)], "task_arithmetic", base=str(base), params={"scale": 0.5}),
        tmp_path / "out",
    )
    assert np.array_equal(out.stored(name), values)
