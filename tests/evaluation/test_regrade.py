"""Grading stored runs again: nothing generated, nothing lost, every doubt listed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from laconic.errors import RunError
from laconic.evaluation.regrade import keep, regrade
from laconic.runs.experiment import Experiment, Sampling, TaskRecord
from laconic.runs.run import Finish, Generation, Result, Run, Sample, read_run
from laconic.runs.writer import RunWriter, rewrite
from laconic.scoring.score import GRADER, Grader, score

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = (r"\boxed{5}", r"\boxed{5.0}", r"it is \\boxed{5}", "So it is 5.", r"\boxed{(6}", "cut")


def make(folder: Path) -> Run:
    """A run of six completions whose grader called everything wrong."""
    experiment = Experiment(
        model="m",
        model_digest="0",
        tasks=(TaskRecord("t", "t", "d", len(TEXTS), 9),),
        sampling=Sampling(),
        backend="replay",
        dtype="float32",
        template="e",
        grader="old/1",
    )
    with RunWriter(folder, experiment, {"device": "cpu"}) as writer:
        for n, text in enumerate(TEXTS):
            finish: Finish = "length" if text == "cut" else "stop"
            writer.append([old(n, Generation(text, 3, 1, True, finish))])
        writer.finish()
    return read_run(folder)


def old(n: int, generation: Generation) -> Result:
    with Grader() as grader:
        result = score(
            Sample("t", str(n), "?", "5", level=2, prefill="<think>"), generation, grader
        )
    return replace(result, outcome="wrong", correct=False, found="", answer=None)


@pytest.fixture(scope="module")
def grader() -> Grader:
    return Grader()


def test_a_run_is_graded_again_and_keeps_what_the_earlier_grader_said(
    tmp_path: Path, grader: Grader
) -> None:
    run = make(tmp_path / "run")
    graded = regrade(run, grader)
    assert (graded.earlier_grader, graded.earlier_correct, graded.correct) == ("old/1", 0, 4)
    assert graded.changed == 4
    assert read_run(tmp_path / "run").results == run.results  # nothing is written yet
    keep(graded)
    after = read_run(tmp_path / "run")
    assert [r.correct for r in after.results] == [True, True, True, True, False, False]
    assert [r.earlier for r in after.results[:5]] == ["wrong"] * 4 + [None]
    assert [r.found for r in after.results] == ["box", "box", "escaped", "tail", "box", ""]
    assert (after.experiment.grader, after.complete) == (GRADER, True)
    assert after.provenance == {"device": "cpu", "graders": ["old/1"]}
    assert [(r.text, r.length, r.level, r.prefill) for r in after.results] == [
        (r.text, r.length, r.level, r.prefill) for r in run.results
    ]


def test_grading_twice_changes_nothing_more(tmp_path: Path, grader: Grader) -> None:
    make(tmp_path / "run")
    keep(regrade(read_run(tmp_path / "run"), grader))
    first = (tmp_path / "run" / "results.jsonl").read_bytes()
    again = regrade(read_run(tmp_path / "run"), grader)
    assert again.changed == 0
    keep(again)
    assert (tmp_path / "run" / "results.jsonl").read_bytes() == first
    assert read_run(tmp_path / "run").provenance["graders"] == ["old/1"]


def test_the_audit_lists_disagreements_fallbacks_and_what_was_unescaped(
    tmp_path: Path, grader: Grader
) -> None:
    graded = regrade(make(tmp_path / "run"), grader, against="exact")
    found = [(f.why, f.id, f.note) for f in graded.findings]
    assert found == [
        *(("earlier grader", str(n), "wrong") for n in range(4)),
        ("earlier grader", "5", "wrong"),
        ("second grader", "1", "wrong"),
        ("tail", "3", ""),
        ("escaped", "2", ""),
    ]
    assert graded.against == ("exact", 3)


def test_a_folder_in_use_is_left_alone(tmp_path: Path, grader: Grader) -> None:
    run = make(tmp_path / "run")
    graded = regrade(run, grader)
    with (
        RunWriter(tmp_path / "run", run.experiment, {}),
        pytest.raises(RunError, match="in use by an evaluation"),
    ):
        keep(graded)


def test_a_crash_between_the_two_files_is_seen_and_mended(
    tmp_path: Path, grader: Grader, monkeypatch: pytest.MonkeyPatch
) -> None:
    graded = regrade(make(tmp_path / "run"), grader)
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", _fail_on_results(type(tmp_path).replace))
        with pytest.raises(KeyboardInterrupt):
            keep(graded)
    head = json.loads((tmp_path / "run" / "run.json").read_text())
    assert head["experiment"]["grader"] == f"{GRADER} (unfinished)"
    keep(regrade(read_run(tmp_path / "run"), grader))
    assert read_run(tmp_path / "run").experiment.grader == GRADER


def _fail_on_results(real: object) -> object:
    def failing(self: Path, target: Path) -> Path:
        if target.name == "results.jsonl":
            raise KeyboardInterrupt
        return real(self, target)  # type: ignore[operator,no-any-return]  # Path.replace itself

    return failing


@pytest.mark.slow
def test_a_run_without_a_folder_cannot_be_rewritten(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="kept in no folder"):
        rewrite(replace(make(tmp_path / "run"), folder=None))
