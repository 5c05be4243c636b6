"""Merge presets: recipes from the paper without their checkpoints, with the figures it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RecipeError
from laconic.files.presets import PresetFolder
from laconic.files.yaml import read_yaml_mapping
from laconic.merging.recipe import Recipe
from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS

if TYPE_CHECKING:
    from laconic.registry import Registry

FOLDER: Final = Path(__file__).parent
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
            with a window of 15,000 tokens (the paper's scripts, zero-shot, greedy, 10,240 new
            tokens).
        order: Its place among the paper's merges, for lists.
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
    order: int = 1000

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
def _pair(name: str) -> Mapping[str, Any]:
    """The two checkpoints that a preset merges: their names, figures and warnings."""
    return read_yaml_mapping(FOLDER / "pairs" / f"{name}.yaml", f"The pair {name}", RecipeError)


def _complete(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a preset: those of its file, then those of its pair."""
    pair = _pair(values.pop("pair"))
    return {**pair, **values, "warnings": [*values.get("warnings", ()), *pair["warnings"]]}


#: The merge presets of the package.
PRESETS: Final = PresetFolder(FOLDER, MergePreset, "merge preset", RecipeError, _complete)
