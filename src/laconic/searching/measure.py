"""Measures the references before the trials, and the winner on held-out problems after them."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from laconic.backends.contract.call import MODEL
from laconic.errors import RunError
from laconic.evaluation.session import MeasuredRun, complete_run, open_engine, open_helpers
from laconic.merging.plan import plan
from laconic.searching.goal import summarise_model, versus
from laconic.searching.problems import rungs
from laconic.searching.resident import ModelSlot
from laconic.searching.trials import provenance

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from laconic.backends.contract.backend import Backend
    from laconic.evaluation.problem_set import ProblemSet
    from laconic.runs.run import Result
    from laconic.runtime import Progress
    from laconic.scoring.score import Grader
    from laconic.searching.spec import SearchSpec
    from laconic.searching.study import Trial


@dataclass(frozen=True)
class Measurer:
    """Measures models on every problem within the budget, and takes over complete runs.

    Attributes:
        spec: What is searched.
        folder: The study's.
        grader: Grades the answers.
        tokens: Generated so far, by ``references``, ``search`` and ``proof``; counted on.
        budget: The most tokens in all, if there is a limit.
        progress: Told after each batch.
    """

    spec: SearchSpec
    folder: Path
    grader: Grader
    tokens: dict[str, int]
    budget: int | None
    progress: Progress

    def reference(self, name: str) -> list[Result]:
        """A reference's results on the problems to search on.

        Raises:
            RunError: If the budget ended before the last of them.
        """
        folder = self.folder / "references" / name
        results, done = self._answers(self.spec.problems, folder, name)
        if not done:
            raise RunError(
                f"The budget of {self.budget:,} tokens ended while {name} was measured. It is "
                "kept: give a larger --budget, or fewer problems (--limit)."
            )
        return results

    def _answers(self, problems: ProblemSet, folder: Path, name: str) -> tuple[list[Result], bool]:
        """A reference's results, and whether all are there; tokens are counted."""
        if (kept := self._kept(folder)) is not None:
            return kept, True
        model = self.spec.references[name]
        with closing(open_engine(model, problems.backend)) as engine:
            facts = {"versions": engine.versions, "device": engine.device, "command": sys.argv}
            problems.refuse_overflow({MODEL: engine})
            return self._ask(problems, engine, folder, (model, engine.fingerprint), facts, name)

    def _kept(self, folder: Path) -> list[Result] | None:
        """The results of a run that is complete, their tokens counted; else None."""
        run = complete_run(folder)
        if run is None:
            return None
        self.tokens[folder.parent.name] += _tokens(run.results)
        return list(run.results)

    def _ask(
        self,
        problems: ProblemSet,
        engine: Backend,
        folder: Path,
        model: tuple[str, str],
        facts: dict[str, Any],
        note: str,
    ) -> tuple[list[Result], bool]:
        """Ask one model everything, as far as the budget goes.

        Args:
            problems: What is asked.
            engine: Holds the model.
            folder: The run folder; its parent's name says which tokens are counted.
            model: How the run calls the model, and the digest of all that decides its weights.
            facts: What run.json says beside the experiment.
            note: What the progress says.
        """
        kind = folder.parent.name
        with open_helpers(problems) as helpers:
            engines = {MODEL: engine, **helpers}
            with MeasuredRun(
                problems,
                engines,
                problems.experiment(*model, engines),
                grader=self.grader,
                folder=folder,
                provenance=facts,
            ) as measured:
                self.tokens[kind] += measured.tokens

                def pay(results: Sequence[Result]) -> bool:
                    self.tokens[kind] += _tokens(results)
                    self.progress(len(measured.results), problems.problems, note)
                    return self.budget is None or sum(self.tokens.values()) < self.budget

                done = pay(())
                for rung in rungs(problems):
                    done = done and measured.ask(rung, pay)
                if done:
                    measured.finish()
                return measured.results, done

    def prove(self, trial: Trial) -> dict[str, Any]:
        """The winner and the references on the problems kept for it, as far as the budget goes."""
        proof, place = self.spec.proof, self.folder / "proof"
        results: dict[str, list[Result]] = {}
        for name in self.spec.references:
            results[name], _ = self._answers(proof, place / name, name)
        results["winner"] = self._winner(trial)
        if not (results["winner"] and results["system2"]):
            return {"problems": proof.problems, "answered": 0}
        compared = versus(results["winner"], results["system2"])
        goal = self.spec.goal
        return {
            "problems": proof.problems,
            "answered": len(results["winner"]),
            **{name: summarise_model(rows).plain() for name, rows in results.items() if rows},
            "accuracy_diff": asdict(compared.accuracy_diff),
            "length_change": asdict(compared.length_change),
            "constraint": str(goal),
            "verdict": goal.verdict(results["winner"], results),
        }

    def _winner(self, trial: Trial) -> list[Result]:
        """The winner's results on the problems kept for the proof."""
        proof, folder = self.spec.proof, self.folder / "proof" / "winner"
        if (kept := self._kept(folder)) is not None:
            return kept
        planned = plan(self.spec.space.at(trial.parameters))
        with closing(ModelSlot(proof.backend, self.folder / "work")) as slot:
            engine = slot.take(planned)
            facts = provenance(planned, engine)
            model = trial.name, planned.digest
            return self._ask(proof, engine, folder, model, facts, "proof")[0]


def _tokens(results: Iterable[Result]) -> int:
    """The tokens that results took, helpers included."""
    return sum(result.length + result.helper_length for result in results)
