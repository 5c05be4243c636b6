"""Merge presets: the paper's hyper-parameters, its figures, and what is refused."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Any

import pytest

from laconic.errors import RecipeError
from laconic.merging.presets.load import PRESETS, MergePreset
from laconic.merging.recipe import Recipe
from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS

if TYPE_CHECKING:
    from laconic.registry import Registry

SIZES = ("1.5b", "7b", "14b", "32b")
#: Table 7 of the paper: alpha of task arithmetic; k and alpha of TIES; p of DARE.
TABLE = {
    "1.5b": (0.7, (0.8, 1.0), 0.3),
    "7b": (0.7, (0.8, 1.0), 0.3),
    "14b": (0.7, (0.2, 0.5), 0.4),
    "32b": (0.7, (0.25, 0.55), None),
}


def recipe(name: str) -> Recipe:
    return Recipe(models=["model"], base="base", **PRESETS.get(name).values())


@pytest.mark.parametrize("size", SIZES)
def test_presets_hold_the_values_of_the_papers_table(size: str) -> None:
    scale, (k, alpha), p = TABLE[size]
    assert recipe(f"l2s-{size}-ta").params == {"scale": scale}
    params = recipe(f"l2s-{size}-ties").params
    assert params["density"] == pytest.approx(1 - k)
    assert params["scale"] == alpha
    if p is None:
        assert "l2s-32b-dare" not in PRESETS.names()
        return
    for kind, second in (("dare-ta", "ta"), ("dare-ties", "ties"), ("dare", None)):
        made = recipe(f"l2s-{size}-{kind}")
        assert made.before[0].name == "dare"
        assert made.before[0].params["density"] == pytest.approx(1 - p)
        if second:
            assert made.params == recipe(f"l2s-{size}-{second}").params


def test_the_qwen3_preset_keeps_what_k_0_7_does_not_drop() -> None:
    assert recipe("l2s-qwen3-8b-ties").params == {"density": 0.3, "scale": 0.7}


@pytest.mark.parametrize("preset", PRESETS.all(), ids=lambda p: p.name)
def test_a_presets_figures_add_up(preset: MergePreset) -> None:
    assert set(preset.figures) <= set(preset.system2)
    if preset.average is not None:
        assert mean(a for a, _ in preset.figures.values()) == pytest.approx(
            preset.average, abs=0.051
        )
    if preset.length is not None:
        changes = [100 * (n / preset.system2[t][1] - 1) for t, (_, n) in preset.figures.items()]
        # The paper's DARE-TA is misprinted by one point, which its preset says.
        slack = 1.06 if preset.name == "l2s-7b-dare-ta" else 0.11
        assert mean(changes) == pytest.approx(preset.length, abs=slack)


@pytest.mark.parametrize("preset", PRESETS.all(), ids=lambda p: p.name)
def test_a_presets_values_are_parameters_of_its_steps(preset: MergePreset) -> None:
    plain = Recipe(models=["model"], **preset.recipe)
    steps: list[tuple[Registry[Any], str, Any]] = [(METHODS, plain.method, plain.params)]
    steps += [(TRANSFORMS, s.name, s.params) for s in plain.before]
    steps += [(ADJUSTMENTS, s.name, s.params) for s in plain.after]
    for registry, name, params in steps:
        if name in registry:
            known = {p.name for p in registry.get(name).parameters}
            assert set(params) <= known


def test_window_and_tied_head_are_warned_of_where_they_matter() -> None:
    for size in SIZES:
        text = " ".join(PRESETS.get(f"l2s-{size}-ties").warnings)
        assert ("4,096" in text) == (size in ("1.5b", "7b"))
        assert ("tied" in text) == (size == "1.5b")
    notes = recipe("l2s-1.5b-ties").notes
    assert any("4,096" in note for note in notes)
    assert notes[0].startswith("Started from the preset l2s-1.5b-ties")


def test_a_preset_of_a_step_that_is_not_there_is_refused() -> None:
    preset = MergePreset("p", "", "b", "m", {"method": "nothing", "after": [{"neither": {}}]})
    assert preset.missing == ("method 'nothing'", "adjustment 'neither'")
    with pytest.raises(
        RecipeError, match="needs the method 'nothing' and the adjustment 'neither'"
    ):
        preset.values()


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'l2s-7b-ties'"):
        PRESETS.get("l2s-7b-tise")
