"""The study of merging: its menu, how it chooses, and the page it writes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from studies.bench import Bench, slug
from studies.family import Family
from studies.merging.menu import menu, scales
from studies.merging.page import write_page
from studies.merging.study import Findings, choose, named, small, starts, thinkers, towards

from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.runs.run import Run

FAMILY = Family.at()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """System 1, System 2 and two merges on ten problems."""
    bench = Bench(tmp_path_factory.mktemp("study"))
    models: dict[str, str | Recipe] = {
        "system1": FAMILY.system1,
        "system2": FAMILY.system2,
        **{named("Task Arithmetic", k): r for k, r in scales(FAMILY, (0.3, 0.5)).items()},
    }
    return bench.runs("dev", "lab:split=dev,size=10", models)


def test_every_recipe_of_the_study_can_be_planned() -> None:
    recipes = [recipe for grid in menu(FAMILY).values() for recipe in grid.values()]
    for part in (starts(FAMILY), towards(FAMILY), thinkers(FAMILY, "lab:system2"), small(FAMILY)):
        recipes += [model for model in part.values() if isinstance(model, Recipe)]
    assert len(recipes) > 70
    for recipe in recipes:
        plan(recipe)


def test_names_of_one_part_give_different_folders() -> None:
    names = [named(m, label) for m, grid in menu(FAMILY).items() for label in grid]
    for part in (names, starts(FAMILY), towards(FAMILY), thinkers(FAMILY, "x"), small(FAMILY)):
        assert len(set(map(slug, part))) == len(list(part))


@pytest.mark.slow
def test_the_shortest_that_keeps_the_accuracy_is_chosen_else_the_most_accurate(
    runs: dict[str, Run],
) -> None:
    right = runs["system2"]
    results = tuple(replace(r, correct=True) for r in right.results)
    right = replace(right, results=results)
    short = replace(right, results=tuple(replace(r, length=20) for r in results))
    shorter_but_wrong = replace(
        right, results=tuple(replace(r, length=10, correct=i > 0) for i, r in enumerate(results))
    )
    grid = {"a": FAMILY.one(), "b": FAMILY.one(), "c": FAMILY.one()}
    found = {"a": right, "b": short, "c": shorter_but_wrong}
    assert choose(grid, found, right, 0.02) == "b"
    assert choose(grid, found, right, 0.2) == "c"
    wrong = replace(right, results=tuple(replace(r, correct=False) for r in results))
    assert choose({"a": FAMILY.one(), "c": FAMILY.one()}, {"a": wrong, "c": short}, right, 0.0) == (
        "c"
    )


@pytest.mark.slow
def test_the_page_has_every_part_with_the_runs_figures(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    grids = {"Task Arithmetic": scales(FAMILY, (0.3, 0.5))}
    test = {
        "system1": runs["system1"],
        "system2": runs["system2"],
        "Task Arithmetic": runs["Task Arithmetic, scale 0.5"],
    }
    planted = Bench(tmp_path / "more").runs(
        "planted", "lab_planted:size=5", {"system1": FAMILY.system1, "system2": FAMILY.system2}
    )
    found = Findings(
        dev=runs,
        grids=grids,
        chosen={"Task Arithmetic": "scale 0.5"},
        test=test,
        planted=planted,
        starts=test,
        towards=test,
        thinkers=test,
        calibrations=test,
        sizes={"tiny": test},
    )
    page = write_page(found, tmp_path)
    text = page.read_text(encoding="utf-8")
    for head in ("All methods", "Table 6", "Figure 2", "Scale: tiny", "Table 5", "Self-correction"):
        assert f"{head}" in text
    assert "| Task Arithmetic, scale 0.5 (merge) | 10 |" in text
    assert "| system1 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 | 0.0 |" in text
    for picture in ("front", "difficulty", "settings"):
        assert (tmp_path / f"merging-{picture}.png").read_bytes().startswith(b"\x89PNG")
        assert f"(merging-{picture}.png)" in text
