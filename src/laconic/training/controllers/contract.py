"""What a controller is: a pure function that changes the weights of a mixture by a measurement."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self, TypeVar

from laconic.errors import TrainError, did_you_mean
from laconic.registry import Plugin, Registry, parse_spec
from laconic.training.bounds import Bounds, Measurement
from laconic.training.data.mixture import check_weights

#: The purpose of a pool: short answers to easy problems, or long answers to hard problems.
Role = Literal["efficiency", "accuracy"]
ROLES: tuple[Role, ...] = ("efficiency", "accuracy")


@dataclass(frozen=True)
class State:
    """The state of a mixture: all that the next update needs, and nothing that JSON cannot hold.

    Attributes:
        pools: The pools' names.
        weights: The share of each pool, in [0, 1]; they sum to 1.
        roles: The purpose of each pool; None for a pool without a role.
        bounds: What measurements are compared with; None for controllers that need none.
        memory: What the controller remembers from one update to the next.
        notes: Intermediate numbers of the last update, for the log.
        step: The step of the last measurement; None before the first.

    Raises:
        TrainError: Where pools, weights and roles do not fit together.
    """

    pools: tuple[str, ...]
    weights: tuple[float, ...]
    roles: tuple[Role | None, ...] = ()
    bounds: Bounds | None = None
    memory: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, float] = field(default_factory=dict)
    step: int | None = None

    def __post_init__(self) -> None:
        check_weights(self.pools, self.weights)
        object.__setattr__(self, "weights", tuple(map(float, self.weights)))
        object.__setattr__(self, "roles", self.roles or (None,) * len(self.pools))
        if len(self.roles) != len(self.pools):
            raise TrainError(
                f"{len(self.pools)} pools ({', '.join(self.pools)}) have {len(self.roles)} roles: "
                "give one each."
            )
        for pool, role in zip(self.pools, self.roles, strict=True):
            if role is not None and role not in ROLES:
                raise TrainError(f"Pool '{pool}' has role '{role}'. {did_you_mean(role, ROLES)}")

    @property
    def reference(self) -> Bounds:
        """The bounds, for a controller that declared it needs them."""
        if self.bounds is None:
            raise TrainError("The mixture has no bounds: measure System 1 and System 2 first.")
        return self.bounds

    def moved(
        self,
        weights: Sequence[float],
        memory: Mapping[str, float] | None = None,
        **notes: float,
    ) -> Self:
        """The state after an update.

        Args:
            weights: The new weights.
            memory: What to remember; None remembers nothing.
            notes: Intermediate numbers, for the log.
        """
        return replace(self, weights=tuple(weights), memory=memory or {}, notes=notes)

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The state that `to_dict` gave.

        Raises:
            TrainError: Where the values are not those of a state.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_json(json.dumps(values), strict=True)
        except (ValidationError, TypeError) as error:
            reason = str(error)
            if isinstance(error, ValidationError):
                first = error.errors()[0]
                reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise TrainError(f"The mixture's state is damaged ({reason}).") from None


Update = Callable[..., State]
F = TypeVar("F", bound=Update)
CONTROLLERS: Registry[Update] = Registry("controller", "laconic.training.controllers", TrainError)


def controller(
    *,
    bounds: bool = False,
    excess: bool = False,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    example: Mapping[str, Any] | None = None,
) -> Callable[[F], F]:
    """Register a function ``(state, measured, *, ...) -> State``, pure and deterministic.

    Args:
        bounds: Whether it needs bounds, and at least one pool of each role.
        excess: Whether it needs the excess loss of every pool.
        presets: Named sets of parameters, chosen by ``preset=NAME``.
        example: Parameters for two pools, where it has required ones: the contract tests' choice.
    """

    def register(function: F) -> F:
        traits: dict[str, Any] = {"bounds": bounds, "excess": excess}
        traits |= {"presets": presets or {}, "example": example or {}}
        return CONTROLLERS.register(function, traits)

    return register


@dataclass(frozen=True)
class Controller:
    """A controller with a value for every parameter.

    Attributes:
        name: Its name.
        params: Its parameters.
    """

    name: str
    params: Mapping[str, Any]

    def start(
        self,
        pools: Mapping[str, float],
        *,
        roles: Mapping[str, Role] | None = None,
        bounds: Bounds | None = None,
    ) -> State:
        """The mixture before training, checked as far as possible without a measurement.

        Args:
            pools: The first weight of each pool; they sum to 1.
            roles: The purpose of pools, by name.
            bounds: What measurements are compared with.

        Raises:
            TrainError: For weights, roles, bounds or parameters that do not fit together.
        """
        given = roles or {}
        for name in given:
            if name not in pools:
                raise TrainError(f"roles names '{name}'. {did_you_mean(name, pools)}")
        state = State(
            tuple(pools), tuple(pools.values()), tuple(given.get(name) for name in pools), bounds
        )
        traits = self._plugin.traits
        if traits["bounds"]:
            for role in ROLES:
                if role not in state.roles:
                    raise TrainError(
                        f"{self.name} needs a pool with role '{role}': pools are "
                        f"{_pools_with_roles(state)}."
                    )
            if bounds is None:
                raise TrainError(
                    f"{self.name} needs bounds: measure System 1 and System 2 on the dev problems."
                )
        trial = bounds.system2 if bounds else Measurement(0, 1, 0.0, 0.0, 0.0, 0.0)
        if traits["excess"]:
            trial = replace(trial, excess=dict.fromkeys(pools, 0.0))
        self._plugin.function(state, trial, **self.params)
        return state

    def update(self, state: State, measured: Measurement) -> tuple[State, dict[str, Any]]:
        """Change the weights by a measurement.

        Returns:
            The new state, and the record of the update as JSON holds it: step, controller,
            parameters, the measurement with its standard errors, the bounds, the weights before
            and after by pool, and intermediate numbers.

        Raises:
            TrainError: For a measurement that is out of order, was made under other conditions
                than the bounds, or lacks what the controller needs.
        """
        _check_measurement(self.name, state, measured, excess=self._plugin.traits["excess"])
        new = replace(
            self._plugin.function(state, measured, **self.params),
            step=measured.step,
        )
        record = {
            "step": measured.step,
            "controller": self.name,
            "params": dict(self.params),
            "measured": asdict(measured),
            "bounds": None if state.bounds is None else asdict(state.bounds),
            "before": dict(zip(state.pools, state.weights, strict=True)),
            "after": dict(zip(new.pools, new.weights, strict=True)),
            "notes": dict(new.notes),
        }
        return new, record

    @property
    def _plugin(self) -> Plugin[Update]:
        return CONTROLLERS.get(self.name)


def load_controller(spec: str, params: Mapping[str, Any] | None = None) -> Controller:
    """A controller by name, its parameters checked and filled in.

    Args:
        spec: ``NAME`` or ``NAME:key=value,...``, such as ``tldr:preset=paper,eta=2``.
        params: More parameters; they win over the text's. ``preset`` names a set that the others
            change.

    Raises:
        TrainError: For an unknown controller or preset.
        RecipeError: For a parameter that does not exist or is out of range.
    """
    name, written = parse_spec(spec)
    plugin, values = CONTROLLERS.get(name), {**written, **(params or {})}
    preset = values.pop("preset", None)
    presets = plugin.traits["presets"]
    if preset is not None and preset not in presets:
        raise TrainError(f"{name} has no preset '{preset}'. {did_you_mean(str(preset), presets)}")
    chosen = {**presets.get(preset, {}), **values}
    return Controller(name, plugin.bind(chosen, where=f"controller {name}"))


def reweigh(
    weights: Sequence[float],
    push: Sequence[float],
    *,
    floor: float,
    max_step: float | None = None,
) -> tuple[float, ...]:
    """``(1 - floor) softmax(log w + push) + floor / K``, the step that controllers share.

    Args:
        weights: The weights before, ``[pool]``.
        push: What is added to each logarithm, ``[pool]``.
        floor: The share that is spread evenly over the K pools.
        max_step: The most by which the log-odds of two pools may change; the pushes shrink
            together where they would differ by more. None for no limit.
    """
    spread = max(push) - min(push)
    shrink = 1.0 if max_step is None or spread <= max_step else max_step / spread
    logits = [
        math.log(w) + shrink * p if w > 0 else -math.inf for w, p in zip(weights, push, strict=True)
    ]
    tilted = [math.exp(x - max(logits)) for x in logits]
    total = math.fsum(tilted)
    mixed = [(1 - floor) * t / total + floor / len(tilted) for t in tilted]
    whole = math.fsum(mixed)
    return tuple(m / whole for m in mixed)


def _check_measurement(name: str, state: State, measured: Measurement, *, excess: bool) -> None:
    """Refuse a measurement that does not fit this state."""
    if state.step is not None and measured.step <= state.step:
        raise TrainError(
            f"A measurement of step {measured.step} comes after that of step {state.step}: each "
            "may move the mixture once, in order."
        )
    if state.bounds is not None and measured.conditions != state.bounds.system2.conditions:
        raise TrainError(
            f"Step {measured.step} was measured under conditions '{measured.conditions}', the "
            f"bounds under '{state.bounds.system2.conditions}': use the same problems and sampling."
        )
    if excess:
        for pool in state.pools:
            if pool not in measured.excess:
                raise TrainError(
                    f"{name} needs the excess loss of every pool; the measurement of step "
                    f"{measured.step} has none of '{pool}'."
                )


def _pools_with_roles(state: State) -> str:
    """The pools with their roles, in words."""
    pairs = zip(state.pools, state.roles, strict=True)
    return ", ".join(f"'{pool}' ({role or 'no role'})" for pool, role in pairs)
