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


@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path: Path) -> None:
    (code,) = blocks("README.md", "python")
    (tmp_path / "example.py").write_text(code.replace("limit=100", "limit=10"))
    told = run(sys.executable, "example.py", cwd=tmp_path)
    assert "ties" in told
    assert "system2" in told


@pytest.mark.slow
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


def test_the_map_of_the_package_names_files_that_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`([a-z_]+/[a-z_/]*(?:\.py)?)`", text)
    assert len(paths) > 40
    for path in paths:
        homes = (ROOT, ROOT / "src" / "laconic", ROOT / "src" / "laconic" / "merging" / "engine")
        assert any((home / path).exists() for home in homes), path


#: The examples of docs/extend.md in their order, and add-a-method.md's: module, entry-point group.
EXAMPLES = (
    ("sums", "tasks"),
    ("briefly", "strategies"),
    ("short_and_right", "rewards"),
    ("dft", "objectives"),
    ("evenly", "controllers"),
    ("cut_off", "charts"),
    ("tally", "log_formats"),
)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the examples as an installed package of somebody else."""
    folder = tmp_path_factory.mktemp("site")
    *codes, entry = blocks("docs/extend.md", "python")
    groups: dict[str, list[str]] = {}
    for (name, group), code in zip(EXAMPLES, codes, strict=True):
        (folder / f"{name}.py").write_text(code)
        target = f"{name}:FORMAT" if group == "log_formats" else name
        groups.setdefault(group, []).append(f"{name} = {target}")
    (folder / "yourmodel.py").write_text(entry)
    (method,) = (b for b in blocks("docs/add-a-method.md", "python") if "def extrapolate" in b)
    (folder / "extrapolate.py").write_text(method)
    groups["methods"] = ["extrapolate = extrapolate"]
    info = folder / "yourpackage-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: yourpackage\nVersion: 1.0\n")
    lines = [line for g, names in groups.items() for line in (f"[laconic.{g}]", *names)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_the_examples_of_the_page_on_extending_keep_their_contracts(outside: Path) -> None:
    names = (*(name for name, group in EXAMPLES), "extrapolate")
    selected = " or ".join(names).replace("tally", "Tally")
    chosen = f"({selected}) and not (a_chain and not none-extrapolate-none)"
    told = run(
        *(sys.executable, "-m", "pytest", "--pyargs", "laconic.testing", "-k", chosen),
        *("-p", "no:cacheprovider", "-rA"),
        cwd=outside,
        PYTHONPATH=str(outside),
    )
    assert not re.search(r"\d (failed|error)", told)
    for name in selected.split(" or "):
        assert re.search(rf"PASSED .*{name}", told), name


def test_the_examples_from_outside_are_listed(outside: Path) -> None:
    for kind, name in {"tasks": "sums", "strategies": "briefly", "methods": "extrapolate"}.items():
        command = (sys.executable, "-m", "laconic", "list", kind)
        assert name in run(*command, cwd=outside, PYTHONPATH=str(outside))
    run(sys.executable, "-c", "import yourmodel", cwd=outside, PYTHONPATH=str(outside))


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
