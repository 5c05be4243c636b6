"""The study of training on the lab: every arm on every seed, then all of it on fresh problems."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from laconic.errors import LaconicError
from laconic.files.json import read_json, write_json
from laconic.runs.run import read_run
from laconic.runtime import Progress, silent
from laconic.training.distributed import refuse_without_extra
from studies.bench import Bench
from studies.family import Family
from studies.tldr.arms import ARMS, BACKEND, Scale, StudyFolders, merges
from studies.tldr.work import Training, cost_of, make_data, side_by_side, train_arm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from laconic.merging.recipe import Recipe
    from laconic.runs.run import Result, Run
    from studies.tldr.arms import Arm

MARGIN: Final = 0.02
PROVE_ON: Final = "lab:size={}"
SETTINGS: Final = "study.json"


@dataclass(frozen=True)
class TldrFindings:
    """The measurements of the study of training.

    Attributes:
        scale: The number of problems and steps.
        seeds: The seeds.
        arms: The arms that were trained on each seed.
        trainings: The result of each training, by arm and seed.
        data_seconds: CPU seconds of each seed's data and bounds; None where it was stopped.
        test: System 1, System 2 and the merges on the fresh problems, by name.
        trained: The chosen checkpoint of each training on the same problems, by arm and seed.
        last: The last checkpoint of each on its seed's dev problems, chosen or not.
    """

    scale: Scale
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    trainings: Mapping[tuple[str, int], Training]
    data_seconds: Mapping[int, float | None]
    test: Mapping[str, Run]
    trained: Mapping[tuple[str, int], Run]
    last: Mapping[tuple[str, int], Run]

    def pooled(self, arm: str) -> tuple[Result, ...]:
        """An arm's test results of all seeds, a seed being a repeat of each problem."""
        return self._together(self.trained, arm)

    def ended(self, arm: str) -> tuple[Result, ...]:
        """The dev results of an arm's last checkpoints, all seeds together."""
        return self._together(self.last, arm)

    def _together(self, runs: Mapping[tuple[str, int], Run], arm: str) -> tuple[Result, ...]:
        return tuple(
            replace(result, repeat=place)
            for place, seed in enumerate(self.seeds)
            for result in runs[arm, seed].results
        )


def study_tldr(
    output: str | Path,
    *,
    scale: Scale | None = None,
    seeds: Sequence[int] = (1, 2, 3),
    arms: Sequence[Arm] = ARMS,
    workers: int = 1,
    progress: Progress = silent,
) -> TldrFindings:
    """Shorten the lab's System 2 by every arm, and measure the results.

    Args:
        output: The folder to create; a stopped study and its stopped trainings continue in it.
            Seeds and arms may be added later.
        scale: How many problems and steps.
        seeds: Of problems, rows and their order; each is a training of every arm.
        arms: What is trained.
        workers: Processes that train and measure.
        progress: Called after each finished piece of work.

    Raises:
        LaconicError: For a folder of another study or scale; as for `train` and `evaluate`.
    """
    refuse_without_extra()
    scale, folders = scale or Scale(), StudyFolders(Path(output).expanduser().resolve())
    arms, seeds = tuple(arms), tuple(seeds)
    _claim(folders.folder, scale)
    first = [arm for arm in arms if not arm.like]
    then = [arm for arm in arms if arm.like]
    counted = _Counted(progress, len(seeds) * (1 + 2 * len(arms)) + 2 + len(merges(Family.at())))

    data = {f"data of seed {seed}": (seed, arms, scale, folders) for seed in seeds}
    side_by_side(make_data, data, workers, counted)
    for several in (first, then):
        jobs = {
            f"{arm.name}, seed {seed}": (arm, seed, scale, folders)
            for seed in seeds
            for arm in several
        }
        side_by_side(train_arm, jobs, workers, counted)
    return _measured(folders, scale, seeds, arms, workers, counted)


def _measured(
    folders: StudyFolders,
    scale: Scale,
    seeds: tuple[int, ...],
    arms: tuple[Arm, ...],
    workers: int,
    counted: _Counted,
) -> TldrFindings:
    """Measure everything on the test problems, by which nothing was chosen."""
    family = Family.at()
    trained = {f"{arm.name}, seed {seed}": (arm.name, seed) for arm in arms for seed in seeds}
    models: dict[str, str | Recipe] = {
        "system1": family.system1,
        "system2": family.system2,
        **merges(family),
        **{name: str(folders.training(*key) / "best") for name, key in trained.items()},
    }
    bench = Bench(folders.folder, workers, counted.rest(), BACKEND)
    test = bench.runs("test", PROVE_ON.format(scale.test), models)
    trainings = {key: Training.read(folders.training(*key)) for key in trained.values()}
    return TldrFindings(
        scale=scale,
        seeds=seeds,
        arms=arms,
        trainings=trainings,
        data_seconds={seed: cost_of(folders.seed(seed)) for seed in seeds},
        test={name: run for name, run in test.items() if name not in trained},
        trained={key: test[name] for name, key in trained.items()},
        last={key: read_run(training.last) for key, training in trainings.items()},
    )


def _claim(folder: Path, scale: Scale) -> None:
    """Create a folder for a scale, or continue in one that has it.

    Raises:
        LaconicError: For a folder that holds something else, or a study of another scale.
    """
    settings = {"study": "tldr", **asdict(scale)}
    if not (folder / SETTINGS).exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise LaconicError(f"{folder} exists and holds no study. Choose another folder.")
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SETTINGS, settings)
        return
    saved = read_json(folder / SETTINGS, LaconicError)
    for key, value in settings.items():
        if saved.get(key) != value:
            raise LaconicError(
                f"{folder} holds a study with {key} {saved.get(key)}, not {value}. Give it the "
                "settings it began with, or choose another folder."
            )


@dataclass
class _Counted:
    """Counts pieces of work for a progress bar.

    Attributes:
        progress: Called after each piece.
        total: How many pieces there are.
        done: How many are done.
    """

    progress: Progress
    total: int
    done: int = 0

    def __call__(self, name: str) -> None:
        self.done += 1
        self.progress(self.done, self.total, name)

    def rest(self) -> Progress:
        """The progress of a part of the work that counts its own pieces."""
        before = self.done

        def report(done: int, total: int, note: str = "") -> None:
            self.done = before + done
            self.progress(self.done, self.total, note)

        return report
