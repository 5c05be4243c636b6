"""The run folder: what is appended survives, what is damaged is named, what differs is refused."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from laconic.errors import RunError
from laconic.files.json import write_json
from laconic.runs.experiment import Experiment, Sampling, TaskRecord, difference
from laconic.runs.run import Result, Sample, is_run, read_run
from laconic.runs.writer import RunWriter

if TYPE_CHECKING:
    from pathlib import Path

EXPERIMENT = Experiment(
    model="lab:system2",
    model_digest="0123",
    tasks=(TaskRecord("lab", "lab", "abcd", 3, 640),),
    sampling=Sampling(temperature=0.6, repeats=2),
    backend="replay",
    dtype="float32",
    template="ef01",
    grader="exact/1",
)


def result(problem: str = "a", repeat: int = 0, *, correct: bool = True) -> Result:
    return Result(
        task="lab",
        id=problem,
        repeat=repeat,
        level=2,
        problem="1+1?",
        gold="2",
        text="so \\boxed{2} é",
        length=7,
        thinking_length=3,
        thinks=True,
        truncated=False,
        answer="2",
        outcome="correct" if correct else "wrong",
        correct=correct,
        reflections=1,
    )


def write(folder: Path, *results: Result, finish: bool = True) -> None:
    with RunWriter(folder, EXPERIMENT, {"device": "cpu"}) as writer:
        writer.append(results)
        if finish:
            writer.finish()


def test_a_run_of_another_grader_is_sent_to_laconic_grade(tmp_path: Path) -> None:
    write(tmp_path / "run", result())
    with pytest.raises(RunError, match=r"another grader .* laconic grade grades it again"):
        RunWriter(tmp_path / "run", replace(EXPERIMENT, grader="exact/2"), {})


def test_a_run_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "long" / "run"
    write(folder, result(), result("b", 1, correct=False))
    run = read_run(folder)
    assert run.results == (result(), result("b", 1, correct=False))
    assert run.experiment == EXPERIMENT
    assert run.complete
    assert (run.name, run.folder, run.provenance) == ("run", folder, {"device": "cpu"})
    assert read_run(folder, name="mine").name == "mine"
    assert run.renamed("other").name == "other"


def test_a_run_without_a_finish_is_incomplete_and_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "run", result(), finish=False)
    assert not read_run(tmp_path / "run").complete
    with RunWriter(tmp_path / "run", EXPERIMENT, {}) as writer:
        assert set(writer.results) == {("lab", "a", 0)}
        writer.append([result("b")])
        writer.finish()
    run = read_run(tmp_path / "run")
    assert run.complete
    assert [r.id for r in run.results] == ["a", "b"]


def test_a_half_written_line_is_dropped_when_the_folder_is_opened_again(tmp_path: Path) -> None:
    write(tmp_path / "run", result(), finish=False)
    lines = tmp_path / "run" / "results.jsonl"
    whole = lines.read_bytes()
    lines.write_bytes(whole + b'{"task": "lab", "id": "h')
    assert [r.id for r in read_run(tmp_path / "run").results] == ["a"]
    write(tmp_path / "run", result("b"))
    assert lines.read_bytes().startswith(whole + b'{"task": "lab", "id": "b"')
    assert [r.id for r in read_run(tmp_path / "run").results] == ["a", "b"]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    write(tmp_path / "run", result())
    with (tmp_path / "run" / "results.jsonl").open("a") as stream:
        stream.write('{"task": "lab"}\n')
    with pytest.raises(RunError, match=r"results\.jsonl, line 2 is damaged"):
        read_run(tmp_path / "run")


def test_a_run_that_was_killed_as_it_began_begins_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.jsonl").touch()
    (tmp_path / "run" / "run.json.partial").write_text('{"sch')
    write(tmp_path / "run", result())
    assert read_run(tmp_path / "run").complete
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is no run folder"):
        RunWriter(tmp_path / "mine", EXPERIMENT, {})


DAMAGES = {
    "empty": lambda head: b"",
    "zeroed": lambda head: bytes(len(head)),
    "half": lambda head: head[: len(head) // 2],
    "another value": lambda head: b"[]",
    "without the experiment": lambda head: b"{}",
    "gone": None,
}


def damage(folder: Path, kind: str) -> None:
    head = folder / "run.json"
    change = DAMAGES[kind]
    if change is None:
        head.unlink()
    else:
        head.write_bytes(change(head.read_bytes()))


def asked(*changes: dict[str, Any]) -> list[Sample]:
    plain = {"task": "lab", "id": "a", "problem": "1+1?", "gold": "2"}
    return [Sample(**{**plain, **change}) for change in changes]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_lost_run_json_is_written_anew_from_the_results_and_the_command(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    write(folder, result("a"), result("b"), finish=False)
    damage(folder, kind)
    with pytest.raises(RunError, match=r"results beside it are kept: run the command that made"):
        read_run(folder)
    samples = asked({}, {"id": "b"}, {"id": "c"})
    with RunWriter(folder, EXPERIMENT, {}, asked=samples) as writer:
        assert [r.id for r in writer.results.values()] == ["a", "b"]
        assert "run.json was lost" in caplog.text
        writer.append([result("c")])
    with RunWriter(folder, EXPERIMENT, {}) as writer:
        writer.finish()
    run = read_run(folder)
    assert run.complete
    assert run.experiment == EXPERIMENT
    assert [r.id for r in run.results] == ["a", "b", "c"]
    (note,) = run.provenance["notes"]
    assert "2 results that were there" in note
    assert "could not be checked" in note


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": "other"}, "problem 'a' of lab, repeat 0, is not asked for now"),
        ({"problem": "2+2?"}, "answers another problem or gold"),
        ({"gold": "3"}, "answers another problem or gold"),
    ],
)
def test_results_that_answer_something_else_are_no_ground_for_a_new_run_json(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    write(tmp_path / "run", result("a"))
    damage(tmp_path / "run", "empty")
    kept = (tmp_path / "run" / "results.jsonl").read_bytes()
    with pytest.raises(RunError, match=rf"run\.json is damaged.*{told}.*choose another"):
        RunWriter(tmp_path / "run", EXPERIMENT, {}, asked=asked(change))
    assert (tmp_path / "run" / "results.jsonl").read_bytes() == kept
    (tmp_path / "run" / "results.jsonl").write_text("not mine\n")
    with pytest.raises(RunError, match="not one of the results beside it can be read"):
        RunWriter(tmp_path / "run", EXPERIMENT, {}, asked=asked({}))


def test_a_full_disk_ends_in_one_sentence_and_costs_no_kept_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with RunWriter(tmp_path / "run", EXPERIMENT, {}) as writer:
        writer.append([result("a")])
        kept = (tmp_path / "run" / "results.jsonl").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(
                RunError, match=r"run cannot be written: No space left .* The 1 results there are"
            ):
                writer.append([result("b")])
        assert (tmp_path / "run" / "results.jsonl").read_bytes() == kept
        assert [r.id for r in writer.results.values()] == ["a"]
        writer.append([result("b")])
        writer.finish()
    assert [r.id for r in read_run(tmp_path / "run").results] == ["a", "b"]


def test_another_experiment_is_refused_naming_what_differs(tmp_path: Path) -> None:
    write(tmp_path / "run", result())
    other = replace(EXPERIMENT, sampling=Sampling(temperature=0.7, repeats=2))
    with pytest.raises(RunError, match=r"another sampling temperature \(0\.6, now 0\.7\)\. Choose"):
        RunWriter(tmp_path / "run", other, {})
    assert read_run(tmp_path / "run").complete


def test_the_same_model_under_another_name_may_go_on(tmp_path: Path) -> None:
    write(tmp_path / "run", result())
    with RunWriter(tmp_path / "run", replace(EXPERIMENT, model="elsewhere"), {}) as writer:
        assert len(writer.results) == 1


def test_the_first_difference_of_two_experiments_is_put_in_words() -> None:
    def asking(*tasks: TaskRecord) -> str:
        return difference(EXPERIMENT, replace(EXPERIMENT, tasks=tasks))

    task = EXPERIMENT.tasks[0]
    assert asking(replace(task, source="./lab")) == ""
    assert asking(replace(task, max_tokens=9)) == "another tasks lab max_tokens (640, now 9)"
    assert asking(task, replace(task, name="x")).startswith("another tasks x digest (None, now")
    assert asking().startswith("another tasks lab digest ('abcd', now None")


def test_one_process_at_a_time_holds_a_folder(tmp_path: Path) -> None:
    with (
        RunWriter(tmp_path / "run", EXPERIMENT, {}),
        pytest.raises(RunError, match="in use by another evaluation"),
    ):
        RunWriter(tmp_path / "run", EXPERIMENT, {})
    write(tmp_path / "run", result())


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="no run folder"):
        RunWriter(tmp_path, EXPERIMENT, {})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_merged_checkpoint_is_no_run(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"schema": 1, "kind": "merge", "digest": "0"})
    assert not is_run(tmp_path)
    assert not is_run(tmp_path / "nowhere")
    with pytest.raises(RunError):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[1]", "is damaged"),
        ('{"schema": 1, "kind": "eval", "complete": true}', "is damaged"),
        ('{"schema": 9, "kind": "eval", "complete": true, "experiment": {}}', "schema 9"),
        ('{"schema": 1, "kind": "eval", "complete": true, "experiment": {}}', "is damaged"),
    ],
)
def test_a_damaged_head_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=message):
        read_run(tmp_path)


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run\.json"):
        read_run(tmp_path)
    write(tmp_path / "run", result())
    (tmp_path / "run" / "results.jsonl").unlink()
    with pytest.raises(RunError, match=r"results\.jsonl is missing"):
        read_run(tmp_path / "run")


def test_a_head_is_written_beside_and_renamed(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"é": 1})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"é": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\]"),
        ({"top_p": 1.5}, r"top_p must be in \(0, 1\]"),
        ({"repeats": 0}, "repeats must be at least 1"),
        ({"repeats": 4}, "4 repeats at temperature 0 are 4 times the same"),
    ],
)
def test_sampling_that_makes_no_sense_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(RunError, match=message):
        Sampling(**change)  # type: ignore[arg-type]  # each case gives one field of its own type


def test_the_key_of_a_result_is_its_samples() -> None:
    sample = Sample("lab", "a", "1+1?", "2", repeat=3)
    assert sample.key == ("lab", "a", 3) == result("a", 3).key
