"""The search through the command line, on the lab's models: as the page on it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from laconic.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text(encoding="utf-8")


def block(language: str, holding: str) -> str:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return next(text for text in found if holding in text)


@pytest.mark.slow
def test_the_page_on_search_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(block("yaml", "lab:base"))
    (tmp_path / "read.py").write_text(block("python", "read_study"))
    words = block("console", "--prove-on").replace("size=60", "size=24").replace("=40", "=16")
    words = words.replace("--trials 4", "--trials 2")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    told = run(sys.executable, "-m", *words.split())
    assert "2 candidates" in told
    assert "On 16 held-out answers:" in told
    assert "length -" in told
    assert (tmp_path / "study" / "trials" / "scale=0.5" / "results.jsonl").exists()
    assert not (tmp_path / "study" / "work").exists()
    assert "scale: 0." in run(sys.executable, "read.py")


@pytest.mark.parametrize(
    ("recipe", "options", "told"),
    [
        ("params: {scale: {low: 0.1, high: 0.9}}", ["--task", "nosuch"], "nosuch"),
        ("params: {scale: 0.5}", ["--task", "lab"], "no range"),
        ("params: {skale: {low: 0.1, high: 0.9}}", ["--task", "lab"], "Did you mean 'scale'"),
        ("params: {scale: {low: 0.1, high: 0.9}}", [], "no task"),
        (
            "params: {scale: {low: 0.1, high: 0.9}}",
            ["--task", "lab", "--budget", "many"],
            "write a number of tokens",
        ),
        (
            "params: {scale: {low: 0.1, high: 0.9}}",
            ["--task", "lab", "--constraint", "accuracy<=1"],
            "--constraint",
        ),
        (
            "params: {scale: {low: 0.1, high: 0.9}}",
            ["--task", "lab", "--max-tokens", "5000"],
            "window",
        ),
    ],
)
def test_wrong_input_ends_in_one_sentence(
    recipe: str,
    options: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    head = "base: lab:base\nmodels: [lab:system2]\nmethod: task_arithmetic\n"
    (tmp_path / "recipe.yaml").write_text(head + recipe)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["laconic", "search", "recipe.yaml", "-o", "study", *options])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "Error:" in said
    assert told in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("results.jsonl"))
