"""The contract of log formats: each recognises and reads its own example, and no other's."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import astuple
from typing import TYPE_CHECKING

import pytest

from laconic.importing.formats import formats, read_log

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.importing.contract import LogFormat


def write_example(log_format: LogFormat, folder: Path) -> Path:
    """The example as a file of rows: Parquet for a format whose files are, else a line of JSON."""
    if ".parquet" not in log_format.suffixes:
        path = folder / "log.jsonl"
        path.write_text(json.dumps(log_format.example) + "\n", encoding="utf-8")
        return path
    if importlib.util.find_spec("pyarrow") is None:
        pytest.skip("pyarrow is not installed")
    import pyarrow
    from pyarrow import parquet

    path = folder / "log.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([dict(log_format.example)]), path)
    return path


@pytest.mark.parametrize("log_format", formats(), ids=lambda f: f.name)
def test_a_format_recognises_its_own_example_and_no_other(log_format: LogFormat) -> None:
    recognised = [other.name for other in formats() if log_format.matches(other.example)]
    assert recognised == [log_format.name]
    assert not log_format.matches({})
    assert not log_format.matches({"id": "1", "problem": "What is 1 + 1?", "response": "2"})


@pytest.mark.parametrize("log_format", formats(), ids=lambda f: f.name)
def test_a_format_reads_its_own_example(log_format: LogFormat, tmp_path: Path) -> None:
    log = read_log(write_example(log_format, tmp_path), {})
    assert log.format == log_format.name
    (record,) = log.records
    assert record.response
    assert record.where
    assert record.length is None or log.length


def test_no_two_formats_have_one_name_or_one_container() -> None:
    names = [log_format.name for log_format in formats()]
    assert len(set(names)) == len(names)
    containers = [log_format.magic for log_format in formats() if log_format.magic]
    assert all(len(magic) == 4 for magic in containers)
    assert len(set(containers)) == len(containers)


@pytest.mark.parametrize("log_format", formats(), ids=lambda f: f.name)
def test_a_format_says_what_it_keeps(log_format: LogFormat) -> None:
    assert all(astuple(log_format.kept))
