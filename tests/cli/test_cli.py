"""The command line as a user meets it: right and wrong input, interruptions, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from laconic.runs.run import read_run
from tests.support.command import laconic, laconic_process

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeCheckpoint

PROBLEM = "Work mod 100.\na=71\nb=a-9\nc=b+6\nc=?"


def jsonl(path: Path, *rows: dict[str, Any] | str) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_merge_eval_report_from_the_readme(tmp_path: Path) -> None:
    flags = ("--base", "lab:base", "--model", "lab:system2", "--method", "ties")
    laconic("merge", *flags, "--set", "density=0.2", "-o", "merged", cwd=tmp_path)
    for name, model in {"system2": "lab:system2", "merged": "merged"}.items():
        laconic("eval", model, "--task", "lab", "--limit", 20, "-o", f"runs/{name}", cwd=tmp_path)
    told = laconic("report", "runs", "--format", "json", cwd=tmp_path)
    report = json.loads(told.stdout)
    assert report["baseline"] == "system2"
    assert [row["n"] for row in report["runs"]] == [20, 20]
    assert report["pairs"][0]["length_change"]["high"] < 0
    assert "reflection keywords" not in laconic("report", "runs", cwd=tmp_path).stdout
    assert "reflection keywords" in laconic("report", "runs", "--details", cwd=tmp_path).stdout
    for suffix in ("html", "png", "md", "json", "txt", "svg"):
        laconic("report", "runs", "-o", f"out/report.{suffix}", cwd=tmp_path)
        assert (tmp_path / f"out/report.{suffix}").stat().st_size > 0


def test_a_recipe_file_and_flags_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "base: lab:base\nmodels: [lab:system2]\nmethod: task_arithmetic\n"
        "before: [{dare: {density: 0.5}}]\n"
    )
    laconic("merge", "recipe.yaml", "--set", "before.0.density=0.7", "-o", "a", cwd=tmp_path)
    flags = ["--base", "lab:base", "--model", "lab:system2", "--method", "task_arithmetic"]
    laconic("merge", *flags, "--before", "dare:density=0.7", "-o", "b", cwd=tmp_path)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    flags = ("--base", "lab:base", "--model", "lab:system2=0.5", "--method", "ties")
    told = laconic("merge", *flags, "--dry-run", "--json", "-o", "out", cwd=tmp_path)
    planned = json.loads(told.stdout)
    assert planned["models"] == ["lab:system2 (weight 0.5)"]
    assert planned["params"]["density"] == 0.2
    assert list(tmp_path.iterdir()) == []


def test_any_jsonl_is_a_task(tmp_path: Path) -> None:
    jsonl(
        tmp_path / "mine.jsonl",
        {"problem": PROBLEM, "answer": 68},
        {"id": "x", "problem": PROBLEM, "answer": "69"},
    )
    laconic(
        "eval",
        "lab:system1",
        "--task",
        "mine.jsonl",
        "--max-tokens",
        100,
        "-o",
        "run",
        cwd=tmp_path,
    )
    results = read_run(tmp_path / "run").results
    assert [(r.task, r.id) for r in results] == [("mine", "1"), ("mine", "x")]
    assert [r.correct for r in results] == [True, False]


def test_listings_are_machine_readable(tmp_path: Path) -> None:
    for kind, member in {
        "methods": "ties",
        "tasks": "lab",
        "backends": "replay",
        "controllers": "tldr",
    }.items():
        listed = json.loads(laconic("list", kind, "--json", cwd=tmp_path).stdout)
        assert member in [entry["name"] for entry in listed]
    shown = json.loads(laconic("show", "ties", "--json", cwd=tmp_path).stdout)
    assert shown["parameters"][0]["kind"] == "a number in (0, 1]"
    assert "density" in laconic("show", "ties", cwd=tmp_path).stdout


MERGE = ("merge", "--base", "lab:base", "--model", "lab:system2", "-o", "out")
EVAL = ("eval", "lab:system1", "-o", "out", "--task")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*MERGE, "--method", "tise"), "Did you mean 'ties'"),
        ((*MERGE, "--method", "ties", "--set", "densty=0.2"), "Did you mean 'density'"),
        ((*MERGE, "--method", "ties", "--set", "density=80"), "(0, 1]"),
        ((*MERGE, "--method", "ties", "--set", "density"), "KEY=VALUE"),
        ((*MERGE, "--method", "ties", "--before", "dear:density=0.5"), "Did you mean 'dare'"),
        ((*MERGE, "--method", "ties", "--before", "dare:density"), "No transform 'dare:density'"),
        ((*MERGE, "--method", "ties", "--dtype", "bf16"), "bfloat16"),
        (("merge", "--model", "lab:systm2", "--method", "average", "-o", "o"), "lab:system2"),
        (("merge", "--model", "nowhere", "--method", "average", "-o", "o"), "There is no folder"),
        (("merge", "--model", "a=x", "--method", "average", "-o", "o"), "is not a number"),
        (("merge", "nothing.yaml", "-o", "o"), "cannot be read"),
        (("merge", "-o", "o"), "Nothing to merge"),
        (("merge", "--model", "lab:base"), "--output"),
        ((*EVAL, "labb"), "Did you mean 'lab'"),
        ((*EVAL, "nothing.jsonl"), "cannot be read"),
        ((*EVAL, "broken.jsonl"), "line 2 is not JSON"),
        ((*EVAL, "fields.jsonl"), "line 1 needs 'answer'"),
        ((*EVAL, "lab:splt=dev"), "Did you mean 'split'"),
        ((*EVAL, "lab", "--limit", "0"), "limit must be at least 1"),
        ((*EVAL, "lab", "--max-tokens", "2000"), "window"),
        ((*EVAL, "lab", "--temperature", "-1"), "temperature"),
        ((*EVAL, "lab", "--repeats", "2"), "temperature 0"),
        ((*EVAL, "lab", "--prompt", "hello"), "{problem}"),
        ((*EVAL, "lab", "--backend", "transformer"), "Did you mean 'transformers'"),
        (("eval", "broken.jsonl", "--task", "lab", "-o", "out"), "is a file"),
        (("report", "."), "laconic eval"),
        (("report", "nowhere"), "nowhere"),
        (("report", ".", "--format", "pdf"), "pdf"),
        (("show", "teis"), "Did you mean 'ties'"),
        (("lab", "."), "already holds something"),
        (("nonsense",), "nonsense"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else "",
)
def test_wrong_input_ends_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    jsonl(tmp_path / "broken.jsonl", {"problem": "p", "answer": "a"}, "{")
    jsonl(tmp_path / "fields.jsonl", {"problem": "p"})
    before = sorted(tmp_path.iterdir())
    told = laconic(*arguments, cwd=tmp_path, code=2)
    assert message in " ".join(told.stderr.split())
    assert sorted(tmp_path.iterdir()) == before


def test_a_real_process_says_the_same_and_exits_with_2(tmp_path: Path) -> None:
    told = laconic_process(*MERGE, "--method", "tise", cwd=tmp_path, code=2)
    assert "Did you mean 'ties'" in " ".join(told.stderr.split())
    assert told.stdout == ""


def interrupt(arguments: list[str], cwd: Path, when: Path) -> None:
    """Start a command, press Ctrl-C as soon as a file is there, and expect 130."""
    process = subprocess.Popen(
        [sys.executable, "-m", "laconic", *arguments],
        cwd=cwd,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # A shell that starts these tests in the background lets them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 120
    while not (when.exists() and when.stat().st_size) and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert "run the same command" in told


@pytest.mark.slow
def test_an_interrupted_evaluation_keeps_its_results_and_goes_on(tmp_path: Path) -> None:
    command = ["eval", "lab:system2", "--task", "lab", "--limit", "60", "-o", "run"]
    command += ["--backend", "transformers:batch=5"]
    results = tmp_path / "run" / "results.jsonl"
    interrupt(command, tmp_path, results)
    partial = read_run(tmp_path / "run")
    assert 0 < len(partial.results) < 60
    assert not partial.complete
    first = results.read_bytes()
    laconic(*command, cwd=tmp_path)
    whole = read_run(tmp_path / "run")
    assert whole.complete
    assert len(whole.results) == 60
    assert results.read_bytes().startswith(first[: first.rfind(b"\n") + 1])


@pytest.mark.slow
def test_an_interrupted_merge_leaves_no_output(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    import torch

    big = {f"model.layers.{i}.w.weight": torch.zeros(500, 500) for i in range(60)}
    base, model = make_checkpoint("base", big), make_checkpoint("model", big)
    command = ["merge", "--base", str(base), "--model", str(model), "--method", "elect"]
    command += ["-o", "out"]
    interrupt(command, tmp_path, tmp_path / ".out.partial" / "journal.jsonl")
    assert not (tmp_path / "out").exists()
    laconic(*command, cwd=tmp_path)
    assert (tmp_path / "out" / "run.json").exists()


def test_a_run_folder_holds_one_experiment(tmp_path: Path) -> None:
    command = ("eval", "lab:system1", "--task", "lab", "-o", "run")
    laconic(*command, "--limit", 5, cwd=tmp_path)
    told = laconic(*command, "--limit", 6, cwd=tmp_path, code=2)
    assert "another tasks" in told.stderr
    assert len(read_run(tmp_path / "run").results) == 5


def test_named_tasks_presets_and_programs(tmp_path: Path) -> None:
    jsonl(tmp_path / "gsm8k.jsonl", {"question": "2 + 3?", "answer": "It is 5.\n#### 5"})
    checked = laconic("grade", "--check-golds", "gsm8k", "--data", ".", cwd=tmp_path)
    assert "gsm8k: 0 of 1 golds only match verbatim" in checked.stdout
    jsonl(tmp_path / "made.jsonl", {"id": "gsm8k/0", "text": "5", "length": 1})
    asked = ("eval", "m", "--preset", "l2s-7b", "--task", "gsm8k", "--data", ".")
    recorded = ("--backend", "replay:path=made.jsonl", "--max-tokens", 64, "-o", "x")
    shown = laconic(*asked, *recorded, "--dry-run", cwd=tmp_path).stdout
    assert "tokens: 64 at most to generate" in shown
    assert "which opens no thought" in shown
    assert shown.rstrip().endswith("<|im_start|>assistant")
    told = laconic(*asked, "--temperature", 1, "-o", "x", cwd=tmp_path, code=2).stderr
    assert "says itself what --temperature is" in " ".join(told.split())
    code = ("eval", "lab:system2", "--task", "humaneval", "--data", ".", "-o", "x")
    assert "no humaneval.jsonl" in laconic(*code, cwd=tmp_path, code=2).stderr.replace("\n", " ")
    assert not (tmp_path / "x").exists()
    presets = json.loads(laconic("list", "presets", "--json", cwd=tmp_path).stdout)
    named = [p["name"] for p in presets if p.get("tasks", {}).get("amc23")]
    assert named == ["tldr-14b", "tldr-7b"]
    told = json.loads(laconic("show", "tldr-7b", "--json", cwd=tmp_path).stdout)
    assert [one["family"] for one in told] == ["evaluation preset", "training preset"]
    assert "controller:" in laconic("show", "tldr-7b", cwd=tmp_path).stdout
    assert "openai/gsm8k on the Hub" in laconic("show", "gsm8k", cwd=tmp_path).stdout
