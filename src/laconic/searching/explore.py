"""A whole search: the references first, then candidates, then the winner on held-out problems."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laconic.errors import RunError
from laconic.evaluation.evaluate import GREEDY, PLAIN
from laconic.files.atomic import lock, make_folder, write_file
from laconic.files.json import write_json
from laconic.merging.recipe import read_recipe
from laconic.runs.run import read_run
from laconic.runtime import Progress, silent, versions
from laconic.scoring.score import Grader
from laconic.searching.crew import repair_trials, retry, wait_for_others
from laconic.searching.goal import Constraint, read_constraint, summarise_model
from laconic.searching.measure import Measurer
from laconic.searching.problems import deal_problems
from laconic.searching.sampler import Guide, begun, open_study
from laconic.searching.space import read_space
from laconic.searching.spec import SearchSpec, find_references
from laconic.searching.study import (
    STUDY,
    Study,
    Trial,
    front_names,
    read_facts,
    read_study,
    read_trials,
)
from laconic.searching.trials import WorkerSpec, run_worker
from laconic.searching.workers import pool

if TYPE_CHECKING:
    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Result


def search(
    recipe: str | Path | Mapping[str, Any],
    output: str | Path,
    tasks: Sequence[str],
    *,
    prove_on: Sequence[str] = (),
    constraint: str | None = None,
    trials: int | None = None,
    budget: int | None = None,
    system1: str | None = None,
    sampling: Sampling = GREEDY,
    backend: str = "transformers",
    limit: int | None = None,
    prompt: str = PLAIN,
    data: str | Path | None = None,
    allow_code: bool = False,
    workers: int = 1,
    storage: str | None = None,
    join: bool = False,
    progress: Progress = silent,
) -> Study:
    """Find the front of accuracy and length over a recipe's ranges, and prove the best of it.

    System 2 and System 1 are measured first. Candidates then see the problems in growing subsets;
    a candidate is dropped on the way if paired tests say that it cannot be the best. The winner is
    measured once more, on problems that no choice was made by. After an interruption the same call
    on the same folder goes on; with more trials or tokens it goes further.

    Args:
        recipe: A recipe with ranges, ``{low: 0.3, high: 0.9}`` with an optional ``step`` where a
            number would stand: a file or its plain values.
        output: The study's folder (`laconic.searching.study` says what is in it).
        tasks: What to search on.
        prove_on: What to prove the winner on; by default half of each task's problems.
        constraint: Such as ``accuracy>=system2-0.01`` (then the shortest wins) or
            ``length<=system2*0.5`` (then the most accurate wins). None looks for the whole front;
            the winner is then the shortest that is not worse than System 2 by 2 points.
        trials: The most candidates; by default 12, and 12 more for each range after the first.
        budget: The most tokens to generate, references and proof included; a worker stops at the
            batch that reaches it.
        system1: The fast model; by default the recipe's base.
        sampling: How completions are drawn. Its seed also shuffles the problems.
        backend: The engine, ``NAME`` or ``NAME:key=value,...``.
        limit: Only the first so many problems of each task.
        prompt: A prompt's name, or the user's turn with ``{problem}``.
        data: The problems of named tasks, a file or folder.
        allow_code: Whether programs that the model writes may be run, in a sandbox.
        workers: Processes that try candidates side by side, each with a model of its own.
        storage: Where Optuna keeps the trials: a database's URL or a journal file; by default a
            journal in the folder.
        join: Help a search that runs elsewhere and sees the same folder.
        progress: Told after each measured model.

    Raises:
        RecipeError: For ranges that break a rule, before anything is measured.
        RunError: For a folder in use or of another search, or a budget that is too small.
        LaconicError: As for `merge` and `evaluate`.
    """
    values = recipe if isinstance(recipe, Mapping) else read_recipe(recipe)
    space = read_space(values)
    space.check()
    problems, proof = deal_problems(
        tasks,
        prove_on,
        sampling=sampling,
        backend=backend,
        limit=limit,
        prompt=prompt,
        data=data,
        allow_code=allow_code,
    )
    wanted = read_constraint(constraint) if constraint else None
    _check_counts(trials, budget, workers)
    spec = SearchSpec(space, problems, proof, wanted, find_references(space, system1, wanted))
    leader = _Leader(
        spec,
        Path(output).expanduser(),
        trials=trials or 12 * len(space.ranges),
        budget=budget,
        workers=workers,
        storage=storage,
        progress=progress,
    )
    if join:
        leader.help()
    else:
        leader.lead()
    return read_study(leader.folder)


class _Leader:
    """Runs a search, from the references to the proof."""

    def __init__(
        self,
        spec: SearchSpec,
        folder: Path,
        *,
        trials: int,
        budget: int | None,
        workers: int,
        storage: str | None,
        progress: Progress,
    ) -> None:
        self.spec = spec
        self.folder = folder
        self.trials = trials
        self.budget = budget
        self.workers = workers
        self.storage = storage or str(folder / "journal.log")
        self.progress = progress
        self.facts: dict[str, Any] = {
            "schema": 1,
            "kind": "search",
            "complete": False,
            "state": "references",
            "digest": spec.digest,
            **spec.facts(),
            "trials": trials,
            "budget": budget,
            "references": {},
            "tokens": {"references": 0, "search": 0, "proof": 0},
            "front": [],
            "winner": None,
            "versions": versions("optuna", "torch", "transformers"),
            "command": list(sys.argv),
        }

    def lead(self) -> None:
        """Run the whole search."""
        self._refuse_other()
        make_folder(self.folder)
        allow_code = self.spec.problems.allow_code
        with self._alone(), Grader(allow_code=allow_code) as grader:
            measurer = Measurer(
                self.spec, self.folder, grader, self.facts["tokens"], self.budget, self.progress
            )
            self._note("references")
            runs = {name: measurer.reference(name) for name in self.spec.references}
            self.facts["references"] = {
                name: {
                    "model": self.spec.references[name],
                    "run": f"references/{name}",
                    **summarise_model(results).plain(),
                }
                for name, results in runs.items()
            }
            worker = self._worker_spec(runs)
            self._note("searching")
            guide = Guide(self.spec.space, worker.seed)
            study = open_study(worker.storage, worker.digest, guide)
            repair_trials(study, self.folder, guide)
            retry(study, self.folder, guide)
            self._spread(worker)
            wait_for_others(study, self.folder)
            while retry(study, self.folder, guide):
                self._spread(worker)
                wait_for_others(study, self.folder)
            self._prove(runs, measurer)

    def help(self) -> None:
        """Try candidates for a search that another process leads."""
        study = read_study(self.folder)
        if study.facts["digest"] != self.spec.digest:
            raise RunError(f"{self.folder} is of another search. Give the same options as there.")
        if study.facts["state"] != "searching":
            raise RunError(
                f"The search of {self.folder} is not trying candidates now (it is at: "
                f"{study.facts['state']}). Join it when its references are measured."
            )
        names = study.facts["references"]
        runs = {name: list(read_run(self.folder / "references" / name).results) for name in names}
        self.facts["tokens"] = study.facts["tokens"]
        self.budget = study.facts["budget"]
        self._spread(replace(self._worker_spec(runs), trials=study.facts["trials"]))

    def _refuse_other(self) -> None:
        """Refuse a folder that holds something else than this search."""
        if (self.folder / STUDY).exists():
            try:
                same = read_facts(self.folder).get("digest") == self.spec.digest
            except RunError as error:
                if not begun(self.storage, self.spec.digest):
                    raise RunError(
                        f"{error} And {self.storage} has no trials of it. Give the options that "
                        "it was begun with, choose another output folder, or delete this one."
                    ) from None
                same = True
            if not same:
                raise RunError(
                    f"{self.folder} holds a search of another recipe, other problems or other "
                    "settings. Choose another output folder, or delete this one."
                )
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise RunError(f"{self.folder} exists and is no search's folder. Choose another.")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the folder against a second leader."""
        with (self.folder / ".lock").open("a") as stream:
            lock(
                stream,
                RunError(
                    f"Another search is at work in {self.folder}. Help it with --join, wait for "
                    "it, or choose another output folder."
                ),
            )
            yield

    def _note(self, state: str) -> None:
        """Write study.json with a new state."""
        self.facts["state"] = state
        self.facts["complete"] = state == "done"
        write_json(self.folder / STUDY, self.facts)

    def _worker_spec(self, runs: Mapping[str, Sequence[Result]]) -> WorkerSpec:
        """What the workers need to know; part of the token budget is reserved for the proof."""
        before = self.facts["tokens"]["references"]
        most = None if self.budget is None else self.budget - self._reserve(runs)
        if most is not None and most <= before:
            raise RunError(
                f"The budget of {self.budget:,} tokens leaves nothing to search with: the "
                f"references took {before:,}, and the proof may take {self._reserve(runs):,}. Give "
                "a larger --budget, or fewer problems."
            )
        return WorkerSpec(
            folder=self.folder,
            recipe=self.spec.space.values,
            problems=self.spec.problems,
            constraint=self.spec.constraint,
            storage=self.storage,
            digest=self.spec.digest,
            trials=self.trials,
            budget=most,
            before=before,
            seed=self.spec.problems.sampling.seed,
        )

    def _reserve(self, runs: Mapping[str, Sequence[Result]]) -> int:
        """Estimate the tokens of the proof: the references, and a winner as long as System 2."""
        lengths = [summarise_model(results).length.value for results in runs.values()]
        lengths.append(summarise_model(runs["system2"]).length.value)
        return round(len(self.spec.proof.samples) * sum(lengths))

    def _spread(self, worker: WorkerSpec) -> None:
        """Run the workers until all have ended."""
        if self.workers == 1:
            run_worker(worker, self.progress)
            return
        with pool(self.workers) as executor:
            pending = {executor.submit(run_worker, worker) for _ in range(self.workers)}
            while pending:
                done, pending = wait(pending, timeout=1, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                ended = read_trials(self.folder)
                self.progress(len(ended), self.trials, ended[-1].name if ended else "")

    def _prove(self, runs: Mapping[str, Sequence[Result]], measurer: Measurer) -> None:
        """Choose the winner, measure it on held-out problems, and write the outcome."""
        ended = read_trials(self.folder)
        complete = [trial for trial in ended if trial.state == "complete"]
        tokens = self.facts["tokens"]
        tokens["search"] = max((trial.spent for trial in ended), default=0) - tokens["references"]
        self.facts["front"] = front_names(complete)
        chosen = choose(self.folder, complete, runs, self.spec.goal)
        if chosen is None:
            self._note("done")
            return
        trial, shown = chosen
        recipe = self.spec.space.at(trial.parameters)
        write_file(self.folder / "recipe.yaml", recipe.to_yaml().encode("utf-8"))
        winner: dict[str, Any] = {
            "name": trial.name,
            "parameters": dict(trial.parameters),
            "shown": shown,
            "proof": None,
        }
        self.facts["winner"] = winner
        self._note("proving")
        winner["proof"] = measurer.prove(trial)
        self._note("done")


def choose(
    folder: Path,
    trials: Sequence[Trial],
    references: Mapping[str, Sequence[Result]],
    constraint: Constraint,
) -> tuple[Trial, bool] | None:
    """The best trial that meets a constraint, and whether that was shown or only measured.

    Trials that are shown to meet it (95 %) come before those that meet it only as measured. Among
    equals the shortest is best, or the most accurate if the constraint is about length.

    Args:
        folder: The study's.
        trials: Those that were asked every problem.
        references: System 1 and System 2 on the same problems.
        constraint: What they must meet.
    """
    best: dict[bool, tuple[float, Trial]] = {}
    for trial in trials:
        results = read_run(folder / trial.run).results
        if constraint.excess(results, references) > 0:
            continue
        shown = constraint.verdict(results, references) == "yes"
        about = trial.measured
        worth = about.length.value if constraint.about == "accuracy" else -about.accuracy.value
        if shown not in best or worth < best[shown][0]:
            best[shown] = worth, trial
    for shown in (True, False):
        if shown in best:
            return best[shown][1], shown
    return None


def _check_counts(trials: int | None, budget: int | None, workers: int) -> None:
    for name, value in (("trials", trials), ("budget", budget), ("workers", workers)):
        if value is not None and value < 1:
            raise RunError(f"{name} must be at least 1, got {value}.")
