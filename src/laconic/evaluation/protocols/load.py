"""Reads the protocols of papers: tasks, prompts, sampling and published figures, a file each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from laconic.errors import TaskError, did_you_mean
from laconic.files.presets import PresetFolder
from laconic.registry import parse_spec

ROLE: Final = "system2"


@dataclass(frozen=True)
class RoleProtocol:
    """How models of one role are asked.

    Attributes:
        prompt: A prompt's name.
        max_tokens: The budget of one completion.
    """

    prompt: str
    max_tokens: int


@dataclass(frozen=True)
class Protocol:
    """A paper's protocol.

    Attributes:
        name: How users call it: its file's name.
        summary: What it repeats, in one line.
        source: The paper, and where in it.
        tasks: Completions per problem, by task.
        roles: How models are asked: ``system2`` (merges, too), ``system1``.
        temperature: 0 is greedy.
        top_p: The probability mass kept.
        figures: Published accuracy in percent and mean tokens (None where not published), by model
            or method and by task.
        notes: What a reader must know before comparing.
    """

    name: str
    summary: str
    source: str
    tasks: Mapping[str, int]
    roles: Mapping[str, RoleProtocol]
    temperature: float
    top_p: float
    figures: Mapping[str, Mapping[str, tuple[float, float | None]]]
    notes: tuple[str, ...]

    def choose(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The tasks that are wanted; all tasks if none is named.

        Raises:
            TaskError: For one that the protocol does not have.
        """
        for spec in wanted:
            if parse_spec(spec)[0] not in self.tasks:
                raise TaskError(
                    f"--task {spec}: the preset {self.name} has no such task. "
                    f"{did_you_mean(spec, self.tasks)}"
                )
        return tuple(wanted) or tuple(self.tasks)


def find_protocol(spec: str) -> tuple[Protocol, str]:
    """The protocol and the role that ``NAME`` or ``NAME:role=system1`` says.

    Raises:
        TaskError: For an unknown name, key or role.
    """
    name, values = parse_spec(spec)
    protocol = PRESETS.get(name)
    role = values.pop("role", ROLE)
    if values:
        raise TaskError(f"--preset {spec}: there is no '{next(iter(values))}', only 'role'.")
    if role not in protocol.roles:
        nearest = did_you_mean(str(role), protocol.roles)
        raise TaskError(f"--preset {spec}: {name} has no role '{role}'. {nearest}")
    return protocol, role


#: The protocols of the package.
PRESETS: Final = PresetFolder(Path(__file__).parent, Protocol, "preset", TaskError)
