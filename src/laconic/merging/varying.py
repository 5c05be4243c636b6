"""Values that differ from tensor to tensor: by name, and along the depth of the model."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RecipeError

if TYPE_CHECKING:
    from laconic.registry import Plugin

Scalar = bool | int | float | str
#: The parts of a model that a `match` may name: globs over tensor names. The weights of a norm
#: within attention belong to both; the first entry that matches wins.
PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "attention": ("*attn.*", "*.attention.*", "*.self_attention.*"),
    "ffn": ("*.mlp.*", "*.ffn.*", "*.feed_forward.*", "*_moe.*"),
    "norm": ("*norm.weight", "*norm.bias"),
    "embedding": ("*embed*",),
    "head": ("lm_head.*", "*.lm_head.*", "embed_out.*", "output.weight"),
    "bias": ("*.bias",),
}


def matches(match: str, name: str) -> bool:
    """Whether a `match`, the name of a part or a glob, matches a tensor's name."""
    if match == "embedding" and matches("head", name):
        return False
    return any(fnmatch.fnmatchcase(name, glob) for glob in PARTS.get(match, (match,)))


def name_hint(names: Sequence[str]) -> str:
    """The end of a message: what names look like, where a `match` fits none of these."""
    return (
        f"A name looks like '{names[len(names) // 2]}'; parts have names of their own: "
        f"{', '.join(PARTS)}."
    )


@dataclass(frozen=True)
class ValueRule:
    """A value for the tensors whose name matches.

    Attributes:
        value: One value, or a gradient: numbers spread evenly over the layers, straight lines
            between them.
        match: A glob over tensor names, such as ``*.mlp.*``, or a part of the model: `PARTS`.
    """

    value: Scalar | tuple[float, ...]
    match: str = "*"

    def fits(self, name: str) -> bool:
        """Whether the rule applies to a tensor."""
        return matches(self.match, name)

    def at(self, layer: int | None, layers: int) -> Scalar:
        """The value in one layer of `layers`; outside the layers the first layer's."""
        if not isinstance(self.value, tuple):
            return self.value
        depth = 0.0 if layer is None else layer / (layers - 1) if layers > 1 else 1.0
        position = min(depth, 1.0) * (len(self.value) - 1)
        left = min(int(position), len(self.value) - 2)
        share = position - left
        return (1 - share) * self.value[left] + share * self.value[left + 1]


@dataclass(frozen=True)
class Varying:
    """A parameter or weight that varies by tensor: the first rule that applies to a tensor wins."""

    rules: tuple[ValueRule, ...]

    @property
    def all_values(self) -> tuple[Scalar, ...]:
        """Every number in the rules; what a gradient gives lies between its numbers."""
        values = (r.value if isinstance(r.value, tuple) else (r.value,) for r in self.rules)
        return tuple(number for value in values for number in value)

    def at(self, name: str, layer: int | None, layers: int) -> Scalar:
        """The value for one tensor.

        Raises:
            RecipeError: Where no rule fits it.
        """
        for rule in self.rules:
            if rule.fits(name):
                return rule.at(layer, layers)
        raise RecipeError(f"No entry fits '{name}'. Close the list with {{value: ...}}.")

    def plain(self) -> list[Any]:
        """The value as a recipe writes it."""
        first = self.rules[0]
        if len(self.rules) == 1 and first.match == "*" and isinstance(first.value, tuple):
            return list(first.value)
        return [
            ({"match": rule.match} if rule.match != "*" else {})
            | {"value": list(rule.value) if isinstance(rule.value, tuple) else rule.value}
            for rule in self.rules
        ]

    def check(self, where: str, names: Sequence[str], absent: Sequence[str] = ()) -> list[str]:
        """Compare the rules with the tensors of the result.

        Args:
            where: What the value is, for messages, such as ``params: t``.
            names: Every tensor of the result.
            absent: Tensors that siblings may have though the result has not.

        Returns:
            What the user should know though it is no error.

        Raises:
            RecipeError: For a rule that matches nothing, or a tensor that no rule fits.
        """
        notes, left = [], list(names)
        for rule in self.rules:
            if not any(map(rule.fits, names)):
                if not any(map(rule.fits, absent)):
                    raise RecipeError(
                        f"{where}: no tensor matches '{rule.match}'. {name_hint(names)}"
                    )
                notes.append(f"{where}: '{rule.match}' matches only what the result has not.")
            elif not any(map(rule.fits, left)):
                notes.append(f"{where}: '{rule.match}' has no effect, entries before it take all.")
            left = [name for name in left if not rule.fits(name)]
        if left:
            raise RecipeError(
                f"{where}: no entry fits '{left[0]}' ({len(left)} such tensors). "
                "Close the list with {value: ...}."
            )
        return notes


def varying(value: Sequence[Any], where: str) -> Varying:
    """Read a list: of numbers (a gradient), or of ``{match: GLOB, value: NUMBER or numbers}``.

    Raises:
        RecipeError: For a list of anything else.
    """
    if value and all(is_number(v) for v in value):
        return Varying((ValueRule(_rule_value(value, where)),))
    rules = []
    for entry in value:
        if not isinstance(entry, Mapping) or not {"value"} <= entry.keys() <= {"match", "value"}:
            break
        match = entry.get("match", "*")
        if not isinstance(match, str):
            raise RecipeError(f"{where}: match must be a glob such as '*.mlp.*', got {match!r}.")
        rules.append(ValueRule(_rule_value(entry["value"], where), match))
    if not rules or len(rules) < len(value):
        raise RecipeError(
            f"{where}: write a value, numbers along the layers [0.0, 1.0], or a list of "
            f"{{match: GLOB, value: VALUE}}, got {value!r}."
        )
    return Varying(tuple(rules))


def value_at(value: Any, name: str, layer: int | None, layers: int) -> Any:
    """The value for one tensor, of a parameter or weight that may vary."""
    return value.at(name, layer, layers) if isinstance(value, Varying) else value


def plain_value(value: Any) -> Any:
    """A value as a recipe writes it, or a mapping of such values."""
    if isinstance(value, Varying):
        return value.plain()
    return {k: plain_value(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def bind(plugin: Plugin[Any], values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check parameters as `Plugin.bind` does, of which lists may vary by tensor.

    Each number of such a list is checked.

    Raises:
        RecipeError: As `Plugin.bind`, and for lists that cannot be meant.
    """
    lists = {
        key: varying(value, f"{where}: {key}")
        for key, value in values.items()
        if isinstance(value, list | tuple) and not plugin.takes_list(key)
    }
    plain = {**values, **{key: value.all_values[0] for key, value in lists.items()}}
    bound = plugin.bind(plain, where=where)
    for key, value in lists.items():
        for single in value.all_values[1:]:
            plugin.bind({**plain, key: single}, where=where)
    return {**bound, **lists}


def _rule_value(value: object, where: str) -> Any:
    """A rule's value: one scalar, or the numbers of a gradient."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Sequence) and value and all(is_number(v) for v in value):
        return tuple(float(v) for v in value) if len(value) > 1 else float(value[0])
    raise RecipeError(f"{where}: write a value or a list of numbers, got {value!r}.")


def is_number(value: object) -> bool:
    """Whether a value is a finite number, truth values not counted."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)
