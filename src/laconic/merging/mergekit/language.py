"""mergekit's configuration files: models whose parameters stand at levels, by filter and layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from laconic.errors import RecipeError, did_you_mean

#: Parameters that mergekit accepts anywhere; it ignores those that a method does not use.
PARAMETERS: Final = (
    "weight", "density", "normalize", "rescale", "lambda", "int8_mask", "t", "epsilon", "gamma",
    "select_topk", "filter_wise", "scale",
)  # fmt: skip
#: What to do with a configuration that only mergekit can carry out.
BY_MERGEKIT: Final = (
    "Or let mergekit carry it out (mergekit-yaml FILE FOLDER): laconic takes the folder that it "
    "writes wherever it takes a checkpoint."
)
#: A value, the numbers of a gradient, or ``{match, value}`` entries, as recipes write them.
ParameterValue = Any
#: Where a parameter may stand, the nearest place first: the place's name and its mapping.
Levels = tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class Source:
    """One entry of ``models``, or of a slice's ``sources``.

    Attributes:
        model: The checkpoint.
        levels: Where its parameters stand.
    """

    model: str
    levels: Levels


@dataclass
class MergekitConfig:
    """A mergekit configuration, parsed; notes are added while it is translated.

    Attributes:
        method: mergekit's name of the method.
        base: Its ``base_model``.
        sources: Its models; the base is the last of them where it is not listed.
        levels: Where parameters of no one model stand.
        layers: How many layers a slice speaks of; None without slices.
        notes: What the user should know though it is no error.
    """

    method: str
    base: str | None
    sources: list[Source]
    levels: Levels
    layers: int | None
    notes: list[str] = field(default_factory=list)

    @property
    def others(self) -> list[Source]:
        """The sources that are not the base."""
        return [source for source in self.sources if source.model != self.base]

    def number(self, key: str, default: float | None = None) -> ParameterValue:
        """A parameter of the whole merge that is a number."""
        return _setting(key, self.levels, _number, default, self.method)

    def switch(self, key: str, *, default: bool) -> ParameterValue:
        """A parameter of the whole merge that is true or false."""
        return _setting(key, self.levels, _switch, default, self.method)

    def of_each(
        self, key: str, sources: Sequence[Source], default: float | None
    ) -> list[ParameterValue]:
        """A parameter of each model."""
        return [_setting(key, s.levels, _number, default, s.model) for s in sources]


def parse(config: Mapping[str, Any], method: str, used: Sequence[str]) -> MergekitConfig:
    """The models of a configuration with their parameters.

    Args:
        config: The configuration.
        method: Its method.
        used: The parameters that the method uses.

    Raises:
        RecipeError: For what is unknown, cannot be meant, or is not supported, by name.
    """
    top: Levels = (("parameters", _parameters(config, "The configuration")),)
    if bool(config.get("models")) == bool(config.get("slices")):
        raise RecipeError("A mergekit configuration has either models: or slices:.")
    layers = None
    if config.get("models"):
        where, entries = "models", _list(config["models"], "models")
    else:
        slices = _list(config["slices"], "slices")
        if len(slices) > 1:
            raise RecipeError(
                f"slices: {len(slices)} entries put a model together from parts, which is not "
                f"supported. For whole models write models:. {BY_MERGEKIT}"
            )
        part = as_mapping(slices[0], "slices.0")
        check_keys(part, ("sources", "parameters"), "slices.0")
        top = (("slices.0.parameters", _parameters(part, "slices.0")), *top)
        where, entries = "slices.0.sources", _list(part.get("sources"), "slices.0.sources")
        layers = _layers(entries)
    sources = [_source(entry, f"{where}.{i}", top) for i, entry in enumerate(entries)]
    models = [source.model for source in sources]
    for model in models:
        if models.count(model) > 1:
            raise RecipeError(f"{where}: {model} is listed twice. Sum its weights in one entry.")
    base = config.get("base_model")
    if base is not None and model_name(base, "base_model") not in models:
        sources.append(Source(base, top))
    parsed = MergekitConfig(method, base, sources, top, layers)
    _check_names(parsed, used)
    return parsed


def _source(entry: object, where: str, top: Levels) -> Source:
    values = as_mapping(entry, where)
    known = ("model", "parameters", "layer_range")
    check_keys(values, known[:2] if where.startswith("models") else known, where)
    model = model_name(values.get("model"), f"{where}.model")
    parameters = _parameters(values, where)
    return Source(model, ((f"{where}.parameters", parameters), *top) if parameters else top)


def _layers(entries: Sequence[Any]) -> int:
    """The layers of a slice of whole models."""
    ranges = [
        _list(as_mapping(entry, "sources").get("layer_range"), "sources: layer_range")
        for entry in entries
    ]
    first = ranges[0]
    if len(first) != 2 or any(type(i) is not int for i in first) or first[1] <= first[0]:
        raise RecipeError(f"sources: layer_range must be [0, LAYERS], got {first}.")
    if first[0] != 0 or any(other != first for other in ranges):
        raise RecipeError(
            f"slices: layer ranges {ranges} are not those of whole models. Taking layers apart is "
            f"not supported: give every source the range [0, LAYERS]. {BY_MERGEKIT}"
        )
    return int(first[1])


def _check_names(parsed: MergekitConfig, used: Sequence[str]) -> None:
    """Refuse unknown parameters; say which of mergekit's have no effect."""
    levels = [level for source in parsed.sources for level in source.levels]
    for where, values in dict.fromkeys((w, tuple(v)) for w, v in [*levels, *parsed.levels]):
        for key in values:
            if key not in PARAMETERS:
                raise RecipeError(
                    f"{where}: {parsed.method} has no '{key}'. {did_you_mean(key, used)}"
                )
            if key not in used:
                parsed.notes.append(f"{where}: {key} has no effect in {parsed.method}.")
    for source in parsed.sources:
        if parsed.method != "linear" and source.model == parsed.base:
            model_levels = source.levels[: len(source.levels) - len(parsed.levels)]
            parsed.notes += [
                f"{where}: the base's parameters have no effect." for where, _ in model_levels
            ]


