"""Partial solutions with one number made wrong, from a real run of the lab."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING

import pytest

from laconic.errors import TaskError
from laconic.evaluation.evaluate import evaluate
from laconic.runs.experiment import Sampling
from laconic.tasks.contract.task import load_task
from laconic.tasks.self_correction import wrong

if TYPE_CHECKING:
    from pathlib import Path

STEPS = "<think>\na = 3 + 4 = 7\nb = 7 * 6 = 42\nc = 42 - 2 = 40\n</think>\nIt is \\boxed{40}."


def write(folder: Path, *changes: dict[str, object]) -> Path:
    rows = [
        {
            "id": str(i),
            "task": "t",
            "problem": f"p{i}",
            "gold": "40",
            "correct": True,
            "text": STEPS,
        }
        | change
        for i, change in enumerate(changes)
    ]
    path = folder / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_one_digit_of_the_last_early_result_is_changed_and_nothing_follows_it(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, {})
    (planted,) = load_task("self_correction", data=path).samples
    (control,) = load_task("self_correction:edit=false", data=path).samples
    kept = "<think>\na = 3 + 4 = 7\nb = 7 * 6 = "
    assert control.prefill == f"{kept}42\n"
    assert re.fullmatch(re.escape(kept) + r"(?!42)[1-9]\d\n", planted.prefill)
    assert (planted.task, control.task) == ("self-correction", "self-correction-control")
    assert planted.id == control.id == "t/0"


def test_wrong_cut_and_repeated_solutions_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, {}, {"correct": False}, {"truncated": True}, {"repeat": 1})
    assert [s.id for s in load_task("self_correction", data=path).samples] == ["t/0"]


def test_the_answer_itself_is_never_the_number_changed(tmp_path: Path) -> None:
    path = write(tmp_path, {"gold": "42"})
    (sample,) = load_task("self_correction", data=path).samples
    assert sample.prefill.startswith("<think>\na = 3 + 4 = ")
    assert sample.prefill.count("\n") == 2


def test_a_run_without_steps_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": "It is \\boxed{40}."})
    with pytest.raises(TaskError, match=r"No right solution .* larger 'until'"):
        load_task("self_correction", data=path)


@pytest.mark.parametrize("number", ["7", "10", "0.5", "100", "00"])
def test_a_wrong_number_differs_in_one_digit_and_keeps_its_length(number: str) -> None:
    for seed in range(50):
        other = wrong(number, random.Random(seed))
        assert len(other) == len(number)
        assert sum(a != b for a, b in zip(number, other, strict=True)) == 1
        assert len(number) == 1 or number[0] == "0" or other[0] != "0"


@pytest.mark.slow
def test_a_run_of_the_lab_gives_partial_solutions_that_its_model_goes_on_from(
    tmp_path: Path,
) -> None:
    asked = "lab:split=dev,size=10"
    evaluate("lab:system2", [asked], output=tmp_path / "first")
    spec = f"self_correction:data={tmp_path / 'first'}"
    sampling = Sampling(max_tokens=700)
    run = evaluate("lab:system2", [spec], sampling=sampling, output=tmp_path / "second")
    assert len(run.results) >= 8
    assert all(r.prefill.startswith("<think>\n") and r.prefill.endswith("\n") for r in run.results)
    assert sum(r.reflections > 0 for r in run.results) >= len(run.results) / 2
