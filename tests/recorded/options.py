"""Names, order and defaults of the command line's options, and of the plug-ins' parameters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin

import typer

from laconic.cli import app
from tests.recorded.command import laconic, laconic_json
from tests.recorded.compare import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: The verb that is free to change.
FREE: Final = ("lab", "study")
KINDS: Final = ("methods", "tasks", "backends", "controllers", "presets", "prompts")
#: Keys that hold prose.
PROSE: Final = {"help", "summary", "source", "needs", "notes", "warnings", "origin", "problems"}


def names() -> list[str]:
    """Every piece of this part."""
    return ["commands", *(f"list-{kind}" for kind in KINDS), "train-presets"]


def tolerance(name: str) -> float:
    """The relative difference that counts as none."""
    del name
    return TOLERANCE


def prepare(folder: Path) -> None:
    """Nothing is needed."""
    del folder


def observe(name: str, folder: Path) -> Any:
    """What a piece comes to."""
    if name == "commands":
        return json.loads(json.dumps(dict(_commands(typer.main.get_command(app), ())), default=str))
    if name == "train-presets":
        return {one: _train_preset(one, folder) for one in ("lab", "tldr-7b", "tldr-14b")}
    kind = name.removeprefix("list-")
    listed = laconic_json("list", kind, "--json", folder=folder)
    return {_key(entry): _without_prose(entry) for entry in listed}


def _key(entry: dict[str, Any]) -> str:
    """A plug-in's name; presets of several kinds share names."""
    return f"{entry['name']} ({entry['family']})" if "family" in entry else str(entry["name"])


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, list[Any]]]:
    """Every verb with its parameters in the order of its help."""
    if path == FREE:
        return
    yield " ".join(("laconic", *path)), [_parameter(one) for one in command.params]
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, (*path, name))


def _parameter(one: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "names": [*one.opts, *one.secondary_opts],
        "default": one.default,
        "required": one.required,
        "several": one.nargs == -1 or bool(getattr(one, "multiple", False)),
    }
    asked = one.type_descriptor.annotation
    choices = [list(get_args(a)) for a in (asked, *get_args(asked)) if get_origin(a) is Literal]
    told["type"] = choices[0] if choices else getattr(asked, "__name__", str(asked))
    told |= {edge: getattr(one, edge) for edge in ("min", "max") if getattr(one, edge) is not None}
    return told


def _train_preset(name: str, folder: Path) -> list[str]:
    file = f"train-{name}.yaml"
    laconic("train", "--preset", name, "--write", "recipe", "-o", file, folder=folder)
    lines = (folder / file).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def _without_prose(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_prose(one) for key, one in value.items() if key not in PROSE}
    return [_without_prose(one) for one in value] if isinstance(value, list) else value
