"""Measurements around the trials: the references before them, the winner's proof after them."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from laconic.errors import RunError
from laconic.evaluation.evaluate import open_engine
from laconic.merging.plan import plan
from laconic.runs.run import is_run, read_run
from laconic.searching.goal import measured, versus
from laconic.searching.problem_set import Sitting
from laconic.searching.resident import Seats
from laconic.searching.trials import provenance

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.runs.run import Result, Run
    from laconic.runtime import Progress
    from laconic.scoring.score import Grader
    from laconic.searching.problem_set import Exam
    from laconic.searching.spec import Asked
    from laconic.searching.study import Trial


@dataclass(frozen=True)
class Measurer:
    """Measures models whole, or takes what was measured, within the budget.

    Attributes:
        asked: What is asked of the search.
        folder: The study's.
        grader: Grades the answers.
        tokens: Generated so far, by ``references``, ``search`` and ``proof``; counted on.
        budget: The most tokens in all, if there is a limit.
        progress: Told after each batch.
    """

    asked: Asked
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
        results, done = self._answers(self.asked.exam, folder, name)
        if not done:
            raise RunError(
                f"The budget of {self.budget:,} tokens ended while {name} was measured. It is "
                "kept: give a larger --budget, or fewer problems (--limit)."
            )
        return results

    def _answers(self, exam: Exam, folder: Path, name: str) -> tuple[list[Result], bool]:
        """A reference's results, and whether all are there; tokens are counted."""
        kind, model = folder.parent.name, self.asked.references[name]
        if run := _complete(folder):
            self.tokens[kind] += sum(result.length for result in run.results)
            return list(run.results), True
        with closing(open_engine(model, exam.backend)) as engine:
            exam.check(engine)
            facts = {"versions": engine.versions, "device": engine.device, "command": sys.argv}
            with Sitting(
                exam,
                engine,
                folder,
                grader=self.grader,
                model=model,
                digest=engine.fingerprint,
                provenance=facts,
            ) as sitting:
                return self._ask(exam, sitting, kind, name)

    def _ask(self, exam: Exam, sitting: Sitting, kind: str, name: str) -> tuple[list[Result], bool]:
        """Ask one model everything, as far as the budget goes."""
        self.tokens[kind] += sitting.tokens

        def paid(new: int) -> bool:
            self.tokens[kind] += new
            self.progress(len(sitting.results), exam.problems, name)
            return self.budget is None or sum(self.tokens.values()) < self.budget

        done = paid(0)
        for rung in exam.rungs():
            done = done and sitting.ask(rung, paid)
        if done:
            sitting.finish()
        return sitting.results, done

    def prove(self, trial: Trial) -> dict[str, Any]:
        """The winner and the references on the problems kept for it, as far as the budget goes."""
        proof, place = self.asked.proof, self.folder / "proof"
        found: dict[str, list[Result]] = {}
        for name in self.asked.references:
            found[name], _ = self._answers(proof, place / name, name)
        found["winner"] = self._winner(trial)
        if not (found["winner"] and found["system2"]):
            return {"problems": proof.problems, "answered": 0}
        compared = versus(found["winner"], found["system2"])
        goal = self.asked.goal
        return {
            "problems": proof.problems,
            "answered": len(found["winner"]),
            **{name: measured(rows).plain() for name, rows in found.items() if rows},
            "accuracy_diff": asdict(compared.accuracy_diff),
            "length_change": asdict(compared.length_change),
            "constraint": str(goal),
            "verdict": goal.verdict(found["winner"], found),
        }

    def _winner(self, trial: Trial) -> list[Result]:
        """The winner's results on the problems kept for the proof."""
        proof, place = self.asked.proof, self.folder / "proof"
        planned = plan(self.asked.space.at(trial.parameters))
        if run := _complete(place / "winner"):
            self.tokens["proof"] += sum(result.length for result in run.results)
            return list(run.results)
        with closing(Seats(proof.backend, self.folder / "work")) as seats:
            engine = seats.take(planned)
            with Sitting(
                proof,
                engine,
                place / "winner",
                grader=self.grader,
                model=trial.name,
                digest=planned.digest,
                provenance=provenance(planned, engine),
            ) as sitting:
                return self._ask(proof, sitting, "proof", "proof")[0]


def _complete(folder: Path) -> Run | None:
    """The run of a folder, where it is complete and not damaged."""
    try:
        run = read_run(folder) if is_run(folder) else None
    except RunError:
        return None  # the writer puts it right, or says why not
    return run if run and run.complete else None
