"""A step of a merge: a plug-in with its checked parameters, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.layout import Depth, Layout
from laconic.errors import RecipeError
from laconic.merging.varying import Varying, bind, matches, name_hint, value_at

if TYPE_CHECKING:
    from laconic.merging.recipe import Override, Recipe
    from laconic.methods.contract.step_statistics import StepStatistics
    from laconic.methods.contract.traits import StepTraits
    from laconic.registry import Plugin

Parameters = Mapping[str, Any]
#: What an element can depend on, the least first.
REACHES: Final = ("element", "row", "tensor", "model")


@dataclass(frozen=True)
class Step:
    """A plug-in of the pipeline with its checked parameters.

    Attributes:
        plugin: The transform, method or adjustment.
        params: Its parameters where no override says otherwise; some may vary by tensor.
        overrides: Each override with all the parameters there; the first match wins.
        layout: That of the checkpoints.
        files: The calibration files that the recipe names for it.
        stats: The statistics in them, by kind, one for each checkpoint.
        remedy: A sentence with the command that makes the files again.
    """

    plugin: Plugin[Callable[..., Any]]
    params: Parameters
    overrides: tuple[tuple[Override, Parameters], ...] = ()
    layout: Layout = field(default_factory=lambda: Layout(None, None, Depth()))
    files: tuple[str, ...] = ()
    stats: Mapping[str, tuple[StepStatistics, ...]] = field(default_factory=dict)
    remedy: str = ""

    def params_for(self, name: str) -> Parameters:
        """The parameters for one tensor."""
        params = next((params for o, params in self.overrides if self._takes(o, name)), self.params)
        layer, layers = self.layout.depth.of(name), self.layout.depth.count
        return {key: value_at(value, name, layer, layers) for key, value in params.items()}

    @property
    def family(self) -> str:
        """``transform``, ``method`` or ``adjustment``."""
        return self.plugin.family

    @property
    def traits(self) -> StepTraits:
        """What the plug-in's decorator declares."""
        traits: StepTraits = self.plugin.traits
        return traits

    @property
    def reach(self) -> str:
        """What one element depends on; the most that the parameters of any tensor need."""
        declared = self.traits.reach
        if not callable(declared):
            return declared
        every = [self.params, *(params for _, params in self.overrides)]
        return max(
            (
                declared({**params, key: single})
                for params in every
                for key, value in params.items()
                for single in (value.all_values if isinstance(value, Varying) else (value,))
            ),
            key=REACHES.index,
        )

    def nonfinite_statistics(self, name: str) -> str:
        """A sentence on the statistics of a tensor that hold NaN or Inf; empty where none do."""
        for kind, of_kind in self.stats.items():
            if any(name in s and not bool(s[name].isfinite().all()) for s in of_kind):
                return f"{self.plugin.name}: the {kind} statistics of '{name}' are not finite."
        return ""

    def override_for(self, name: str) -> Override | None:
        """The override that one tensor takes, if any."""
        return next((o for o, _ in self.overrides if self._takes(o, name)), None)

    def _takes(self, override: Override, name: str) -> bool:
        return fits(override, name, self.layout.depth)


def make_step(plugin: Plugin[Any], params: Parameters, where: str) -> Step:
    """A step with its parameters checked against the plug-in's signature."""
    files, parameters = _split_files(plugin, params, where)
    return Step(plugin, bind(plugin, parameters, where), files=files)


def with_overrides(step: Step, recipe: Recipe, names: Sequence[str]) -> Step:
    """The method with the recipe's overrides, each of which must match something."""
    bound = []
    for number, override in enumerate(recipe.overrides):
        where = f"overrides, entry {number}"
        if not any(fits(override, name, step.layout.depth) for name in names):
            raise RecipeError(
                f"{where}: no tensor matches '{override.match}'"
                + (f" in layers {list(override.layers)}" if override.layers else "")
                + f". {name_hint(names)}"
            )
        if step.files and "stats" in override.params:
            raise RecipeError(f"{where}: stats are those of the whole merge; name them in params.")
        _, params = _split_files(step.plugin, {**recipe.params, **override.params}, where)
        bound.append((override, bind(step.plugin, params, where)))
    return replace(step, overrides=tuple(bound))


def need_whole(steps: Iterable[Step]) -> bool:
    """Whether some step must see whole tensors, and not blocks of their rows or elements."""
    return any(step.reach not in {"element", "row"} for step in steps)


def need_rows(steps: Iterable[Step]) -> bool:
    """Whether some step must see whole rows of matrices."""
    return any(step.reach == "row" for step in steps)


def extra_copies(steps: Sequence[Step], models: int) -> int:
    """The most tensors in float32 that a step holds beside base, vectors and result.

    Where all steps work on blocks, these are the blocks of statistics. A step that works on blocks
    declares no copies, since they are small. In a chain with a step that needs whole tensors, all
    steps are given whole tensors; such a step is then counted with four for each model, as measured
    for TIES.
    """
    if not need_whole(steps):
        return max(sum(map(len, step.stats.values())) for step in steps)
    return max(
        s.traits.extra_copies if need_whole([s]) else 4 * models
        for s in steps
        if s.plugin.family != "adjustment"
    )


def statistics_bytes(steps: Sequence[Step], names: Iterable[str]) -> int:
    """The most memory that a step takes for its copies of a tensor's statistics, in bytes."""
    copied = [
        (step.traits.stats_copies, statistics)
        for step in steps
        if step.traits.stats_copies
        for of_kind in step.stats.values()
        for statistics in of_kind
    ]
    return max(
        (4 * copies * s[name].numel() for name in names for copies, s in copied if name in s),
        default=0,
    )


def check_varying(
    recipe: Recipe, steps: Sequence[Step], names: Sequence[str], head: str
) -> list[str]:
    """Compare everything that varies by tensor with the tensors of the result.

    Args:
        recipe: The recipe.
        steps: Its steps.
        names: Every tensor of the result.
        head: The output head, which siblings may have though the result has not.

    Returns:
        What the user should know though it is no error.

    Raises:
        RecipeError: For an entry that matches nothing, or a tensor that no entry fits.
    """
    values: list[tuple[str, Any]] = [(f"The weight of {m.model}", m.weight) for m in recipe.models]
    for step in steps:
        for params in (step.params, *(params for _, params in step.overrides)):
            values += [(f"{step.plugin.name}: {key}", value) for key, value in params.items()]
    return [
        note
        for where, value in values
        if isinstance(value, Varying)
        for note in value.check(where, names, absent=(head,))
    ]


def _split_files(
    plugin: Plugin[Any], params: Parameters, where: str
) -> tuple[tuple[str, ...], Parameters]:
    """The calibration files among a step's parameters, and the other parameters."""
    if "stats" not in params or not plugin.traits.stats:
        return (), params
    value = params["stats"]
    files = [value] if isinstance(value, str) else value
    if not isinstance(files, list | tuple) or not all(isinstance(f, str) and f for f in files):
        raise RecipeError(
            f"{where}: {plugin.name}.stats must be a file of 'laconic calibrate' or a list of "
            f"them, got {value!r}."
        )
    return tuple(files), {key: value for key, value in params.items() if key != "stats"}


def fits(override: Override, name: str, depth: Depth) -> bool:
    """Whether an override applies to a tensor."""
    layer = depth.of(name)
    if override.layers is not None:
        first, last = override.layers
        if layer is None or not first <= layer <= last:
            return False
    return matches(override.match, name)
