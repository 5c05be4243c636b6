"""The documentation does what it says: its snippets run, its generated tables are current."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_readmes_python_runs(tmp_path: Path) -> None:
    (code,) = blocks("README.md", "python")
    (tmp_path / "example.py").write_text(code.replace("limit=100", "limit=10"))
    told = run(sys.executable, "example.py", cwd=tmp_path)
    assert "ties" in told
    assert "system2" in told


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    (block,) = (b for b in blocks(page, "console") if "runs/system2" in b)
    for line in block.splitlines():
        words = shlex.split(line.replace("--limit 100", "--limit 10"))
        assert words[0] == "laconic"
        run(sys.executable, "-m", *words, cwd=tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_recipe_of_the_merge_page_is_a_recipe(tmp_path: Path) -> None:
    text = next(b for b in blocks("docs/merge.md", "yaml") if "lab:base" in b)
    (tmp_path / "recipe.yaml").write_text(text)
    told = run(
        *(sys.executable, "-m", "laconic", "merge", "recipe.yaml", "--dry-run", "-o", "merged"),
        cwd=tmp_path,
    )
    assert "method: ties" in told


def test_the_recipes_of_the_mergekit_page_are_recipes(tmp_path: Path) -> None:
    for text, method in zip(
        blocks("docs/mergekit.md", "yaml"), ("ties", "task_arithmetic"), strict=True
    ):
        (tmp_path / "config.yml").write_text(text)
        told = run(
            *(sys.executable, "-m", "laconic", "merge", "config.yml", "--dry-run", "-o", "merged"),
            cwd=tmp_path,
        )
        assert f"method: {method}" in told


def test_the_recipes_of_the_training_page_are_recipes(tmp_path: Path) -> None:
    from laconic.training.recipe import TrainRecipe

    names = []
    for text in blocks("docs/training.md", "yaml"):
        (tmp_path / "recipe.yaml").write_text(text)
        names.append(TrainRecipe.from_yaml(tmp_path / "recipe.yaml").objective.name)
    assert names == ["sft", "dpo", "grpo"]


@pytest.mark.parametrize("page", ["docs/data.md"])
def test_every_command_of_a_page_is_one(page: str) -> None:
    import typer

    from laconic.cli import app

    text = "\n".join(blocks(page, "console") + blocks(page, "")).replace("\\\n", "")
    lines = [line for line in text.splitlines() if line.startswith("laconic")]
    assert len(lines) > 5
    for line in lines:
        _, *words = shlex.split(line)
        group = typer.main.get_command(app)
        while isinstance(group, typer.core.TyperGroup):
            group = group.commands[words.pop(0)]
        group.make_context(line, words)


def test_the_example_method_keeps_the_contract(tmp_path: Path) -> None:
    code = next(b for b in blocks("docs/add-a-method.md", "python") if "def extrapolate" in b)
    (tmp_path / "extrapolate.py").write_text(code)
    check = "import sys, pytest, extrapolate; sys.exit(pytest.main(sys.argv[1:]))"
    told = run(
        *(sys.executable, "-c", check, "--pyargs", "laconic.testing", "-k", "extrapolate"),
        *("-p", "no:cacheprovider"),
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path),
    )
    assert re.search(r"\b[1-9]\d* passed", told)


@pytest.mark.parametrize(
    ("page", "writer"),
    [
        ("methods", "page"),
        ("tasks", "tasks_page"),
        ("training", "training_page"),
        ("import", "import_page"),
    ],
)
def test_a_generated_page_is_current(page: str, writer: str) -> None:
    written = runpy.run_path(str(ROOT / "docs" / "generate.py"))[writer]()
    assert (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") == written


def test_the_snippets_of_the_training_page_run(tmp_path: Path) -> None:
    (tmp_path / "mixture.py").write_text("".join(blocks("docs/training.md", "python")))
    told = run(sys.executable, "mixture.py", cwd=tmp_path)
    assert told.splitlines() == blocks("docs/training.md", "text")[0].splitlines()


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if not target.startswith("http"):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"
