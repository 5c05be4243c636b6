"""What the command line says of presets, and how it takes a merge preset."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml
from rich.markup import escape
from rich.table import Table

from laconic.cli.terminal import out
from laconic.errors import RecipeError

if TYPE_CHECKING:
    from laconic.merging.presets.load import MergePreset


def described_presets() -> list[dict[str, Any]]:
    """Every preset as JSON holds it: evaluation and training presets, then merge presets."""
    from laconic.evaluation.protocols.load import PRESETS as EVALUATION
    from laconic.training.presets.load import PRESETS as TRAINING

    return [
        *(_described("evaluation preset", preset) for preset in EVALUATION.all()),
        *(_described("training preset", preset) for preset in TRAINING.all()),
        *map(_described_merge, _merge_presets()),
    ]


def show_settings(found: list[dict[str, Any]]) -> None:
    """Print evaluation and training presets of one name, whole."""
    for facts in found:
        shown = {k: v for k, v in facts.items() if k not in ("name", "family", "notes")}
        out.print(f"[bold]{facts['name']}[/] ({facts['family']})\n")
        text = yaml.safe_dump(shown, sort_keys=False, width=78, default_flow_style=None)
        out.print("\n".join([text, *facts["notes"], ""]), markup=False)


def _merge_presets() -> list[MergePreset]:
    """The merge presets, in the paper's order."""
    from laconic.merging.presets.load import PRESETS

    return sorted(PRESETS.all(), key=lambda preset: preset.order)


def print_presets() -> None:
    """Print every merge preset: name, method and values, the paper's figures, what it lacks."""
    table = Table("name", "merge", "in the paper", "runs here", box=None, pad_edge=False)
    for preset in _merge_presets():
        lacks = f"no: needs {', '.join(preset.missing)}" if preset.missing else "yes"
        table.add_row(preset.name, *map(escape, (preset.summary, preset.figures_in_short, lacks)))
    out.print()
    out.print(table)
    out.print(
        "\nAccuracies in %, lengths against System 2. laconic show NAME has the figures by data "
        "set and what to know before comparing with them.",
        markup=False,
    )


def show_preset(name: str) -> None:
    """Print a merge preset: its recipe, figures by data set, warnings and command."""
    from laconic.merging.presets.load import PRESETS

    preset = PRESETS.get(name)
    out.print(f"[bold]{preset.name}[/] (merge preset)\n")
    out.print(f"{preset.summary}. Wu et al. 2025 (arXiv 2503.20641), Table 7.\n", markup=False)
    out.print(yaml.safe_dump(dict(preset.recipe), sort_keys=False), markup=False)
    out.print(_figures(preset))
    if preset.average is not None or preset.length is not None:
        out.print(f"\nAs the paper sums it up: {preset.figures_in_short}.", markup=False)
    if preset.rerun:
        accuracy, tokens, change = preset.rerun
        out.print(
            f"\nAn independent run, window 15,000, mean of six data sets: accuracy {accuracy}, "
            f"{tokens} tokens ({change:+} %).",
            markup=False,
        )
    for warning in preset.warnings:
        out.print(f"\n{warning}", markup=False)
    if preset.missing:
        out.print(f"\nIt needs the {' and the '.join(preset.missing)}, not there.", markup=False)
    out.print(f"\n{command(preset)}", markup=False, soft_wrap=True)


def preset_values(name: str, flags: dict[str, Any], *, recipe: object) -> dict[str, Any]:
    """The plain recipe that ``--preset NAME`` stands for, once the checkpoints are named.

    Raises:
        RecipeError: For an unknown preset, one that cannot run, a recipe file beside it, or
            missing checkpoints.
    """
    from laconic.merging.presets.load import PRESETS

    preset = PRESETS.get(name)
    if recipe is not None:
        raise RecipeError(f"Give either a recipe file or --preset {name}, not both.")
    values = preset.values()
    if not flags["base"] or not flags["models"]:
        raise RecipeError(
            f"--preset {name} needs --base (System 1) and --model (System 2). The paper's pair: "
            f"{command(preset)}"
        )
    return values


def command(preset: MergePreset) -> str:
    """The command that makes the paper's merge."""
    return (
        f"laconic merge --preset {preset.name} --base {preset.base} --model {preset.model} "
        "-o merged"
    )


def _figures(preset: MergePreset) -> Table:
    """The paper's accuracies and lengths by data set."""
    table = Table("accuracy % (tokens)", "System 1", "System 2", "this merge", box=None)
    for task in preset.system2:
        cells = [
            f"{rows[task][0]} ({rows[task][1]})" if task in rows else "-"
            for rows in (preset.system1, preset.system2, preset.figures)
        ]
        table.add_row(task, *cells)
    return table


def _described(family: str, preset: Any) -> dict[str, Any]:
    """A preset as JSON and YAML hold it."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(preset)))
    return {"family": family, **values}


def _described_merge(preset: MergePreset) -> dict[str, Any]:
    values = _described("merge preset", preset) | {"missing": list(preset.missing)}
    del values["order"]
    return values
