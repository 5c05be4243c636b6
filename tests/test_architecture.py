"""The shape that DESIGN asks for: imports point one way, public names are pinned."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import laconic

PACKAGE = Path(laconic.__file__).parent
#: From the bottom up: an entry may import from the rows above its own.
ROWS = (
    ("errors", "runtime"),
    ("files",),
    ("registry", "checkpoints"),
    ("runs",),
    ("methods", "tasks", "backends"),
    ("strategies", "scoring"),
    ("stats",),
    ("calibration",),
    ("merging", "evaluation", "importing"),
    ("data",),
    ("searching", "training"),
    ("reporting",),
    ("inspection",),
    ("lab",),
    ("cli", "testing"),
    ("__main__",),
)
RANK = {name: rank for rank, row in enumerate(ROWS) for name in row}
#: What one verb may import of another beyond DESIGN's rule: values that they share, nothing else.
VERBS = {
    "data": {"evaluation"},
    "training": {"evaluation", "merging", "data.pools"},
    "searching": {"evaluation", "merging"},
    "merging": {"calibration.record"},
}
SEAMS = {
    *("methods", "tasks", "backends", "strategies", "importing.readers", "reporting.charts"),
    *("training.controllers", "training.objectives", "training.rewards"),
}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below ``laconic``."""
    names = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts).removesuffix("__init__").rstrip(".")] = path
    return {name: path for name, path in names.items() if name}


MODULES = modules()


def imported(name: str) -> set[str]:
    """The modules that one imports when it runs, inside functions too."""
    names: set[str] = set()
    pending: list[ast.AST] = [ast.parse(MODULES[name].read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        pending += ast.iter_child_nodes(node)
    homes = {home(n.removeprefix("laconic.")) for n in names if n.startswith("laconic.")}
    return homes - {"", name}


def home(name: str) -> str:
    """The module that holds a dotted name."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def below(name: str, prefix: str) -> str:
    """A module's entry in the folder `prefix`, or nothing where it lies elsewhere."""
    inside = name.removeprefix(prefix).lstrip(".") if name.startswith(prefix) else ""
    return inside.split(".")[0]


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle of a graph, or nothing."""
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        names: list[str] = error.args[1]
        return names
    return []


def test_the_house_has_at_most_28_entries_and_each_has_its_row() -> None:
    entries = {p.name.removesuffix(".py") for p in PACKAGE.iterdir() if p.name != "__pycache__"}
    assert len(entries) <= 28
    assert entries - {"__init__", "py.typed"} == set(RANK)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    own = name.split(".")[0]
    for other in imported(name):
        top = other.split(".")[0]
        if top == own:
            continue
        assert RANK[top] <= RANK[own], f"{name} must not import {other}"
        if own in VERBS and top in {*VERBS, "calibration", "importing"}:
            allowed = VERBS[own]
            assert top in allowed or other in allowed, f"the verb {own} must not call {other}"


def test_no_import_goes_in_a_circle_between_modules_or_inside_a_folder() -> None:
    graph = {name: imported(name) for name in MODULES}
    assert cycle(graph) == []
    folders = ["", *(n for n, path in MODULES.items() if path.name == "__init__.py")]
    for folder in folders:
        entries: dict[str, set[str]] = {}
        for name, others in graph.items():
            if entry := below(name, f"{folder}." if folder else ""):
                neighbours = {below(o, f"{folder}." if folder else "") for o in others}
                entries.setdefault(entry, set()).update(neighbours - {"", entry})
        assert cycle(entries) == [], folder


@pytest.mark.parametrize("seam", sorted(SEAMS))
def test_no_plugin_imports_another(seam: str) -> None:
    plugins = {n for n in MODULES if n.rpartition(".")[0] == seam and below(n, seam) != "contract"}
    for name in plugins:
        assert not imported(name) & plugins, name


@pytest.mark.parametrize("name", [n for n, path in MODULES.items() if path.name == "__init__.py"])
def test_a_package_opens_with_its_map(name: str) -> None:
    text = ast.get_docstring(ast.parse(MODULES[name].read_text(encoding="utf-8"))) or ""
    assert text.split("\n")[0].endswith("."), name
    mentioned = set(re.findall(r"`(\w+)`", text))
    files = {below(n, f"{name}.") for n in MODULES} - {""}
    if name not in SEAMS | {"cli", "testing"}:
        assert files - mentioned == set(), f"{name}'s docstring does not say what these are for"


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


@pytest.mark.parametrize("verb", ["", "merge", "eval", "inspect", "search", "train", "data pack"])
def test_help_imports_no_heavy_library(verb: str) -> None:
    code = (
        "import sys\nsys.argv = ['laconic', *sys.argv[1:]]\nfrom laconic.cli import main\n"
        "try:\n    main()\nfinally:\n    heavy = {'torch', 'transformers', 'numpy', 'matplotlib'}\n"
        "    assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    arguments = [*verb.split(), "--help"]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
