"""Replay: serves what was recorded, names what was not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from laconic.backends.contract.call import Call
from laconic.backends.replay import replay
from laconic.errors import BackendError
from laconic.runs.experiment import Sampling
from laconic.runs.run import Generation, Sample

if TYPE_CHECKING:
    from pathlib import Path

ROW: dict[str, Any] = {"id": "a", "text": "x</think>5", "length": 7}
SAMPLE = Sample("lab", "a", "?", "5")


def write(path: Path, *rows: object) -> str:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return str(path)


def served(path: str, *samples: Sample, budget: int = 10) -> list[Generation]:
    batches = replay("any", path=path).generate(list(map(Call, samples)), Sampling(budget))
    found = {call.key: generation for batch in batches for call, generation in batch}
    return [found[sample.key] for sample in samples]


def test_a_recording_is_served_as_it_was_made(tmp_path: Path) -> None:
    whole = {**ROW, "task": "lab", "repeat": 1, "thinking_length": 3, "truncated": True}
    path = write(tmp_path / "r.jsonl", ROW, whole, "", {**ROW, "id": 8, "thinks": False})
    first, second, third = served(
        path, SAMPLE, Sample("lab", "a", "?", "5", repeat=1), Sample("other", "8", "?", "5")
    )
    assert first == Generation("x</think>5", 7, 0, True, "stop")
    assert second == Generation("x</think>5", 7, 3, True, "length")
    assert third == Generation("x</think>5", 7, 0, False, "stop")


def test_a_line_of_the_task_itself_counts_before_one_for_any(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", {**ROW, "task": "lab", "text": "mine"}, ROW)
    mine, other = served(path, SAMPLE, Sample("other", "a", "?", "5"))
    assert (mine.text, other.text) == ("mine", "x</think>5")


def test_a_missing_sample_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", ROW)
    with pytest.raises(BackendError, match=r"no completion of lab, problem 'b', repeat 0"):
        served(path, Sample("lab", "b", "?", "5"))
    with pytest.raises(BackendError, match=r"problem 'a', repeat 1"):
        served(path, Sample("lab", "a", "?", "5", repeat=1))


def test_a_budget_below_the_recorded_length_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", ROW)
    with pytest.raises(BackendError, match="--max-tokens 7 or more"):
        served(path, SAMPLE, budget=6)
    assert served(path, SAMPLE, budget=7)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2 is no completion"),
        ([], "line 2 is no completion"),
        ({"id": "a", "text": "x"}, "line 2 is no completion.*'length': Field required"),
        ({**ROW, "length": "7"}, "line 2 is no completion.*'length'"),
        ({**ROW, "truncated": "no"}, "line 2 is no completion.*'truncated'"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        replay("any", path=write(tmp_path / "r.jsonl", ROW, row))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot be read: No such file"):
        replay("any", path=str(tmp_path / "none.jsonl"))
    with pytest.raises(BackendError, match=r"results\.jsonl cannot be read"):
        replay("any", path=str(tmp_path))
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    with pytest.raises(BackendError, match="not UTF-8"):
        replay("any", path=str(tmp_path / "latin.jsonl"))


def test_two_recordings_are_two_models(tmp_path: Path) -> None:
    one = write(tmp_path / "1.jsonl", ROW)
    two = write(tmp_path / "2.jsonl", {**ROW, "length": 8})
    assert replay("any", path=one).fingerprint == replay("any", path=one).fingerprint
    assert replay("any", path=one).fingerprint != replay("any", path=two).fingerprint
    assert replay("any", path=one).fingerprint != replay("other", path=one).fingerprint


def test_a_recording_knows_neither_prompts_nor_windows(tmp_path: Path) -> None:
    engine = replay("any", path=write(tmp_path / "r.jsonl", ROW))
    assert (engine.render(SAMPLE), engine.prompt_length(SAMPLE), engine.window) == ("?", 0, None)
    engine.close()
