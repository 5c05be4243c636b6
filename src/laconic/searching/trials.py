"""A worker of a search: takes the next candidate, merges it, and measures it rung by rung."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from optuna.trial import TrialState

from laconic.backends.contract.call import MODEL
from laconic.errors import RunError
from laconic.evaluation.session import MeasuredRun, open_helpers
from laconic.files.atomic import lock
from laconic.merging.plan import plan
from laconic.runs.run import read_run, results_file
from laconic.runtime import Progress, silent, versions
from laconic.scoring.score import Grader
from laconic.searching.crew import WORKER, at_work
from laconic.searching.goal import Constraint, stop_reason, summarise_model, versus
from laconic.searching.problems import rungs
from laconic.searching.resident import ModelSlot
from laconic.searching.sampler import ALIVE, Guide, open_study
from laconic.searching.space import read_space, words
from laconic.searching.study import State, Trial, append_trial, front_names, read_trials

if TYPE_CHECKING:
    from pathlib import Path

    import optuna

    from laconic.backends.contract.backend import Backend
    from laconic.evaluation.problem_set import ProblemSet
    from laconic.merging.plan import Plan
    from laconic.runs.run import Result

#: The references every candidate may be compared with.
REFERENCES: Final = ("system2", "system1")


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to know.

    Attributes:
        folder: The study's folder, seen by all workers.
        recipe: The recipe's plain values, ranges included.
        problems: What candidates are asked.
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
    problems: ProblemSet
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
    spec: WorkerSpec
    own: int

    def spent(self) -> int:
        """The tokens of references and trials so far."""
        counts: list[int] = [
            trial.user_attrs.get("tokens", 0)
            for trial in self.study.get_trials(deepcopy=False, states=ALIVE)
            if trial.number != self.trial.number
        ]
        return self.spec.before + self.own + sum(counts)

    def pay(self, results: Sequence[Result]) -> bool:
        """Count the tokens of a batch; whether any are left for another."""
        self.own += sum(result.length + result.helper_length for result in results)
        self.trial.set_user_attr("tokens", self.own)
        return self.spec.budget is None or self.spent() < self.spec.budget


def run_worker(spec: WorkerSpec, progress: Progress = silent) -> None:
    """Try candidates until there are no more of them, of trials, or of tokens.

    Raises:
        LaconicError: As for `merge` and `evaluate`.
    """
    _Worker(spec, progress).run()


@dataclass
class _Worker:
    spec: WorkerSpec
    progress: Progress
    kept_results: dict[str, list[Result]] = field(default_factory=dict)

    def run(self) -> None:
        self.space = read_space(self.spec.recipe)
        self.guide = Guide(self.space, self.spec.seed)
        self.study = open_study(self.spec.storage, self.spec.digest, self.guide)
        self.references = {
            name: self._results(f"references/{name}")
            for name in REFERENCES
            if (self.spec.folder / "references" / name).is_dir()
        }
        with (
            Grader(allow_code=self.spec.problems.allow_code) as self.grader,
            open_helpers(self.spec.problems) as self.helpers,
            closing(ModelSlot(self.spec.problems.backend, self.spec.folder / "work")) as self.slot,
            at_work(self.spec.folder) as worker,
        ):
            while (trial := self._ask(worker)) is not None:
                try:
                    going = self._try(trial)
                except Exception:
                    self.study.tell(trial, state=TrialState.FAIL)
                    raise
                if not going:
                    return

    def _ask(self, worker: str) -> optuna.Trial | None:
        """The next trial; None if there are none left."""
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if not waiting and (self._count() >= self.spec.trials or self.guide.done(self.study)):
            return None
        trial = self.study.ask(self.guide.ranges)
        trial.set_user_attr(WORKER, worker)
        if self._count() > self.spec.trials and not waiting:  # another worker was quicker
            self.study.tell(trial, state=TrialState.FAIL)
            return None
        return trial

    def _count(self) -> int:
        return len(self.study.get_trials(deepcopy=False, states=ALIVE))

    def _try(self, optuna_trial: optuna.Trial) -> bool:
        """Measure one candidate; whether any tokens are left for another."""
        began = time.monotonic()
        point = self.guide.place(optuna_trial)
        name = words(point)
        optuna_trial.set_user_attr("name", name)
        planned = plan(self.space.at(point))
        if in_use(self.spec.folder / "trials" / name):  # another worker measures this candidate
            self.study.tell(optuna_trial, state=TrialState.FAIL)
            return True
        engine = self.slot.take(planned)
        merging = time.monotonic() - began
        with self._open(name, planned, engine) as measured:
            spent_before = 0 if self._counted(optuna_trial, name) else measured.tokens
            meter = _Meter(self.study, optuna_trial, self.spec, spent_before)
            state, rung, reason = self._climb(measured, meter)
        results = measured.results
        if not results:
            self.study.tell(optuna_trial, state=TrialState.FAIL)
            return False
        compared = versus(results, self.references["system2"])
        trial = Trial(
            number=optuna_trial.number,
            name=name,
            parameters=point,
            state=state,
            reason=reason,
            rung=rung,
            rungs=len(rungs(self.spec.problems)),
            measured=summarise_model(results),
            accuracy_diff=compared.accuracy_diff,
            length_change=compared.length_change,
            tokens=meter.own,
            spent=meter.spent(),
            merge_seconds=round(merging, 2),
            seconds=round(time.monotonic() - began, 2),
            run=f"trials/{name}",
        )
        self._tell(optuna_trial, trial, results)
        return state != "budget"

    def _open(self, name: str, planned: Plan, engine: Backend) -> MeasuredRun:
        """The run of a candidate, new or resumed."""
        problems, engines = self.spec.problems, {MODEL: engine, **self.helpers}
        return MeasuredRun(
            problems,
            engines,
            problems.experiment(name, planned.digest, engines),
            grader=self.grader,
            folder=self.spec.folder / "trials" / name,
            provenance=provenance(planned, engine),
        )

    def _counted(self, optuna_trial: optuna.Trial, name: str) -> bool:
        """Whether another trial of the same candidate has counted its tokens."""
        others = self.study.get_trials(deepcopy=False, states=ALIVE)
        return any(
            other.number != optuna_trial.number and other.user_attrs.get("name") == name
            for other in others
        )

    def _climb(self, measured: MeasuredRun, meter: _Meter) -> tuple[State, int, str]:
        """Ask rung after rung until a test stops the candidate or the tokens run out."""
        all_rungs = rungs(self.spec.problems)
        rivals = self._rivals()
        for rung, samples in enumerate(all_rungs, start=1):
            if not meter.pay(()) or not measured.ask(samples, meter.pay):
                return "budget", rung, ""
            if rung < len(all_rungs):
                reason = stop_reason(
                    measured.results, rivals, self.spec.constraint, self.references
                )
                if reason:
                    return "dropped", rung, reason
        measured.finish()
        return "complete", len(all_rungs), ""

    def _tell(self, optuna_trial: optuna.Trial, trial: Trial, results: list[Result]) -> None:
        """Record the end of a trial in Optuna and in the folder."""
        optuna_trial.set_user_attr("thinking", trial.measured.thinking)
        optuna_trial.set_user_attr("state", trial.state)
        if self.spec.constraint is not None:
            excess = self.spec.constraint.excess(results, self.references)
            optuna_trial.set_user_attr("excess", excess)
            optuna_trial.set_constraint("constraint", excess)
        append_trial(self.spec.folder, trial)
        self.study.tell(optuna_trial, [trial.measured.accuracy.value, trial.measured.length.value])
        note = f"{trial.name}: {trial.measured.accuracy.value:.1%}, "
        note += f"{trial.measured.length.value:,.0f} tokens"
        self.progress(self._count(), self.spec.trials, note)

    def _rivals(self) -> dict[str, list[Result]]:
        """The references, and the trials that stand on the front so far."""
        complete = [t for t in read_trials(self.spec.folder) if t.state == "complete"]
        front = {name: self._results(f"trials/{name}") for name in front_names(complete)}
        return {**self.references, **front}

    def _results(self, run: str) -> list[Result]:
        if run not in self.kept_results:
            self.kept_results[run] = list(read_run(self.spec.folder / run).results)
        return self.kept_results[run]


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
