"""Which values to try next: Optuna keeps the trials, this picks their values.

One parameter goes by `laconic.searching.interval_search`. Several go by a Gaussian process with the
expected gain in hypervolume (`optuna.samplers.GPSampler`): of Optuna's samplers for two objectives
it is the one meant for some dozen trials, it takes constraints, and it counts in what other workers
are measuring; NSGA-II wants hundreds of trials. Its first places are spread evenly, the middle
first (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences").
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from laconic.errors import RunError
from laconic.files.atomic import make_folder
from laconic.searching.interval_search import MeasuredPoint, next_point

if TYPE_CHECKING:
    from laconic.searching.space import Point, Space

#: Trials that say something about their place, or will.
ALIVE: Final = (TrialState.COMPLETE, TrialState.RUNNING)
#: Evenly spread places that are looked through for one that nobody has measured.
PATIENCE: Final = 10_000


class Guide(BaseSampler):
    """The sampler of a search.

    Args:
        space: Where to look.
        seed: Spreads the first places differently.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed
        self._start = 2 * len(space.ranges) + 1

    def done(self, study: optuna.Study) -> bool:
        """Whether there is nothing left to try."""
        trials = study.get_trials(deepcopy=False, states=ALIVE)
        if len(self._space.ranges) == 1:
            return next_point(self._space.ranges[0], self._points(trials)) is None
        return len({_key(self.place(trial)) for trial in trials}) >= self._space.size

    def place(self, trial: FrozenTrial | optuna.Trial) -> dict[str, float]:
        """The values of a trial."""
        return self._space.nearest(trial.params)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The ranges as Optuna knows them."""
        return self.ranges

    @property
    def ranges(self) -> dict[str, BaseDistribution]:
        """The ranges as Optuna knows them, by name."""
        return {
            one.name: FloatDistribution(one.low, one.nearest(one.high), step=one.step)
            for one in self._space.ranges
        }

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """The place to try next."""
        others = [
            other
            for other in study.get_trials(deepcopy=False, states=ALIVE)
            if other.number != trial.number and other.params
        ]
        return self._next(study, trial, search_space, others)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A value for one range alone; Optuna requires the method, nothing calls it."""
        return self._space.middle()[param_name]

    def _next(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        space: dict[str, BaseDistribution],
        others: Sequence[FrozenTrial],
    ) -> dict[str, float]:
        if len(space) == 1:
            (interval,) = self._space.ranges
            next_place = next_point(interval, self._points(others))
            middle = interval.nearest((interval.low + interval.high) / 2)
            return {interval.name: middle if next_place is None else next_place}
        known = {_key(self.place(other)) for other in others}
        finished = sum(other.state == TrialState.COMPLETE for other in others)
        if len(others) >= self._start and finished:
            place = self._space.nearest(self._expected(study, trial, space))
            if _key(place) not in known:
                return place
        spread = map(self._spread, itertools.islice(itertools.count(), PATIENCE))
        return next((p for p in spread if _key(p) not in known), self._space.middle())

    def _expected(
        self, study: optuna.Study, trial: FrozenTrial, space: dict[str, BaseDistribution]
    ) -> dict[str, float]:
        """The place of the greatest expected gain."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.GPSampler(
                seed=1000 * self._seed + trial.number,
                n_startup_trials=1,
                warn_independent_sampling=False,
            )
            return sampler.sample_relative(study, trial, space)

    def _spread(self, number: int) -> dict[str, float]:
        """The n-th of a sequence of places that fills the space evenly."""
        d = len(self._space.ranges)
        root = 2.0
        for _ in range(60):  # the root of x^(d + 1) = x + 1, above 1
            root = (1 + root) ** (1 / (d + 1))
        turn = number + 101 * self._seed if number else 0
        shares = [(0.5 + turn / root ** (i + 1)) % 1 for i in range(d)]
        return self._space.nearest(
            {
                one.name: one.low + share * (one.high - one.low)
                for one, share in zip(self._space.ranges, shares, strict=True)
            }
        )

    def _points(self, trials: Sequence[FrozenTrial]) -> list[MeasuredPoint]:
        name = self._space.ranges[0].name
        return [
            MeasuredPoint(
                trial.params[name],
                trial.values[0] if trial.state == TrialState.COMPLETE else None,
                trial.values[1] if trial.state == TrialState.COMPLETE else 0.0,
                trial.user_attrs.get("thinking", 0.0),
                trial.user_attrs.get("excess"),
                trial.user_attrs.get("state") == "dropped",
            )
            for trial in trials
            if name in trial.params
        ]


def open_study(storage: str, name: str, guide: Guide) -> optuna.Study:
    """Open the list of trials that all workers share, or begin it.

    Args:
        storage: A database's URL, or the path of a journal file.
        name: What tells this search from others in one database.
        guide: Picks the places.

    Raises:
        RunError: If the storage cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        return optuna.create_study(
            storage=_opened(storage),
            study_name=name,
            sampler=guide,
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
    except ImportError as error:
        raise RunError(
            f"--storage {storage}: {error.name or error} is not installed here. Install the "
            "database's driver and SQLAlchemy, or leave --storage out."
        ) from None
    except Exception as error:  # noqa: BLE001  # a driver's own errors have no common parent
        reason = str(error).strip().split("\n", 1)[0]
        raise RunError(f"--storage {storage} cannot be used: {reason}") from None


def begun(storage: str, name: str) -> bool:
    """Whether a list of trials was begun; arguments as for `open_study`."""
    if "://" not in storage and not Path(storage).exists():
        return False
    return name in optuna.get_all_study_names(_opened(storage))


def _opened(storage: str) -> Any:
    """Where Optuna keeps the trials, opened if it is a file."""
    if "://" in storage:
        return storage
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    make_folder(Path(storage).parent)
    return JournalStorage(JournalFileBackend(storage))


def _key(point: Point) -> tuple[float, ...]:
    return tuple(point.values())
