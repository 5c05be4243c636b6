"""``laconic list`` and ``laconic show``: what there is, and what one of them does."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from laconic.cli import evaluate
from laconic.cli.list_presets import described_presets, print_presets, show_preset, show_settings
from laconic.cli.options import Json
from laconic.cli.terminal import out
from laconic.errors import LaconicError, did_you_mean

if TYPE_CHECKING:
    from laconic.registry import Plugin, Registry
    from laconic.tasks.contract.dataset import Dataset


def list_(
    kind: Annotated[
        Literal[
            "methods",
            "tasks",
            "backends",
            "strategies",
            "controllers",
            "objectives",
            "rewards",
            "presets",
            "prompts",
        ],
        typer.Argument(help="What to list."),
    ],
    as_json: Json = False,
) -> None:
    """List methods (with transforms and adjustments), tasks, backends, presets and others."""
    if kind == "presets":
        listed = described_presets()
    elif kind == "prompts":
        listed = evaluate.prompts()
    else:
        listed = [_described(p) for registry in _registries()[kind] for p in registry.all()]
    if as_json:
        out.print_json(json.dumps(listed))
        return
    if kind == "presets":  # merge presets have a table of their own
        listed = [one for one in listed if one["family"] != "merge preset"]
    columns = ("name", "is a", "summary", *(["source"] if kind == "methods" else []))
    table = Table(*columns, box=None, pad_edge=False)
    for one in listed:
        source = str(one.get("source", "")).split("; ")[0].rstrip(".")
        family = one["family"] + (" (experimental)" if one.get("experimental") else "")
        cells = (one["name"], family, one["summary"], source)
        table.add_row(*map(escape, cells[: len(columns)]))
    out.print(table)
    if kind == "presets":
        print_presets()


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A method, transform, adjustment, task, backend, strategy, controller, objective, "
            "reward or preset."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Explain one of them: what it does, its parameters, its source."""
    plugins = {p.name: p for group in _registries().values() for r in group for p in r.all()}
    presets = [one for one in described_presets() if one["name"] == name]
    if presets:
        _show_presets(presets, as_json=as_json)
        return
    if name not in plugins:
        known = [*plugins, *(one["name"] for one in described_presets())]
        raise LaconicError(f"Nothing is called '{name}'. {did_you_mean(name, known)}")
    plugin = plugins[name]
    if as_json:
        out.print_json(json.dumps(_described(plugin)))
        return
    out.print(f"[bold]{plugin.name}[/] ({plugin.family})\n")
    text = re.sub(r"\nArgs:\n(?:(?: {4}.*)?\n)+", "\n", plugin.help)
    out.print(re.sub(r"(?<=\S)\n(?=\S)", " ", text), markup=False)
    if dataset := _dataset(plugin):
        out.print(f"\nProblems: {dataset.origin}", markup=False)
    if told := _needs(plugin):
        out.print("\n" + " ".join(told), markup=False)
    if plugin.parameters:
        out.print()
        table = Table("parameter", "is", "default", "what", box=None, pad_edge=False)
        for parameter in plugin.parameters:
            default = "required" if parameter.required else str(parameter.default)
            cells = (parameter.kind, default, parameter.help)
            table.add_row(parameter.name, *map(escape, cells))
        out.print(table)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command(name="list")(list_)
    app.command()(show)


def _registries() -> dict[str, tuple[Registry[Any], ...]]:
    from laconic.backends.contract.backend import BACKENDS
    from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS
    from laconic.strategies.contract.strategy import STRATEGIES
    from laconic.tasks.contract.task import TASKS
    from laconic.training.controllers.contract import CONTROLLERS
    from laconic.training.objectives.contract import OBJECTIVES
    from laconic.training.rewards.contract import REWARDS

    return {
        "methods": (METHODS, TRANSFORMS, ADJUSTMENTS),
        "tasks": (TASKS,),
        "backends": (BACKENDS,),
        "strategies": (STRATEGIES,),
        "controllers": (CONTROLLERS,),
        "objectives": (OBJECTIVES,),
        "rewards": (REWARDS,),
    }


def _show_presets(presets: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print the presets of one name: one merge preset, or those of evaluation and training."""
    merges = [one for one in presets if one["family"] == "merge preset"]
    if as_json:
        out.print_json(json.dumps(merges[0] if merges else presets))
    elif merges:
        show_preset(merges[0]["name"])
    else:
        show_settings(presets)


def _described(plugin: Plugin[Any]) -> dict[str, Any]:
    """A plug-in as JSON holds it."""
    return {
        "name": plugin.name,
        "family": plugin.family,
        "summary": plugin.summary,
        "help": plugin.help,
        "source": plugin.source,
        "needs": _needs(plugin),
        "experimental": getattr(plugin.traits, "experimental", False),
        "parameters": [vars(p) for p in plugin.parameters],
        **({"problems": dataset.origin} if (dataset := _dataset(plugin)) else {}),
    }


def _dataset(plugin: Plugin[Any]) -> Dataset | None:
    """Where a task's problems come from; None of other plug-ins, and of tasks that make theirs."""
    return plugin.traits["dataset"] if plugin.family == "task" else None


def _needs(plugin: Plugin[Any]) -> list[str]:
    """What a step of a merge takes and costs; nothing of other plug-ins."""
    from laconic.merging.describe import describe_step

    return describe_step(plugin) if plugin.family in ("method", "transform", "adjustment") else []