def _setting(
    key: str,
    levels: Levels,
    convert: Callable[[object], float | bool | None],
    default: float | bool | None,
    owner: str,
) -> ParameterValue:
    """A parameter as laconic writes it: the nearest level wins, and in it the first filter."""
    entries: list[dict[str, Any]] = []
    for where, values in levels:
        if key in values:
            entries += _entries(values[key], f"{where}: {key}", convert)
        if entries and "match" not in entries[-1]:
            break
    else:
        if default is None and not entries:
            raise RecipeError(
                f"{owner} has no {key}, which its method needs. Add it to parameters."
            )
        entries += [] if default is None else [{"value": default}]
    if "match" in entries[0]:
        return entries
    return entries[0]["value"]


def _entries(
    value: object, where: str, convert: Callable[[object], float | bool | None]
) -> list[dict[str, Any]]:
    """A level's entries up to the first that fits every tensor."""
    if not isinstance(value, Sequence) or not any(isinstance(v, Mapping) for v in value):
        return [{"value": _value(value, where, convert)}]
    entries: list[dict[str, Any]] = []
    for entry in value:
        if not isinstance(entry, Mapping) or "value" not in entry:
            raise RecipeError(
                f"{where}: write {{filter: PART OF A NAME, value: ...}}, got {entry!r}."
            )
        check_keys(entry, ("filter", "value"), where)
        part = entry.get("filter")
        plain = {"value": _value(entry["value"], where, convert)}
        if part in (None, "", "*"):
            return [*entries, plain]
        if not isinstance(part, str) or not part.isascii() or set(part) & set("*?[] "):
            raise RecipeError(
                f"{where}: filter {part!r} can match nothing. mergekit's filters are parts of "
                "tensor names, not patterns, such as 'mlp' or 'self_attn.q_proj'."
            )
        entries.append({"match": f"*{part}*", **plain})
    return entries


def _value(
    value: object, where: str, convert: Callable[[object], float | bool | None]
) -> float | bool | list[float]:
    """One value, or the numbers of a gradient."""
    converted = convert(value)
    if converted is not None:
        return converted
    if convert is _number and isinstance(value, Sequence) and not isinstance(value, str) and value:
        numbers = [_number(v) for v in value]
        if None not in numbers:
            return [float(n) for n in numbers if n is not None] if len(numbers) > 1 else numbers[0]  # type: ignore[return-value]  # None is not in it
    kind = "a number, or numbers along the layers" if convert is _number else "true or false"
    raise RecipeError(f"{where} must be {kind}, got {value!r}.")


def _number(value: object) -> float | None:
    """A number as mergekit reads it, from text too: YAML takes 1e-1 for text."""
    try:
        number = float(value) if isinstance(value, int | float | str) else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


def _switch(value: object) -> bool | None:
    return bool(value) if isinstance(value, int | float) else None


def all_numbers(setting: ParameterValue) -> list[float]:
    """Every number that a setting speaks of."""
    if not isinstance(setting, list):
        return [setting]
    return [
        n
        for part in setting
        for n in all_numbers(part["value"] if isinstance(part, dict) else part)
    ]


def as_mapping(value: object, where: str) -> Mapping[str, Any]:
    """A mapping with text for keys.

    Raises:
        RecipeError: For anything else.
    """
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise RecipeError(f"{where} must be names with values, got {value!r}.")
    return value


def check_keys(
    values: Mapping[str, Any], known: Sequence[str], where: str, ignored: Sequence[str] = ()
) -> None:
    """Refuse keys that are neither known nor knowingly ignored."""
    for key in values:
        if key not in known and key not in ignored:
            raise RecipeError(f"{where} has no key '{key}'. {did_you_mean(str(key), known)}")


def model_name(value: object, where: str) -> str:
    """A checkpoint's name.

    Raises:
        RecipeError: For what is no name.
    """
    if isinstance(value, str) and value:
        return value
    raise RecipeError(f"{where} must be a folder or a Hub id (with @revision), got {value!r}.")


def _parameters(values: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = values.get("parameters")
    return {} if parameters is None else as_mapping(parameters, f"{where}: parameters")


def _list(value: object, where: str) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise RecipeError(f"{where} must be a list, got {value!r}.")
    return value
