"""Training presets: the settings of a paper as a recipe, with its figures and notes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from laconic.errors import RecipeError, did_you_mean
from laconic.files.presets import PresetFolder

FOLDER: Final = Path(__file__).parent
#: Configurations of accelerate, named as users write them.
LAUNCH: Final = FOLDER.parent / "launch"


@dataclass(frozen=True)
class ModelSize:
    """The size of a model, for cost estimates: parameters, layers and width."""

    parameters: int
    layers: int
    hidden: int


@dataclass(frozen=True)
class TrainingPreset:
    """A paper's settings.

    Attributes:
        name: Its name, that of its file.
        summary: What it reproduces, in one line.
        source: The paper, and the place in it.
        size: The size of the model, for a dry run.
        lengths: Trained tokens of a row by pool, for a dry run without the data.
        answer: Tokens of an answer of System 2 to a dev problem.
        figures: Accuracy in percent and mean tokens that the source gives, by model and task, or by
            model where it names one task.
        notes: What to know before comparing with the figures.
        recipe: A recipe's plain values.
    """

    name: str
    summary: str
    source: str
    size: ModelSize
    lengths: Mapping[str, float]
    answer: float
    figures: Mapping[str, Any]
    notes: tuple[str, ...]
    recipe: Mapping[str, Any]


#: The training presets of the package.
PRESETS: Final = PresetFolder(FOLDER, TrainingPreset, "training preset", RecipeError)


def read_launch(name: str) -> str:
    """A configuration of accelerate as text.

    Raises:
        RecipeError: For an unknown name, with the nearest.
    """
    known = sorted(path.stem for path in LAUNCH.glob("*.yaml"))
    if name not in known:
        raise RecipeError(f"There is no launch configuration '{name}'. {did_you_mean(name, known)}")
    return (LAUNCH / f"{name}.yaml").read_text(encoding="utf-8")
