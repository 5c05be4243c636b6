"""What was recorded still comes out: merges, reports, trainings, searches, options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.recorded import merges, mixture
from tests.recorded.compare import differences
from tests.recorded.record import PARTS, RECORDS, read

if TYPE_CHECKING:
    from pathlib import Path

    from _pytest.mark import ParameterSet

#: Lines of a failure, beyond which more say no more.
LINES = 12


def pieces() -> list[ParameterSet]:
    """Every piece of every part."""
    return [
        pytest.param(
            *(part, name),
            id=f"{part}-{name}",
            marks=[pytest.mark.slow] if name in mixture.slow() | merges.slow() else [],
        )
        for part, module in PARTS.items()
        for name in module.names()
    ]


@pytest.fixture(scope="session")
def folders() -> dict[str, Path]:
    """A folder for each part, prepared when the first of its pieces asks."""
    return {}


@pytest.fixture
def folder(part: str, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    if part not in folders:
        made = tmp_path_factory.mktemp(part)
        PARTS[part].prepare(made)
        folders[part] = made
    return folders[part]


@pytest.mark.parametrize(("part", "name"), pieces())
def test_what_was_recorded_still_comes_out(part: str, name: str, folder: Path) -> None:
    now = PARTS[part].observe(name, folder)
    recorded = read(part, name)
    if name.startswith("list-"):  # plug-ins may be added
        now = {key: value for key, value in now.items() if key in recorded}
    found = list(differences(recorded, now, PARTS[part].tolerance(name)))
    assert not found, "\n".join([f"{part}/{name}, {len(found)} differences:", *found[:LINES]])


@pytest.mark.parametrize("part", PARTS)
def test_every_piece_has_a_record_and_every_record_its_piece(part: str) -> None:
    assert {path.stem for path in (RECORDS / part).iterdir()} == set(PARTS[part].names())


def steps(recipe: dict[str, Any]) -> set[str]:
    """The plug-ins of a recipe of laconic's own."""
    if "merge_method" in recipe:
        return set()
    around = [*recipe.get("before", ()), *recipe.get("after", ())]
    return {recipe["method"], *(name for one in around for name in one)}


def test_every_plug_in_of_the_recorded_list_is_in_a_recorded_recipe() -> None:
    used = set().union(*(steps(recipe) for _, recipe in merges.recipes().values()))
    known = {entry["name"] for entry in read("options", "list-methods").values()}
    assert not (lacking := known - used), (
        f"No recipe of tests/recorded/recipes.yaml has {', '.join(sorted(lacking))}: add one, then "
        "python -m tests.recorded.record merges."
    )


def test_every_controller_of_the_recorded_list_is_in_a_recorded_training() -> None:
    chosen = [one["controller"] for one in mixture.TRAININGS.values()]
    used = {one if isinstance(one, str) else next(iter(one)) for one in chosen}
    known = {entry["name"] for entry in read("options", "list-controllers").values()}
    assert not (lacking := known - used), (
        f"No training of tests/recorded/mixture.py has {', '.join(sorted(lacking))}."
    )


@pytest.mark.parametrize("part", ["merges"])
@pytest.mark.parametrize("name", ["ties", "sparsify", "della", "slerp", "wudi"])
def test_two_threads_merge_as_one(part: str, name: str, folder: Path) -> None:
    now = merges.observe(name, folder, threads=2)
    assert list(differences(read(part, name), now, merges.tolerance(name))) == []
