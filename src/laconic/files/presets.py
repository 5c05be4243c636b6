"""Presets: a folder of YAML files, each read into one typed value and called like its file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from laconic.errors import LaconicError, did_you_mean
from laconic.files.yaml import read_yaml_mapping

if TYPE_CHECKING:
    from pathlib import Path

P = TypeVar("P")


@dataclass(frozen=True)
class PresetFolder(Generic[P]):
    """A folder of presets; adding one means adding a YAML file.

    Attributes:
        folder: Where the files ``NAME.yaml`` lie.
        kind: The dataclass that each file fills; its field ``name`` is the file's name.
        what: What users call such a preset, such as ``training preset``.
        error: What is raised for an unknown name or a damaged file.
        complete: Turns the values of a file into the fields of `kind`; by default they are.
    """

    folder: Path
    kind: type[P]
    what: str
    error: type[LaconicError]
    complete: Callable[[dict[str, Any]], dict[str, Any]] = dict

    def names(self) -> tuple[str, ...]:
        """The names of all presets, in order."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.yaml")))

    def get(self, name: str) -> P:
        """The preset of that name.

        Raises:
            LaconicError: (of the type `error`) For an unknown name, with the nearest, or a file
                that does not fit `kind`.
        """
        if name not in self.names():
            raise self.error(f"No {self.what} '{name}'. {did_you_mean(name, self.names())}")
        preset: P = _read(self, name)
        return preset

    def all(self) -> tuple[P, ...]:
        """Every preset, in order."""
        return tuple(map(self.get, self.names()))


@cache
def _read(presets: PresetFolder[P], name: str) -> P:
    from pydantic import TypeAdapter, ValidationError

    path, what = presets.folder / f"{name}.yaml", f"The {presets.what} {name}"
    values = presets.complete(read_yaml_mapping(path, what, presets.error))
    try:
        return TypeAdapter(presets.kind).validate_python({"name": name, **values})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise presets.error(f"{what} cannot be read: {place}: {first['msg']}.") from None
