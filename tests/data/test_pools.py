"""Packed folders: read whole, or refused in one sentence that says what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from laconic.data.pools import COLUMNS, file_digest, read_pools
from laconic.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, **other: Any) -> dict[str, Any]:
    """A packed folder of one row; returns its manifest."""
    folder.mkdir(exist_ok=True)
    row = {
        "id": ["lab/1#0"],
        "question": ["?"],
        "gold": ["5"],
        "response": ["5"],
        "input_ids": pa.array([[1, 2, 3]], pa.list_(pa.int32())),
        "labels": pa.array([[-100, 2, 3]], pa.list_(pa.int32())),
        "length": pa.array([2], pa.int32()),
    }
    parquet.write_table(pa.table(row), folder / "short.parquet")
    pool = {
        "file": "short.parquet",
        "rows": 1,
        "tokens": 3,
        "label_tokens": 2,
        "digest": file_digest(folder / "short.parquet"),
        "role": "short",
        "sources": [{"folder": "runs/a", "digest": "0"}],
        "dropped": {"wrong": 4},
    }
    manifest = {
        "version": 1,
        "tokenizer": "t",
        "template": "u",
        "model": "m",
        "think_policy": "keep",
        "pools": {"short": pool | other.pop("pool", {})},
    }
    manifest |= other
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return manifest


def test_a_packed_folder_is_read_with_its_rows(tmp_path: Path) -> None:
    write(tmp_path)
    pools = read_pools(tmp_path)
    pool = pools["short"]
    assert (pools.model, pools.think_policy, pool.role, pool.kind) == ("m", "keep", "short", "rows")
    assert pool.dropped == {"wrong": 4}
    table = pool.table()
    assert table.column_names == list(COLUMNS["rows"])
    assert table.to_pylist()[0]["labels"] == [-100, 2, 3]
    assert pools.of_kind("pairs") == ()


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    with (tmp_path / "short.parquet").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(
        DataError, match=r"short.parquet is not the file that was packed.*data pack"
    ):
        read_pools(tmp_path)["short"].table()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "version 2; this laconic reads version 1"),
        ({"pools": {}}, "names no pools"),
        ({"pools": []}, "is damaged"),
        ({"pool": {"kind": "rowz"}}, "kind 'rowz'"),
        ({"pool": {"file": "../short.parquet"}}, "outside the folder"),
        ({"pool": {"file": "gone.parquet"}}, r"gone\.parquet is missing"),
        ({"pool": {"rows": "many"}}, "is damaged"),
    ],
)
def test_a_damaged_manifest_is_refused(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    write(tmp_path, **change)
    with pytest.raises(DataError, match=told):
        read_pools(tmp_path)


def test_a_wrong_number_of_rows_or_other_columns_are_refused(tmp_path: Path) -> None:
    write(tmp_path, pool={"rows": 2})
    with pytest.raises(DataError, match="has 1 rows, but the manifest says 2"):
        read_pools(tmp_path)["short"].table()
    write(tmp_path, pool={"kind": "pairs"})
    with pytest.raises(DataError, match="a pool of pairs has id, question, gold, prompt, chosen"):
        read_pools(tmp_path)["short"].table()


def test_another_tokenizer_or_template_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    pools = read_pools(tmp_path)
    pools.refuse_other(tokenizer="t", template="u", model="m")
    with pytest.raises(DataError, match=r"tokenizer of m, and other has another.*--model other"):
        pools.refuse_other(tokenizer="x", template="u", model="other")
    with pytest.raises(DataError, match="chat template of m"):
        pools.refuse_other(tokenizer="t", template="x", model="other")


def test_a_folder_without_a_manifest_and_an_unknown_pool_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.json.*laconic data pack"):
        read_pools(tmp_path)
    write(tmp_path)
    with pytest.raises(DataError, match="Did you mean 'short'"):
        read_pools(tmp_path)["shorts"]
