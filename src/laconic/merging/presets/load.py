"""Merge presets: recipes from the paper without their checkpoints, with the figures it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RecipeError, did_you_mean
from laconic.files.yaml import read_yaml_mapping
from laconic.merging.recipe import Recipe
from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS

if TYPE_CHECKING:
    from laconic.registry import Registry

DATA: Final = Path(__file__).with_name("merge_presets.yaml")
#: Accuracy in % and mean tokens of each data set.
Figures = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class MergePreset:
    """A recipe from the paper, and what it says came of it.

    Attributes:
        name: The name users write.
        summary: Method and values in the paper's words.
        base: The paper's System 1.
        model: The paper's System 2.
        recipe: A recipe's plain values, without checkpoints.
        warnings: What to know before figures are compared.
        figures: What the paper reports of the merge; empty where it does not.
        system1: The same of the base.
        system2: The same of the model.
        average: The paper's mean accuracy, %.
        length: The paper's mean change of length against System 2, %.
        rerun: Average accuracy in %, mean tokens and change of length in % of an independent run
            with a window of 15,000 tokens.
    """

    name: str
    summary: str
    base: str
    model: str
    recipe: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    figures: Figures = field(default_factory=dict)
    system1: Figures = field(default_factory=dict)
    system2: Figures = field(default_factory=dict)
    average: float | None = None
    length: float | None = None
    rerun: tuple[float, float, float] | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """The plug-ins of its recipe that are not there, such as ``method 'sens'``."""
        plain = Recipe(models=["model"], **self.recipe)
        wanted: list[tuple[Registry[Any], str]] = [(METHODS, plain.method)]
        wanted += [(TRANSFORMS, step.name) for step in plain.before]
        wanted += [(ADJUSTMENTS, step.name) for step in plain.after]
        return tuple(f"{r.family} '{name}'" for r, name in wanted if name not in r)

    def values(self) -> dict[str, Any]:
        """A recipe's plain values, to which base and models are to be added.

        Raises:
            RecipeError: Where it needs a plug-in that is not there.
        """
        if self.missing:
            raise RecipeError(
                f"The preset '{self.name}' needs the {' and the '.join(self.missing)}, which "
                "this installation does not have. laconic list presets marks those that run."
            )
        start = f"Started from the preset {self.name}: {self.summary} (Wu et al. 2025)."
        return {**self.recipe, "notes": [start, *self.warnings]}

    @property
    def figures_in_short(self) -> str:
        """The paper's figures in a few words."""
        words = []
        if self.average is not None:
            words.append(f"accuracy {self.average}")
        elif "MATH500" in self.figures:
            words.append(f"MATH500 {self.figures['MATH500'][0]}")
        elif "AIME24" in self.figures:
            words.append(f"AIME24 {self.figures['AIME24'][0]}")
        if self.length is not None:
            words.append(f"length {self.length:+} %")
        return ", ".join(words) or "none published"


@cache
def presets() -> Mapping[str, MergePreset]:
    """Every merge preset, by name, in the paper's order."""
    data = read_yaml_mapping(DATA, "The presets", RecipeError)
    return {name: _preset(name, entry, data) for name, entry in data["presets"].items()}


def find_preset(name: str) -> MergePreset:
    """The preset of that name.

    Raises:
        RecipeError: Where there is none, with the nearest name.
    """
    if name not in presets():
        raise RecipeError(f"No merge preset '{name}'. {did_you_mean(name, presets())}")
    return presets()[name]


def _preset(name: str, entry: Mapping[str, Any], data: Mapping[str, Any]) -> MergePreset:
    pair = data["pairs"][entry["pair"]]
    return MergePreset(
        name=name,
        summary=entry["summary"],
        base=pair["base"],
        model=pair["model"],
        recipe=entry["recipe"],
        warnings=tuple(
            data["warnings"][key] for key in (*entry.get("warnings", ()), *pair["warnings"])
        ),
        figures=_figures(entry.get("runs", {})),
        system1=_figures(pair["system1"]),
        system2=_figures(pair["system2"]),
        average=entry.get("average"),
        length=entry.get("length"),
        rerun=tuple(entry["rerun"]) if "rerun" in entry else None,
    )


def _figures(runs: Mapping[str, Any]) -> Figures:
    return {task: (accuracy, tokens) for task, (accuracy, tokens) in runs.items()}
