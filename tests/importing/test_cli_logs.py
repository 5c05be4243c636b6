"""``laconic import`` and ``laconic grade`` as a user meets them: right and wrong input."""

from __future__ import annotations

import io
import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from laconic.cli import main
from laconic.runs.run import read_run
from tests.support.command import Done
from tests.support.command import laconic as command

LOGS = Path(__file__).parents[1] / "samples" / "logs"
DATA = Path(__file__).parents[2].parent / "shared" / "data"
RESULTS = LOGS / "skythought" / "results.json"
(SAMPLES,) = (LOGS / "lm_eval").glob("samples_*.jsonl")


def laconic(*arguments: object, cwd: Path, code: int = 0) -> Done:
    """Run the command line with a cache of its own."""
    return command(*arguments, cwd=cwd, code=code, XDG_CACHE_HOME=str(cwd / "cache"))


class Here:
    """The command line in this process, which starts no interpreter: quicker, for many inputs."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        monkeypatch.chdir(folder)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    def __call__(self, *arguments: object, code: int = 0) -> tuple[str, str]:
        """Standard output and error of a command that must end with a code."""
        self._patch.setattr(sys, "argv", ["laconic", *map(str, arguments)])
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stopped:
            main()
        assert (stopped.value.code or 0) == code, out.getvalue() + err.getvalue()
        return out.getvalue(), err.getvalue()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(tmp_path, monkeypatch)


def test_a_log_becomes_a_table_in_one_command_and_is_graded_again(tmp_path: Path) -> None:
    shown = laconic("import", RESULTS, "--task", "lab", "-o", "runs/mine", cwd=tmp_path).stdout
    assert "33.3" in shown
    assert "runs/mine" in laconic("grade", "runs", "--audit", cwd=tmp_path).stdout
    told = laconic("grade", "runs", "--against", "exact", "--audit", "--json", cwd=tmp_path)
    (graded,) = json.loads(told.stdout)
    assert (graded["n"], graded["correct"], graded["changed"]) == (6, 2, 0)
    assert graded["outcomes"] == {"correct": 2, "wrong": 1, "truncated_no_answer": 3}
    assert graded["against"] == {"grader": "exact", "correct": 2}
    assert graded["audit"] == []
    report = json.loads(laconic("report", "runs", "--format", "json", cwd=tmp_path).stdout)
    assert [row["n"] for row in report["runs"]] == [6]


def test_gzipped_runs_are_made_and_graded_in_place(tmp_path: Path, here: Here) -> None:
    here("import", RESULTS, "--task", "lab", "--gzip", "-o", "run")
    files = ["results.jsonl.gz", "run.json"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == files
    before = read_run(tmp_path / "run").results
    head = json.loads((tmp_path / "run" / "run.json").read_text())
    head["experiment"]["grader"] = "old/1"
    (tmp_path / "run" / "run.json").write_text(json.dumps(head))
    here("grade", "run")
    after = read_run(tmp_path / "run")
    assert after.results == before
    assert after.provenance["graders"] == ["old/1"]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == files


@pytest.mark.slow
def test_verdicts_are_kept_in_the_users_cache_unless_forbidden(tmp_path: Path, here: Here) -> None:
    problem = {"id": "1", "problem": "?", "answer": r"\frac{x+1}{2}"}
    (tmp_path / "sums.jsonl").write_text(json.dumps(problem))
    row = {"id": "1", "response": r"\boxed{\frac{1+x}{2}}", "tokens": 9}
    (tmp_path / "log.jsonl").write_text(json.dumps(row))
    flags = ("--task", "sums", "--data", ".", "--map", "length=tokens")
    here("import", "log.jsonl", *flags, "--no-cache", "-o", "a")
    assert not (tmp_path / "cache").exists()
    here("import", "log.jsonl", *flags, "-o", "b")
    kept = tmp_path / "cache" / "laconic" / "verdicts.sqlite"
    assert kept.stat().st_size > 0
    kept.write_bytes(b"no database at all" * 500)
    done = laconic("grade", "b", cwd=tmp_path)
    assert "1 of 1 right" in done.stdout
    assert "is not used" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "nowhere.jsonl", "--task", "t"), "nowhere.jsonl cannot be read: No such file"),
        (("import", SAMPLES, "--task", "lab"), "nothing says how many tokens"),
        (("import", SAMPLES, "--task", "lab", "--tokenizer", "x"), "there is no x"),
        (("import", RESULTS, "--task", "lab", "--map", "id"), "write FIELD=COLUMN"),
        (("import", RESULTS, "--task", "lab", "--map", "id=x"), "line 1 is not JSON"),
        (("import", RESULTS, "--task", "lab", "--data", "no"), "no does not exist"),
        (("import", SAMPLES, RESULTS, "--task", "lab"), "several tools (SkyThought, lm-eval)"),
        (("grade", "nowhere"), "nowhere does not exist"),
        (("grade", "."), "No runs in ."),
        (("grade", ".", "--against", "exakt"), "exact"),
    ],
)
def test_wrong_input_ends_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, here: Here, arguments: tuple[object, ...], message: str
) -> None:
    output = ("-o", "out") if arguments[0] == "import" else ()
    _, told = here(*arguments, *output, code=2)
    assert message in " ".join(told.split())
    assert [p.name for p in tmp_path.iterdir() if p.name != "cache"] == []


def test_a_damaged_run_is_named_and_not_touched(tmp_path: Path, here: Here) -> None:
    here("import", RESULTS, "--task", "lab", "-o", "run")
    lines = tmp_path / "run" / "results.jsonl"
    broken = lines.read_text().replace('"length"', '"lenght"', 1)
    lines.write_text(broken)
    _, told = here("grade", "run", code=2)
    assert "results.jsonl, line 1 is damaged" in told
    assert lines.read_text() == broken


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared logs are not here")
def test_a_real_log_has_the_same_lengths_by_column_and_by_tokenizer(
    tmp_path: Path, here: Here
) -> None:
    log = DATA / "logs" / "r1-14b-merge-task-arithmetic__amc23.jsonl.gz"
    flags = ("--task", "amc23", "--data", DATA / "problems", "--map", "id=problem_id")
    here("import", log, *flags, "--map", "length=tokens_qwen", "-o", "a")
    ranks = DATA / "problems" / "tokenizer" / "qwen.tiktoken"
    here("import", log, *flags, "--tokenizer", ranks, "-o", "b")
    runs = [read_run(tmp_path / name) for name in "ab"]
    told_of = [[(r.key, r.length, r.truncated, r.correct) for r in run.results] for run in runs]
    assert told_of[0] == told_of[1]
    assert len(told_of[0]) == 320


def test_the_parts_of_evalscopes_reviews_make_one_run(tmp_path: Path, here: Here) -> None:
    shutil.copytree(LOGS / "evalscope", tmp_path / "out")
    parts = sorted((tmp_path / "out" / "reviews" / "system2").iterdir())
    data = ("--data", LOGS / "problems.jsonl")
    here("import", *parts, "--task", "lab", *data, "-o", "run")
    run = read_run(tmp_path / "run")
    assert len(run.results) == 6
    assert run.experiment.model == "system2"
