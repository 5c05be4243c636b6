"""A worker of a search: takes a place to try, merges, measures rung by rung, tells the others."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from optuna.trial import TrialState

from laconic.errors import RunError
from laconic.files.atomic import lock
from laconic.merging.plan import plan
from laconic.runs.run import read_run, results_file
from laconic.runtime import Progress, silent, versions
from laconic.scoring.score import Grader
from laconic.searching.crew import WORKER, at_work
from laconic.searching.goal import Constraint, hopeless, measured, versus
from laconic.searching.problem_set import Exam, Sitting
from laconic.searching.resident import Seats
from laconic.searching.sampler import ALIVE, Guide, open_study
from laconic.searching.space import read_space, words
from laconic.searching.study import State, Trial, append_trial, front_names, read_trials

if TYPE_CHECKING:
    from pathlib import Path

    import optuna

    from laconic.merging.plan import Plan
    from laconic.runs.run import Result

#: The references every candidate may be compared with.
REFERENCES: Final = ("system2", "system1")


@dataclass(frozen=True)
class Work:
    """What a worker needs to know.

    Attributes:
        folder: The study's folder, seen by all workers.
        recipe: The recipe's plain values, ranges included.
        exam: What candidates are asked.
        constraint: What they must keep to, if anything.
        storage: Where Optuna keeps the trials.
        digest: The search's name there.
        trials: How many there may be in all.
        budget: The most tokens of references and trials together; None for any number.
        before: Tokens that the references took.
        seed: The only source of randomness.
    """

    folder: Path
    recipe: Mapping[str, Any]
    exam: Exam
    constraint: Constraint | None
    storage: str
    digest: str
    trials: int
    budget: int | None
    before: int
    seed: int


@dataclass
class _Meter:
    """Counts the tokens of a trial against the budget that all workers share."""

    study: optuna.Study
    trial: optuna.Trial
    work: Work
    own: int

    def spent(self) -> int:
        """The tokens of references and trials so far."""
        counts: list[int] = [
            trial.user_attrs.get("tokens", 0)
            for trial in self.study.get_trials(deepcopy=False, states=ALIVE)
            if trial.number != self.trial.number
        ]
        return self.work.before + self.own + sum(counts)

    def paid(self, tokens: int) -> bool:
        """Count a batch; whether there is anything left for another."""
        self.own += tokens
        self.trial.set_user_attr("tokens", self.own)
        return self.work.budget is None or self.spent() < self.work.budget


def work(job: Work, progress: Progress = silent) -> None:
    """Try places until there are no more of them, of trials, or of tokens.

    Raises:
        LaconicError: As for `merge` and `evaluate`.
    """
    _Worker(job, progress).run()


@dataclass
class _Worker:
    job: Work
    progress: Progress
    held: dict[str, list[Result]] = field(default_factory=dict)

    def run(self) -> None:
        self.space = read_space(self.job.recipe)
        self.guide = Guide(self.space, self.job.seed)
        self.study = open_study(self.job.storage, self.job.digest, self.guide)
        self.references = {
            name: self._results(f"references/{name}")
            for name in REFERENCES
            if (self.job.folder / "references" / name).is_dir()
        }
        with (
            Grader(allow_code=self.job.exam.allow_code) as grader,
            closing(Seats(self.job.exam.backend, self.job.folder / "work")) as seats,
            at_work(self.job.folder) as worker,
        ):
            while (trial := self._ask(worker)) is not None:
                try:
                    going = self._try(trial, seats, grader)
                except Exception:
                    self.study.tell(trial, state=TrialState.FAIL)
                    raise
                if not going:
                    return

    def _ask(self, worker: str) -> optuna.Trial | None:
        """The next trial; None where there are none left."""
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not waiting and (self._count() >= self.job.trials or self.guide.done(self.study)):
            return None
        trial = self.study.ask(self.guide.ranges)
        trial.set_user_attr(WORKER, worker)
        if self._count() > self.job.trials and not waiting:  # another worker was quicker
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        return trial

    def _count(self) -> int:
        return len(self.study.get_trials(deepcopy=False, states=ALIVE))

    def _try(self, asked: optuna.Trial, seats: Seats, grader: Grader) -> bool:
        """Measure one candidate; whether there is anything left for another."""
        began = time.monotonic()
        point = self.guide.place(asked)
        name = words(point)
        asked.set_user_attr("name", name)
        planned = plan(self.space.at(point))
        if self._taken(name):
            self.study.tell(asked, state=TrialState.FAIL)
            return True
        engine = seats.take(planned)
        merging = time.monotonic() - began
        with Sitting(
            self.job.exam,
            engine,
            self.job.folder / "trials" / name,
            grader=grader,
            model=name,
            digest=planned.digest,
            provenance=provenance(planned, engine),
        ) as sitting:
            others = self.study.get_trials(deepcopy=False, states=ALIVE)
            counted = any(
                one.number != asked.number and one.user_attrs.get("name") == name for one in others
            )
            meter = _Meter(self.study, asked, self.job, 0 if counted else sitting.tokens)
            state, rung, reason = self._climb(sitting, meter)
        if not sitting.results:
            self.study.tell(asked, state=TrialState.FAIL)
            return False
        found, compared = measured(sitting.results), self._against_system2(sitting)
        trial = Trial(
            number=asked.number,
            name=name,
            parameters=point,
            state=state,
            reason=reason,
            rung=rung,
            rungs=len(self.job.exam.rungs()),
            measured=found,
            accuracy_diff=compared.accuracy_diff,
            length_change=compared.length_change,
            tokens=meter.own,
            spent=meter.spent(),
            merge_seconds=round(merging, 2),
            seconds=round(time.monotonic() - began, 2),
            run=f"trials/{name}",
        )
        self._tell(asked, trial, sitting.results)
        return state != "budget"

    def _climb(self, sitting: Sitting, meter: _Meter) -> tuple[State, int, str]:
        """Ask rung after rung for as long as there is hope and money."""
        rungs = self.job.exam.rungs()
        rivals = self._rivals()
        for rung, samples in enumerate(rungs, start=1):
            if not meter.paid(0) or not sitting.ask(samples, meter.paid):
                return "budget", rung, ""
            if rung < len(rungs):
                reason = hopeless(sitting.results, rivals, self.job.constraint, self.references)
                if reason:
                    return "dropped", rung, reason
        sitting.finish()
        return "complete", len(rungs), ""

    def _tell(self, asked: optuna.Trial, trial: Trial, results: list[Result]) -> None:
        """Let Optuna and the folder know how a trial ended."""
        asked.set_user_attr("thinking", trial.measured.thinking)
        asked.set_user_attr("state", trial.state)
        if self.job.constraint is not None:
            excess = self.job.constraint.excess(results, self.references)
            asked.set_user_attr("excess", excess)
            asked.set_constraint("constraint", excess)
        append_trial(self.job.folder, trial)
        self.study.tell(asked, [trial.measured.accuracy.value, trial.measured.length.value])
        note = f"{trial.name}: {trial.measured.accuracy.value:.1%}, "
        note += f"{trial.measured.length.value:,.0f} tokens"
        self.progress(self._count(), self.job.trials, note)

    def _against_system2(self, sitting: Sitting) -> Any:
        return versus(sitting.results, self.references["system2"])

    def _rivals(self) -> dict[str, list[Result]]:
        """The references, and the trials that stand on the front so far."""
        complete = [t for t in read_trials(self.job.folder) if t.state == "complete"]
        front = {name: self._results(f"trials/{name}") for name in front_names(complete)}
        return {**self.references, **front}

    def _results(self, run: str) -> list[Result]:
        if run not in self.held:
            self.held[run] = list(read_run(self.job.folder / run).results)
        return self.held[run]

    def _taken(self, name: str) -> bool:
        """Whether another worker is measuring this very candidate."""
        return in_use(self.job.folder / "trials" / name)


def in_use(folder: Path) -> bool:
    """Whether a process is writing a run."""
    try:
        path = results_file(folder) if folder.is_dir() else None
    except RunError:
        return False
    if path is None:
        return False
    with path.open("ab") as stream:
        try:
            lock(stream, RunError(f"{folder} is in use."))
        except RunError:
            return True
    return False


def provenance(planned: Plan, engine: Any) -> dict[str, Any]:
    """What the run of a trial says beside its experiment."""
    return {
        "recipe": planned.recipe.to_dict(),
        "digest": planned.digest,
        "command": list(sys.argv),
        "versions": versions("math-verify", "numba") | engine.versions,
        "device": engine.device,
        "window": engine.window,
    }
