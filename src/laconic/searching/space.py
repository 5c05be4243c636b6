"""Recipes with ranges: where a search may look, and the recipe at each place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from laconic.errors import RecipeError, did_you_mean
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from laconic.merging.varying import is_number

#: The keys of a range, and the parts of a recipe whose numbers may be one.
KEYS: Final = ("low", "high", "step")
PARTS: Final = ("params", "models", "before", "after", "overrides")
#: More ranges than this are more than a search of some dozen trials can tell apart.
MOST: Final = 8
#: Values are rounded to so many digits: what a recipe says is what was tried.
DIGITS: Final = 6

#: A place in the space: a number for each range, by its name.
Point = Mapping[str, float]


@dataclass(frozen=True)
class Range:
    """The numbers that a search may put in one place of a recipe.

    Attributes:
        name: How `laconic merge --set` would name the place, such as ``overrides.0.scale``.
        path: The keys that lead there.
        low: The smallest value.
        high: The largest.
        step: The distance between neighbours; None where all between are meant.
    """

    name: str
    path: tuple[str | int, ...]
    low: float
    high: float
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant: the step is one."""
        return isinstance(self.step, int) and isinstance(self.low, int)

    @property
    def steps(self) -> int:
        """How many steps fit in; 0 without a step."""
        return 0 if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9)

    def nearest(self, value: float) -> float:
        """The allowed value next to a number."""
        inside = min(max(value, self.low), self.high)
        if self.step is not None:
            steps = min(round((inside - self.low) / self.step), self.steps)
            inside = self.low + steps * self.step
        return round(inside) if self.whole else float(f"{inside:.{DIGITS}g}")

    def plain(self) -> dict[str, Any]:
        """The range as study.json writes it."""
        return {"name": self.name, "low": self.low, "high": self.high, "step": self.step}


@dataclass(frozen=True)
class Space:
    """A recipe with ranges.

    Attributes:
        values: The recipe's plain values, ranges included.
        ranges: Its ranges, in the order written.
    """

    values: Mapping[str, Any]
    ranges: tuple[Range, ...]

    def at(self, point: Point) -> Recipe:
        """The recipe at one place.

        Args:
            point: A value for every range, by name.

        Raises:
            RecipeError: As for `Recipe`.
        """
        values: Any = dict(self.values)
        for one in self.ranges:
            values = _with(values, one.path, point[one.name])
        return Recipe.from_dict(values)

    def nearest(self, point: Point) -> dict[str, float]:
        """The allowed place next to a point."""
        return {one.name: one.nearest(point[one.name]) for one in self.ranges}

    @property
    def size(self) -> float:
        """How many different places there are; infinite where a range has no step."""
        return math.prod(math.inf if one.step is None else one.steps + 1 for one in self.ranges)

    def middle(self) -> dict[str, float]:
        """The place half-way along every range."""
        return self.nearest({one.name: (one.low + one.high) / 2 for one in self.ranges})

    def middle_recipe(self) -> Recipe:
        """The recipe half-way along every range."""
        return self.at(self.middle())

    def check(self) -> None:
        """Plan the merge at every corner and in the middle; no weights are read.

        Raises:
            RecipeError: If a corner breaks a rule of the method, naming the corner.
            CheckpointError: As for `plan`.
        """
        ends = [(one.low, one.nearest(one.high)) for one in self.ranges]
        names = [one.name for one in self.ranges]
        corners = [dict(zip(names, corner, strict=True)) for corner in itertools.product(*ends)]
        for point in (*corners, self.middle()):
            try:
                plan(self.at(point))
            except RecipeError as error:
                raise RecipeError(f"The ranges reach {words(point)}, where: {error}") from None


def read_space(values: Mapping[str, Any]) -> Space:
    """Find the ranges of a recipe: ``{low: NUMBER, high: NUMBER}`` where a number would stand.

    Args:
        values: A recipe's plain values, as `read_recipe` gives them.

    Raises:
        RecipeError: For a range that cannot be meant, for none, or for more than `MOST`.
    """
    ranges = tuple(_ranges(values, ()))
    if not ranges:
        raise RecipeError(
            "The recipe has no range: there is nothing to search. Write {low: 0.3, high: 0.9} for "
            "a number under params, models, before, after or overrides."
        )
    if len(ranges) > MOST:
        raise RecipeError(
            f"The recipe has {len(ranges)} ranges; a search takes at most {MOST}. Fix some of them."
        )
    return Space(values, ranges)


def words(point: Point) -> str:
    """A place in words: ``scale=0.55,density=0.2``; also the name of its trial and folder."""
    return ",".join(f"{name}={value:g}" for name, value in point.items())


def _ranges(value: Any, path: tuple[str | int, ...]) -> Iterator[Range]:
    """Every range below a place."""
    if isinstance(value, Mapping):
        if {"low", "high"} & value.keys():
            yield _range(value, path)
            return
        for key, inner in value.items():
            yield from _ranges(inner, (*path, str(key)))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for place, inner in enumerate(value):
            yield from _ranges(inner, (*path, place))


def _range(value: Mapping[str, Any], path: tuple[str | int, ...]) -> Range:
    name = _name(path)
    for key in value:
        if key not in KEYS:
            raise RecipeError(f"{name}: a range has no '{key}'. {did_you_mean(str(key), KEYS)}")
    if path[:1] == () or path[0] not in PARTS:
        raise RecipeError(f"{name} cannot be a range; only numbers of {', '.join(PARTS)} can.")
    if missing := [key for key in KEYS[:2] if key not in value]:
        raise RecipeError(f"{name}: the range has no '{missing[0]}'. Write {{low: A, high: B}}.")
    for key in KEYS:
        if key in value and not is_number(value[key]):
            raise RecipeError(f"{name}: {key} must be a number, got {value[key]!r}.")
    low, high, step = value["low"], value["high"], value.get("step")
    if low >= high:
        raise RecipeError(f"{name}: low must be below high, got {low:g} and {high:g}.")
    if step is not None and not 0 < step <= high - low:
        raise RecipeError(f"{name}: step must be above 0 and at most {high - low:g}, got {step:g}.")
    return Range(name, path, low, high, step)


def _name(path: tuple[str | int, ...]) -> str:
    """A place as ``laconic merge --set`` names it."""
    parts = [str(part) for part in path]
    if parts[:1] == ["params"]:
        return ".".join(parts[1:])
    if parts[:1] == ["overrides"] and parts[2:3] == ["params"]:
        return ".".join([*parts[:2], *parts[3:]])
    if parts[:1] in (["before"], ["after"]) and len(parts) == 4:
        return ".".join([*parts[:2], parts[3]])
    return ".".join(parts)


def _with(value: Any, path: tuple[str | int, ...], number: float) -> Any:
    """A nested value with one number put in place of what is there; the original stays."""
    if not path:
        return number
    first, *rest = path
    if isinstance(value, Mapping):
        return {
            key: _with(inner, tuple(rest), number) if str(key) == first else inner
            for key, inner in value.items()
        }
    return [
        _with(inner, tuple(rest), number) if place == first else inner
        for place, inner in enumerate(value)
    ]
