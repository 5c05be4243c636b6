"""The shape that DESIGN asks for: imports point one way, public names are pinned."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import laconic

PACKAGE = Path(laconic.__file__).parent
#: Each module may import only from the rows above its own; `lab` sits on top of everything.
ROWS = (
    ("errors", "progress", "version", "threads"),
    ("files", "textfile", "rendering"),
    ("yamlfile",),
    (
        "registry",
        "jsonfile",
        "architecture",
        "links",
        "nesting",
        "kernels",
        "ranking",
        "hub",
        "reflection",
        "sandbox",
    ),
    ("arithmetic", "rotary", "sums"),
    ("varying", "mergekit", "configs"),
    ("recipe", "tokens", "unsafe", "header", "experiment", "dataset", "exam", "packed"),
    ("layout", "quantisation"),
    ("run", "checkpoint", "derived", "bounds", "mixture", "pools"),
    ("calibration", "measured", "flags"),
    (
        "sampler",
        "prompts",
        "writer",
        "runwriter",
        "siblings",
        "parts",
        "carried",
        "card",
        "budget",
        "stage",
        "vocabulary",
        "lora",
        "lowrank",
        "needs",
        "tally",
    ),
    ("companions", "readings", "adapter", "output"),
    ("donors",),
    ("method", "task", "backend", "controller", "presets"),
    ("effects", "thresholds", "decoding", "chat", "transcript", "calls"),
    ("tokenizer",),
    ("served",),
    ("methods", "tasks", "backends", "controllers"),
    ("plan", "scoring", "merge_presets"),
    ("engine", "stats"),
    ("merge", "evaluate", "regrade", "importing", "calibrate"),
    ("search", "train", "data"),
    ("report",),
    ("inspect",),
    ("lab",),
    ("cli", "contract"),
    ("__main__",),
)
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}
FOLDERS = {"methods", "tasks", "backends", "controllers"}


def modules() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


def home(path: Path) -> str:
    """The row's name for a file: its folder in the package, else its own name."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The laconic modules that a file imports, as dotted names below the package."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [node.module or ""]
        found |= {n.removeprefix("laconic.") for n in names if n.startswith("laconic.")}
    return found


def test_every_module_has_its_row() -> None:
    assert {home(path) for path in modules()} == set(RANK)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = home(path)
    for name in imported(path):
        other = name.split(".")[0]
        if other == own and own not in FOLDERS:
            continue
        assert RANK[other] < RANK[own], f"{own} must not import {other}"


def test_public_names_are_pinned_and_load() -> None:
    assert laconic.__all__ == [
        "Checkpoint",
        "LaconicError",
        "Recipe",
        "Run",
        "Sample",
        "Sampling",
        "compare",
        "evaluate",
        "inspect",
        "merge",
        "open_checkpoint",
        "plan",
        "read_run",
        "read_study",
        "search",
        "train",
    ]
    assert all(callable(getattr(laconic, name)) for name in laconic.__all__)


def test_a_public_function_hides_the_module_of_its_name() -> None:
    code = "import laconic.merge, laconic; assert not hasattr(laconic.merge, '__path__'); "
    code += "assert laconic.merge.__name__ == 'merge' and callable(laconic.merge)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@pytest.mark.parametrize("verb", ["", "merge", "eval", "inspect", "search", "train", "data pack"])
def test_help_imports_no_heavy_library(verb: str) -> None:
    code = (
        "import sys\nsys.argv = ['laconic', *sys.argv[1:]]\nfrom laconic.cli import main\n"
        "try:\n    main()\nfinally:\n    heavy = {'torch', 'transformers', 'numpy', 'matplotlib'}\n"
        "    assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    arguments = [*verb.split(), "--help"]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
