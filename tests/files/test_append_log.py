"""Gzipped results: appended in whole pieces, cut where a crash broke them, never silently lost."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from laconic.errors import RunError
from laconic.files.append_log import encode_lines, read_lines, salvage
from laconic.runs.run import GZIPPED_RESULTS, RESULTS, read_run
from laconic.runs.writer import RunWriter, rewrite
from tests.runs.test_run import EXPERIMENT, result

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, *names: str, compress: bool = True) -> None:
    with RunWriter(folder, EXPERIMENT, {}, compress=compress) as writer:
        for name in names:
            writer.append([result(name)])
        writer.finish()


def ids(folder: Path) -> list[str]:
    return [r.id for r in read_run(folder).results]


def test_gzipped_results_are_read_back_and_any_tool_unpacks_them(tmp_path: Path) -> None:
    write(tmp_path / "run", "a", "b")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["results.jsonl.gz", "run.json"]
    assert read_run(tmp_path / "run").results == (result("a"), result("b"))
    lines = gzip.decompress((tmp_path / "run" / "results.jsonl.gz").read_bytes()).splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b"]


def test_a_run_goes_on_in_the_form_it_began(tmp_path: Path) -> None:
    write(tmp_path / "run", "a")
    write(tmp_path / "run", "b", compress=False)
    write(tmp_path / "plain", "a", compress=False)
    write(tmp_path / "plain", "b", compress=True)
    assert ids(tmp_path / "run") == ids(tmp_path / "plain") == ["a", "b"]
    assert not (tmp_path / "run" / RESULTS).exists()
    assert not (tmp_path / "plain" / "results.jsonl.gz").exists()


def test_wherever_a_crash_cuts_the_file_whole_pieces_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "run", "a", "b", "c")
    path = tmp_path / "run" / "results.jsonl.gz"
    whole = path.read_bytes()
    ends = [0]
    for name in "abc":
        ends.append(ends[-1] + len(encode_lines(_line(name), path)))
    assert ends[-1] == len(whole)
    for cut in {*range(0, len(whole), 11), *ends[:-1], *(end - 1 for end in ends[1:])}:
        path.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends[1:])
        assert salvage(path).end == ends[kept]
        assert len(read_lines(path)) == kept
    path.write_bytes(whole[: ends[2] + 20])
    write(tmp_path / "run", "d")
    assert ids(tmp_path / "run") == ["a", "b", "d"]


def _line(name: str) -> str:
    from dataclasses import asdict

    fields = asdict(result(name))
    del fields["helper_length"]  # written only where a helper generated something
    return json.dumps(fields, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_zeros_amid_the_results_cost_no_result_but_those_they_hit(
    tmp_path: Path, compress: bool, fill: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "run", "a", "b", "c", compress=compress)
    path = tmp_path / "run" / (GZIPPED_RESULTS if compress else RESULTS)
    whole = path.read_bytes()
    second = len(encode_lines(_line("a"), path))
    damaged = whole[: second + 30] + fill * 60 + whole[second + 90 :]
    path.write_bytes(damaged)
    with pytest.raises(RunError, match=r"is damaged.* Run the command that made them again"):
        read_run(tmp_path / "run")
    assert path.read_bytes() == damaged
    with RunWriter(tmp_path / "run", EXPERIMENT, {}) as writer:
        assert [r.id for r in writer.results.values()] == ["a", "c"]
        assert "The 2 results that are whole are kept, the others are asked again." in caplog.text
        with pytest.raises(RunError, match="in use"):
            RunWriter(tmp_path / "run", EXPERIMENT, {})
        writer.append([result("b")])
        writer.finish()
    assert ids(tmp_path / "run") == ["a", "c", "b"]


def test_zeros_behind_the_results_are_cut_off(tmp_path: Path) -> None:
    for compress in (True, False):
        folder = tmp_path / f"run{compress}"
        write(folder, "a", "b", compress=compress)
        path = folder / (GZIPPED_RESULTS if compress else RESULTS)
        whole = path.read_bytes()
        path.write_bytes(whole + bytes(5000))
        write(folder, compress=compress)
        assert ids(folder) == ["a", "b"]


def test_a_gzipped_run_is_rewritten_gzipped(tmp_path: Path) -> None:
    write(tmp_path / "run", "a", "b")
    run = read_run(tmp_path / "run")
    rewrite(run)
    assert read_run(tmp_path / "run").results == run.results
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["results.jsonl.gz", "run.json"]


def test_two_files_of_results_are_one_too_many(tmp_path: Path) -> None:
    write(tmp_path / "run", "a")
    (tmp_path / "run" / RESULTS).write_text("")
    with pytest.raises(RunError, match="Delete the wrong one"):
        read_run(tmp_path / "run")


def test_results_packed_by_hand_are_read(tmp_path: Path) -> None:
    write(tmp_path / "run", "a", "b", compress=False)
    plain = tmp_path / "run" / RESULTS
    (tmp_path / "run" / "results.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert ids(tmp_path / "run") == ["a", "b"]


def test_results_that_unpack_to_too_much_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laconic.files.append_log.MOST_BYTES", 2**20)
    path = tmp_path / "results.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n" * 2**21))
    with pytest.raises(RunError, match="unpacks to more than"):
        read_lines(path)
    path.write_bytes(gzip.compress(b"\n" * 2**19) * 3)
    with pytest.raises(RunError, match="unpacks to more than"):
        read_lines(path)
