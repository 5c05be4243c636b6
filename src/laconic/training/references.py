"""System 1 and System 2, measured on a training's dev problems, or given as figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laconic.errors import RunError, TrainError
from laconic.stats import summarise
from laconic.training.bounds import Bounds, Measurement
from laconic.training.dev import candidate
from laconic.training.evaluators import ask
from laconic.training.recipe import GivenFigures
from laconic.training.selection import Candidate

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.runs.run import Run
    from laconic.runtime import Progress
    from laconic.training.dev import DevProblems
    from laconic.training.distributed import Processes
    from laconic.training.recipe import TrainRecipe

#: How many standard errors given figures may be away from those of the untrained model.
MAX_ERRORS = 3.0


@dataclass(frozen=True)
class References:
    """What the checkpoints of a training are compared with.

    Attributes:
        bounds: What a controller compares with; None where the recipe has no bounds.
        system2: What the choice of a checkpoint compares with.
        measured: System 2 on the steering problems.
        given: Whether System 2's figures were given and not measured here.
    """

    bounds: Bounds | None
    system2: Candidate
    measured: Measurement
    given: bool

    def to_dict(self, dev: DevProblems) -> dict[str, Any]:
        """As bounds.json holds it."""
        from dataclasses import asdict

        return {
            "conditions": dev.conditions,
            "sampling": asdict(dev.sampling),
            "problems": [sample.id for sample in dev.steer.samples],
            "system1": None if self.bounds is None else asdict(self.bounds.system1),
            "system2": asdict(self.measured),
            "given": self.given,
        }

    def check_start(self, start: Measurement) -> None:
        """Refuse figures given for System 2 that the model in training does not reproduce.

        Raises:
            TrainError: Where accuracy or length is more than three standard errors off.
        """
        for name, unit in (("accuracy", ""), ("length", " tokens")):
            given, measured = getattr(self.measured, name), getattr(start, name)
            error = math.hypot(*(getattr(m, f"{name}_se") for m in (self.measured, start)))
            if abs(given - measured) > MAX_ERRORS * max(error, 1e-9):
                raise TrainError(
                    f"bounds.system2 says {name} {given:g}{unit}, but the model before its first "
                    f"step has {measured:g}{unit} on the same problems, more than {MAX_ERRORS:g} "
                    f"standard errors ({error:.3g}) away: another template, sampling or budget. "
                    "Leave bounds.system2 out, so that it is measured."
                )


def find_references(
    recipe: TrainRecipe, dev: DevProblems, folder: Path, *, processes: Processes, progress: Progress
) -> References:
    """Measure the references, or take the recipe's figures; finished runs are not repeated.

    Raises:
        TrainError: For bounds that are swapped or too close.
    """
    bounds = recipe.bounds
    two, second, given = _reference(
        "system2",
        (bounds and bounds.system2) or recipe.model,
        recipe,
        dev,
        folder,
        processes,
        progress,
    )
    if bounds is None:
        return References(None, second, two, given)
    one, _, _ = _reference("system1", bounds.system1, recipe, dev, folder, processes, progress)
    return References(Bounds(one, two), second, two, given)


def heldout_run(
    model: str,
    dev: DevProblems,
    recipe: TrainRecipe,
    output: Path,
    *,
    processes: Processes,
    progress: Progress,
) -> Run | None:
    """A model's run over the held-out problems; None where there are none."""
    if dev.heldout is None:
        return None
    return _run(model, dev, recipe, output, processes, progress, heldout=True)


def reference_folder(recipe: TrainRecipe, output: Path) -> Path:
    """Where the runs of the references are kept."""
    from pathlib import Path

    own = recipe.bounds.folder if recipe.bounds else None
    return Path(own).expanduser() if own else output / "bounds"


def _reference(
    role: str,
    source: str | GivenFigures,
    recipe: TrainRecipe,
    dev: DevProblems,
    folder: Path,
    processes: Processes,
    progress: Progress,
) -> tuple[Measurement, Candidate, bool]:
    """One reference's measurement, and whether it was given."""
    if isinstance(source, GivenFigures):
        error = source.accuracy_se
        if error is None:
            error = math.sqrt(source.accuracy * (1 - source.accuracy) / source.n)
        measurement = Measurement(
            step=0,
            n=source.n,
            accuracy=source.accuracy,
            accuracy_se=error,
            length=source.length,
            length_se=source.length_se,
            truncated=source.truncated,
            conditions=dev.conditions,
        )
        given = Candidate(0, source.accuracy, source.length, source.truncated, source.thinking)
        return measurement, given, True
    run = _run(source, dev, recipe, folder / "steer" / role, processes, progress)
    return dev.measured(run, 0), candidate(summarise(run.results), 0), False


def _run(
    model: str,
    dev: DevProblems,
    recipe: TrainRecipe,
    output: Path,
    processes: Processes,
    progress: Progress,
    *,
    heldout: bool = False,
) -> Run:
    task = dev.heldout if heldout and dev.heldout else dev.steer
    try:
        return ask(
            model,
            task,
            dev.sampling,
            recipe=recipe,
            output=output,
            ranks=processes,
            progress=progress,
        )
    except RunError as error:
        if "holds a run with" not in str(error):
            raise
        raise TrainError(
            f"{error} Bounds measured under other conditions do not fit this recipe's dev problems "
            "and sampling."
        ) from None
