"""Logs of rows in whatever holds them: batches, rollouts, conversations, lists, tables, folders."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from laconic.errors import RunError
from laconic.importing.formats import formats, read_log
from laconic.importing.import_log import import_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.importing.contract import Record

LOGS = Path(__file__).parents[1] / "samples" / "logs"
LAB = Path(__file__).parents[2] / "src" / "laconic" / "lab" / "models" / "system1"
needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed"
)


def write(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(folder: Path, *rows: Any) -> Sequence[Record]:
    return read_log(write(folder / "log.jsonl", rows), {}).records


def problems(folder: Path) -> Path:
    return write(
        folder / "sums.jsonl",
        [{"id": f"p{n}", "problem": f"{n}+1?", "answer": str(n + 1)} for n in range(3)],
    )


def chat(content: Any, *, finish: str = "stop", **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": content, **message}
    return {
        "model": "m",
        "choices": [{"index": 0, "message": said, "finish_reason": finish}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 20, "total_tokens": 25},
    }


def batch(name: str, body: Any, status: int = 200, error: Any = None) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": "batch_req_1", "custom_id": name, "response": response, "error": error}


def test_a_batch_of_openais_is_matched_by_its_custom_ids(tmp_path: Path) -> None:
    log = write(
        tmp_path / "log.jsonl",
        [
            batch("p1", chat("So it is 2.", reasoning_content="Hm.")),
            batch("p0", chat(None, finish="length", reasoning_content="Let me")),
            batch("p2", {"error": {"message": "overloaded"}}, status=500),
            {"id": "x", "custom_id": "p2", "response": None, "error": {"code": "expired"}},
        ],
    )
    run = import_log(log, None, tmp_path / "run", data=problems(tmp_path))
    found = {r.id: r for r in run.results}
    assert found["p1"].text == "Hm.</think>So it is 2."
    assert (found["p1"].correct, found["p1"].length, found["p1"].thinks) == (True, 20, True)
    assert (found["p0"].truncated, found["p0"].thinks) == (True, False)
    assert found["p0"].thinking_length == 20
    assert run.experiment.tasks[0].name == "sums"
    said = run.provenance["import"]
    assert (said["rows"], said["completions"], said["skipped"]) == (
        4,
        2,
        {"requests that failed": 2},
    )
    assert "2 requests that failed are left out" in run.provenance["notes"]


def test_a_batch_of_responses_has_items_and_why_it_is_incomplete(tmp_path: Path) -> None:
    body = {
        "model": "m",
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "In short"}]},
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "message", "content": [{"type": "output_text", "text": "It is"}]},
        ],
        "usage": {"input_tokens": 5, "output_tokens": 64, "total_tokens": 69},
    }
    (record,) = read(tmp_path, batch("p0", body))
    assert (record.response, record.cut, record.length) == ("Hm.</think>It is", True, 64)


def test_several_answers_to_one_request_have_no_lengths(tmp_path: Path) -> None:
    body = chat("a")
    body["choices"].append({"index": 1, "text": "b", "finish_reason": "length"})
    log = read_log(write(tmp_path / "log.jsonl", [batch("p0", body)]), {})
    assert [(r.response, r.length, r.cut) for r in log.records] == [
        ("a", None, False),
        ("b", None, True),
    ]
    assert "lengths of requests for several are left out" in log.notes[0]


def test_only_failed_requests_are_no_log(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no completions\. 1 requests that failed were left out"):
        read(tmp_path, batch("p0", None, status=429))


def test_vllms_outputs_count_token_ids(tmp_path: Path) -> None:
    outputs = [
        {"index": 0, "text": "It is 2.", "token_ids": [4, 5, 6, 7, 8], "finish_reason": "stop"},
        {"index": 1, "text": "It", "token_ids": [4, 9], "finish_reason": "length"},
    ]
    row = {"request_id": "0", "prompt": "<user>1+1?<assistant>", "outputs": outputs}
    records = read(tmp_path, row)
    assert [(r.length, r.cut) for r in records] == [(5, False), (2, True)]
    run = import_log(tmp_path / "log.jsonl", "sums", tmp_path / "run", data=problems(tmp_path))
    assert [r.id for r in run.results] == ["p1", "p1"]


def test_verls_dumps_hold_problems_golds_and_a_step(tmp_path: Path) -> None:
    rows = [
        {"input": f"user\n{n}+1?", "output": f"It is {n + 1}.", "gts": str(n + 1), "score": 1.0}
        for n in (0, 0, 1)
    ]
    log = write(tmp_path / "20.jsonl", [{**row, "step": 20} for row in rows])
    run = import_log(log, None, tmp_path / "run", tokenizer=LAB)
    assert [r.key for r in run.results] == [("20", "0", 0), ("20", "0", 1), ("20", "1", 0)]
    assert run.experiment.model == "verl step 20"
    assert all(r.correct for r in run.results)
    write(tmp_path / "40.jsonl", [{**row, "step": 40} for row in rows])
    with pytest.raises(RunError, match=r"several models \(verl step 20, verl step 40\)"):
        import_log([log, tmp_path / "40.jsonl"], "sums", tmp_path / "other", tokenizer=LAB)


@needs_pyarrow
@pytest.mark.parametrize("chatted", [False, True])
def test_trls_completions_are_texts_or_conversations(tmp_path: Path, chatted: bool) -> None:
    import pyarrow
    from pyarrow import parquet

    def turn(role: str, content: str) -> Any:
        return [{"role": role, "content": content}] if chatted else content

    table = {
        "step": [5, 5],
        "prompt": [turn("user", "0+1?"), turn("user", "1+1?")],
        "completion": [turn("assistant", "It is 1."), turn("assistant", "It is 3.")],
        "reward": [1.0, 0.0],
        "solution": ["1", "2"],
        "advantage": [0.5, -0.5],
    }
    log = tmp_path / "completions_00005.parquet"
    parquet.write_table(pyarrow.table(table), log)
    run = import_log(log, None, tmp_path / "run", tokenizer=LAB)
    assert [(r.problem, r.gold, r.correct) for r in run.results] == [
        ("0+1?", "1", True),
        ("1+1?", "2", False),
    ]
    assert run.experiment.model == "TRL step 5"
    assert run.provenance["format"] == "TRL"


def test_rows_of_messages_and_lists_of_responses(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "It is 2.", "reasoning_content": "Hm."},
    ]
    (record,) = read(tmp_path, {"messages": turns, "answer": "2"})
    assert (record.problem, record.gold) == ("1+1?", "2")
    assert record.response == "Hm.</think>It is 2."
    several = {
        "id": "p1",
        "responses": ["It is 2.", "It is 3."],
        "finish_reason": ["stop", "length"],
    }
    records = read(tmp_path, {**several, "usage": {"completion_tokens": 9}})
    assert [(r.response, r.cut, r.length) for r in records] == [
        ("It is 2.", False, None),  # the usage is of both
        ("It is 3.", True, None),
    ]
    with pytest.raises(RunError, match="line 1: messages cannot be the response"):
        read(tmp_path, {"id": "p0", "messages": turns[:1]})


@pytest.mark.parametrize("packed", [False, True])
def test_a_json_array_is_a_row_an_item(tmp_path: Path, packed: bool) -> None:
    rows = [{"id": "p0", "response": "It is 1.", "tokens": 33.0}, {"id": "p1", "response": "2"}]
    text = json.dumps(rows, indent=1).encode()
    (tmp_path / "log.json").write_bytes(gzip.compress(text) if packed else text)
    records = read_log(tmp_path / "log.json", {"length": "tokens"}).records
    assert [(r.where, r.length) for r in records] == [("item 1", 33), ("item 2", None)]
    (tmp_path / "log.json").write_text("[1]")
    with pytest.raises(RunError, match="item 1 is not a JSON object"):
        read_log(tmp_path / "log.json", {})


def test_counts_may_be_written_as_floats_and_missing_ones_as_nan(tmp_path: Path) -> None:
    rows = [
        {"id": "p0", "response": "1", "usage": {"completion_tokens": 33.0}, "max_tokens": 64.0},
        {"id": "p1", "response": "2", "usage": {"completion_tokens": 12}, "max_tokens": math.nan},
    ]
    assert [(r.length, r.cap) for r in read(tmp_path, *rows)] == [(33, 64), (12, None)]
    with pytest.raises(RunError, match=r"cap cannot be the cap, got 6\.5"):
        read(tmp_path, {"id": "p0", "response": "1", "cap": 6.5})


def mine(n: int, name: str | None = None) -> dict[str, Any]:
    row = {"problem": f"{n}+1?", "answer": n + 1, "response": f"It is {n + 1}."}
    return row if name is None else {"id": name, **row}


def test_a_log_with_its_own_problems_needs_no_task_and_no_ids(tmp_path: Path) -> None:
    log = write(tmp_path / "mine.jsonl", [mine(0), mine(1), mine(0)])
    run = import_log(log, None, tmp_path / "run", tokenizer=LAB)
    assert [r.key for r in run.results] == [("mine", "0", 0), ("mine", "1", 0), ("mine", "0", 1)]
    assert run.results[1].gold == "2"
    assert any("column answer is taken for the right answer" in n for n in run.provenance["notes"])
    write(log, [{"id": "p0", "response": "It is 1."}])
    with pytest.raises(RunError, match=r"Name the task that it is of, --task NAME, or give them"):
        import_log(log, None, tmp_path / "other", tokenizer=LAB)


def test_a_plain_logs_ids_count_before_its_problems_wording(tmp_path: Path) -> None:
    log = write(tmp_path / "log.jsonl", [{**mine(1, "p1"), "problem": "Think. 1 + 1?"}])
    run = import_log(log, "sums", tmp_path / "run", data=problems(tmp_path), tokenizer=LAB)
    assert [(r.id, r.problem) for r in run.results] == [("p1", "1+1?")]


def test_a_message_names_the_columns_and_the_way_to_map_them(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"--map response=COLUMN; there are 'id', 'said', 'n'"):
        read(tmp_path, {"id": "p0", "said": "It is 1.", "n": 3})


def test_a_folders_files_are_the_parts_of_one_log(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    write(folder / "a.jsonl", [mine(0, "p0"), mine(1, "p1")])
    write(folder / "b.jsonl", [mine(2, "p2")])
    (folder / "notes.txt").write_text("mine")
    run = import_log(folder, None, tmp_path / "run", tokenizer=LAB)
    assert [r.task for r in run.results] == ["logs"] * 3
    assert len(run.provenance["source_sha256"]) == 2
    write(folder / "c.jsonl", [mine(2, "p2")])
    again = import_log(folder, "sums", tmp_path / "again", tokenizer=LAB)
    assert any("1 problems are answered in several files" in n for n in again.provenance["notes"])
    assert [r.key for r in again.results][2:] == [("sums", "p2", 0), ("sums", "p2", 1)]
    with pytest.raises(RunError, match=r"a folder that holds no log itself"):
        import_log(tmp_path / "run" / "..", "sums", tmp_path / "x", tokenizer=LAB)


def test_a_tools_folder_is_read_without_what_lies_beside_its_logs(tmp_path: Path) -> None:
    run = import_log(LOGS / "lm_eval", "lab", tmp_path / "run", tokenizer=LAB)
    assert len(run.results) == 6
    assert any(n.startswith("1 other files of") for n in run.provenance["notes"])


def test_files_that_number_the_same_samples_are_runs_of_their_own(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.jsonl", [{**mine(0, "p0"), "sample": 0}])
    with pytest.raises(RunError, match=r"both hold sample 0 of '0.1.'.*runs of their own"):
        import_log(
            [tmp_path / "a.jsonl", tmp_path / "b.jsonl"], "s", tmp_path / "run", tokenizer=LAB
        )


def test_every_log_is_of_one_format_alone() -> None:
    (samples,) = (LOGS / "lm_eval").glob("samples_*")
    rows: list[Any] = [
        json.loads(samples.read_text().splitlines()[0]),
        json.loads((LOGS / "skythought" / "results.json").read_bytes()),
        json.loads((LOGS / "inspect" / "epochs.json").read_bytes()),
        batch("p0", chat("a")),
        chat("a"),
        {"step": 1, "prompt": "a", "completion": "b", "reward": 1.0, "advantage": 0.0},
        {"input": "a", "output": "b", "gts": "1", "score": 1.0, "step": 1},
        {"request_id": "0", "prompt": "a", "outputs": [{"text": "b", "token_ids": [1]}]},
        {"id": "p0", "response": "a"},
        {"id": "p0", "outputs": ["a", "b"]},
        {"messages": [{"role": "assistant", "content": "a"}]},
    ]
    names = [[f.name for f in formats() if f.matches(row)] for row in rows]
    assert names == [
        *(["lm-eval"], ["SkyThought"], ["inspect"], ["OpenAI"], ["OpenAI"], ["TRL"], ["verl"]),
        *(["vLLM"], [], [], []),
    ]
