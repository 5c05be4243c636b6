"""Plug-ins: a name, a decorated function, and the parameters that its signature declares."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Le, Lt

from laconic.errors import LaconicError, RecipeError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")
G = TypeVar("G", bound="Callable[..., Any]")


@dataclass(frozen=True)
class Parameter:
    """One keyword-only argument of a plug-in: a recipe key and a command-line key.

    Attributes:
        name: The key.
        kind: Its type in the reader's words, range included, such as ``float in (0, 1]``.
        default: The value where the user gives none; `required` says whether there is one.
        required: True where the user must give a value.
        help: Its line in the docstring's ``Args`` section.
    """

    name: str
    kind: str
    default: Any
    required: bool
    help: str


@dataclass(frozen=True)
class Plugin(Generic[F]):
    """A registered function with what its decorator declared about it.

    Attributes:
        name: The name users write.
        family: What it is, such as ``method``, ``task``, ``strategy`` or ``reward``.
        function: The function, callable as written.
        traits: What its decorator declared, in the form of its family: a mapping, or for steps of a
            merge `laconic.methods.contract.traits.StepTraits`.
        extra_parameters: Parameters that users give but the function does not take.
    """

    name: str
    family: str
    function: F
    traits: Any = field(default_factory=dict)
    extra_parameters: tuple[Parameter, ...] = ()

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").split("\n", 1)[0]

    @property
    def help(self) -> str:
        """The whole docstring."""
        return inspect.getdoc(self.function) or ""

    @property
    def source(self) -> str:
        """Its source: the docstring's last paragraph, if that begins with ``Source:``."""
        last = " ".join(self.help.split("\n\n")[-1].split())
        return last.removeprefix("Source: ") if last.startswith("Source:") else ""

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The keyword-only arguments, in order; then the extra parameters."""
        hints = _hints(self.function)
        lines = _argument_lines(self.help)
        own = tuple(
            Parameter(
                name=name,
                kind=_describe(hints[name]),
                default=None if parameter.default is parameter.empty else parameter.default,
                required=parameter.default is parameter.empty,
                help=lines.get(name, ""),
            )
            for name, parameter in _keywords(self.function).items()
        )
        return (*own, *self.extra_parameters)

    def takes_list(self, name: str) -> bool:
        """Whether a parameter is a list by itself; all others may be one number per tensor."""
        return _holds_list(_hints(self.function).get(name))

    def bind(self, values: Mapping[str, Any], *, where: str) -> dict[str, Any]:
        """Check values against the signature and fill in the defaults.

        Args:
            values: What the user wrote, by parameter name.
            where: The place to name in an error, such as ``params``.

        Returns:
            Every parameter of the plug-in with its value.

        Raises:
            RecipeError: For an unknown or missing key, a wrong type or a value out of range.
        """
        from pydantic import ConfigDict, ValidationError, create_model

        keywords = _keywords(self.function)
        for key in values:
            if key not in keywords:
                known = did_you_mean(key, [p.name for p in self.parameters])
                raise RecipeError(f"{where}: {self.family} '{self.name}' has no '{key}'. {known}")
        hints = _hints(self.function)
        fields: dict[str, Any] = {
            name: (hints[name], ... if keyword.default is keyword.empty else keyword.default)
            for name, keyword in keywords.items()
        }
        schema = create_model(
            "Parameters", __config__=ConfigDict(strict=True, allow_inf_nan=False), **fields
        )
        try:
            checked = schema(**values)
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0])
            kind = _describe(hints[key])
            if first["type"] == "missing":
                raise RecipeError(
                    f"{where}: {self.family} '{self.name}' needs '{key}' ({kind})."
                ) from None
            raise RecipeError(
                f"{where}: {self.name}.{key} must be {kind}, got {values.get(key)!r}. "
                f"{_argument_lines(self.help).get(key, '')}".rstrip()
            ) from None
        return {name: getattr(checked, name) for name in keywords}


class Registry(Generic[F]):
    """The plug-ins of one family: found in a folder of the package and in entry points.

    Args:
        family: What its members are, as users read it in messages.
        package: The package whose modules register members when imported. Members from outside
            come from the group of entry points of its last name: ``laconic.rewards`` for
            ``laconic.training.rewards``.
        error: What an unknown name raises.
    """

    def __init__(self, family: str, package: str, error: type[LaconicError] = RecipeError) -> None:
        self.family = family
        self.package = package
        self.group = f"laconic.{package.rpartition('.')[2]}"
        self.error = error
        self._members: dict[str, Plugin[F]] = {}
        self._loaded = False

    def register(
        self, function: G, traits: Any = None, *, extra_parameters: tuple[Parameter, ...] = ()
    ) -> G:
        """Add a function under its own name and return it unchanged.

        Args:
            function: The plug-in.
            traits: What its decorator declares, in the form of the family; None for nothing.
            extra_parameters: Parameters that users give but the function does not take.

        Raises:
            LaconicError: Where another module has a plug-in of that name.
        """
        name = function.__name__
        known = self._members.get(name)
        if known is not None and known.function.__module__ != function.__module__:
            raise LaconicError(
                f"Two {self.family}s are called '{name}': in {known.function.__module__} and in "
                f"{function.__module__}. Rename one."
            )
        self._members[name] = Plugin(
            name,
            self.family,
            cast("F", function),
            {} if traits is None else traits,
            extra_parameters,
        )
        return function

    def get(self, name: str) -> Plugin[F]:
        """The plug-in of that name.

        Raises:
            LaconicError: Where there is none (of the family's kind), with the nearest name.
        """
        self._load()
        if name not in self._members:
            raise self.error(f"No {self.family} '{name}'. {did_you_mean(name, self._members)}")
        return self._members[name]

    def all(self) -> tuple[Plugin[F], ...]:
        """Every plug-in, by name."""
        self._load()
        return tuple(self._members[name] for name in sorted(self._members))

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._members

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        for entry in entry_points(group=self.group):
            entry.load()


def parse_spec(text: str) -> tuple[str, dict[str, Any]]:
    """Read ``name:key=value,key=value``, the command line's form of a plug-in and its values.

    A name may hold colons (``lab:base``), and so may a value (``openai:url=http://host:8000/v1``):
    values begin at the first colon that a ``key=`` follows. Commas within brackets do not
    separate values. Values are read by `parse_value`.

    Raises:
        RecipeError: For a part without ``=``.
    """
    start = re.search(r":(?=[^:=,/]+=)", text)
    if start is None:
        return text, {}
    name, tail = text[: start.start()], text[start.end() :]
    values: dict[str, Any] = {}
    for part in _split(tail):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"'{text}': write name:key=value,key=value; '{part}' has no '='.")
        values[key.strip()] = parse_value(value.strip())
    return name, values


def _split(text: str) -> list[str]:
    """The parts of a text between commas that stand outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def parse_value(text: str) -> Any:
    """A command-line value: JSON, else a list or mapping in YAML, else the text itself.

    A mapping without a single value, such as ``{problem}``, is text.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if not text.lstrip().startswith(("{", "[")):
            return text
    from laconic.files.yaml import load_yaml

    try:
        value = load_yaml(text, "The value", LaconicError)
    except LaconicError:
        return text
    empty = isinstance(value, dict) and all(part is None for part in value.values())
    return text if empty else value


def _keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only arguments of a function, by name."""
    parameters = inspect.signature(function).parameters
    return {n: p for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The resolved annotations of the keyword-only arguments.

    The others may name types that are imported for the type checker only.
    """
    written = {n: function.__annotations__[n] for n in _keywords(function)}
    carrier = SimpleNamespace(__annotations__=written)
    return get_type_hints(carrier, function.__globals__, include_extras=True)


def _holds_list(hint: Any) -> bool:
    """Whether a type hint is that of a list, or of a choice that includes one."""
    origin = get_origin(hint) or hint
    return origin in (list, tuple, Sequence) or any(map(_holds_list, get_args(hint)))


def _argument_lines(text: str) -> dict[str, str]:
    """The ``Args`` section of a Google docstring, one line a name."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", text, re.MULTILINE)
    help_lines: dict[str, str] = {}
    name = ""
    for line in section.group(1).splitlines() if section else ():
        start = re.match(r"^ {4}(\w+): (.*)$", line)
        if start:
            name = start.group(1)
            help_lines[name] = start.group(2).strip()
        elif name and line.strip():
            help_lines[name] += " " + line.strip()
    return help_lines


def _describe(hint: Any) -> str:
    """A type hint in words: ``float in (0, 1]``, ``tensor or model``, ``whole number``."""
    metadata = getattr(hint, "__metadata__", ())
    if metadata:
        return f"{_describe(get_args(hint)[0])}{_interval(metadata)}"
    if get_origin(hint) is Literal:
        return " or ".join(f"'{a}'" for a in get_args(hint))
    if type(None) in get_args(hint):
        return f"{_describe(next(a for a in get_args(hint) if a is not type(None)))} or null"
    words: dict[Any, str] = {float: "a number", int: "a whole number", bool: "true or false"}
    words |= {str: "text", dict[str, Any]: "an object"}
    words |= {list[list[float | dict[str, float]]]: "a list of [number, {name: number}]"}
    return words.get(hint, str(hint).replace("typing.", ""))


def _interval(bounds: tuple[object, ...]) -> str:
    """The range that annotated bounds state, such as `` in (0, 1]``."""
    low, high = "(-inf", "inf)"
    for bound in bounds:
        match bound:
            case Gt(gt=value):
                low = f"({value}"
            case Ge(ge=value):
                low = f"[{value}"
            case Lt(lt=value):
                high = f"{value})"
            case Le(le=value):
                high = f"{value}]"
    return "" if (low, high) == ("(-inf", "inf)") else f" in {low}, {high}"
