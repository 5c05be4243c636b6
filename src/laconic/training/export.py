"""The end of a training: the best checkpoint as a model folder, measured on held-out problems."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from laconic.checkpoints.adapter import open_model
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.merging.merge import execute
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from laconic.stats import Pair, Summary, pair, summarise
from laconic.training.recipe import GivenFigures
from laconic.training.references import heldout_run
from laconic.training.rounding import Survival, as_delivered, survival
from laconic.training.selection import Candidate, lacking

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.runs.run import Run
    from laconic.runtime import Progress
    from laconic.training.distributed import Processes
    from laconic.training.mixture_state import MixtureState
    from laconic.training.prepare import PreparedTraining
    from laconic.training.run_folder import RunFolder

#: The name of the delivered model in tables.
BEST = "best"


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        folder: Its folder; the model is in ``best``.
        best: The checkpoint that was chosen, by the problems that steered the mixture.
        system2: System 2 on the same problems.
        lacking: The reason why it is not good enough; empty where it is.
        stopped: The reason why training ended before its last step; empty where it did not.
        steps: How many steps were trained.
        tokens: Tokens trained on.
        delivered: How much of the update is left after rounding to the delivered types.
        heldout: System 2, System 1 and the best on the held-out problems, by name.
        against: The best against System 2 on those problems; None where there are none.
    """

    folder: Path
    best: Candidate
    system2: Candidate
    lacking: str
    stopped: str
    steps: int
    tokens: int
    delivered: Survival
    heldout: dict[str, Summary]
    against: Pair | None

    def to_dict(self) -> dict[str, Any]:
        """As run.json holds it."""
        return {
            "best": asdict(self.best),
            "system2": asdict(self.system2),
            "lacking": self.lacking,
            "stopped": self.stopped,
            "steps": self.steps,
            "tokens": self.tokens,
            "delivered": self.delivered.to_dict(),
            "heldout": {name: _facts(summary) for name, summary in self.heldout.items()},
            "against_system2": None if self.against is None else asdict(self.against),
        }

    def to_text(self) -> str:
        """A summary for people."""
        lines = [
            f"Trained {self.steps} steps on {self.tokens:,} tokens"
            + (f"; stopped: {self.stopped}." if self.stopped else "."),
            f"Best: step {self.best.step}, {self.best.accuracy:.1%} right at "
            f"{self.best.length:,.1f} tokens on the steering problems (System 2: "
            f"{self.system2.accuracy:.1%} at {self.system2.length:,.1f}).",
        ]
        if self.lacking:
            lines.append(
                f"No checkpoint is good enough: this one {self.lacking}. It is the most accurate."
            )
        lines.append(self.delivered.to_text())
        for name, summary in self.heldout.items():
            lines.append(
                f"  {name:8} {_interval(summary.accuracy, '.1%')} right, "
                f"{_interval(summary.length, ',.1f')} tokens, {summary.truncated:.1%} cut off "
                f"({summary.problems} held-out problems)"
            )
        if self.against is not None:
            pair_, margin = self.against, self.against.not_worse.margin
            lines.append(
                f"Against System 2 on held-out problems: "
                f"{_interval(pair_.length_change, '+.1%')} tokens, accuracy "
                f"{_interval(pair_.accuracy_diff, '+.1%')}; not worse by {margin:.1%}: "
                f"{pair_.not_worse.verdict}."
            )
        return "\n".join([*lines, f"The model is in {self.folder / 'best'}."])


def export(prepared: PreparedTraining, run_folder: RunFolder, step: int, folder: Path) -> None:
    """Write the model of a step as a checkpoint folder with System 2's types and files.

    Adapters are added to the weights, and tensors in wider types than System 2's are rounded
    stochastically. The folder appears when it is whole.
    """
    shutil.rmtree(folder, ignore_errors=True)
    source = _source(prepared, run_folder, step)
    planned = plan(Recipe([source], "weighted_sum", system2=prepared.recipe.model), folder)
    (trained,) = planned.models
    rounded = as_delivered(trained, planned.system2, prepared.recipe.seed)
    # Without the plan's notes on different types: training made them different.
    execute(replace(planned, models=(rounded,), notes=()), folder)


def finish(
    prepared: PreparedTraining,
    mixture: MixtureState,
    run_folder: RunFolder,
    references: Path,
    *,
    steps: int,
    processes: Processes,
    progress: Progress,
) -> Trained:
    """Export the best checkpoint and measure it, and the references, on the held-out problems."""
    best = mixture.best
    delivered = processes.on_main_process(lambda: _deliver(prepared, run_folder, best.step))
    bounds = prepared.recipe.bounds
    models: dict[str, tuple[str, Path]] = {}
    if not (bounds and isinstance(bounds.system2, GivenFigures)):
        two = (bounds and bounds.system2) or prepared.recipe.model
        models["system2"] = str(two), references / "heldout" / "system2"
    if bounds and isinstance(bounds.system1, str):
        models["system1"] = bounds.system1, references / "heldout" / "system1"
    models[BEST] = str(run_folder.best), run_folder.folder / "heldout" / BEST
    processes.on_main_process(lambda: shutil.rmtree(models[BEST][1], ignore_errors=True))
    runs: dict[str, Run] = {}
    for name, (model, folder) in models.items():
        run = heldout_run(
            model, prepared.dev, prepared.recipe, folder, processes=processes, progress=progress
        )
        if run is not None:
            runs[name] = run
    return Trained(
        folder=run_folder.folder,
        best=best,
        system2=mixture.system2,
        lacking=lacking(best, mixture.system2, mixture.rule),
        stopped=mixture.stopped,
        steps=steps,
        tokens=mixture.records[-1]["tokens"],
        delivered=delivered,
        heldout={name: summarise(run.results) for name, run in runs.items()},
        against=_against(runs, prepared.recipe.select.margin),
    )


def _source(prepared: PreparedTraining, run_folder: RunFolder, step: int) -> str:
    """The model of a step as it was trained; adapters are added to System 2."""
    weights = str(run_folder.model(step))
    return weights if prepared.recipe.lora is None else f"{prepared.recipe.model}+{weights}"


def _deliver(prepared: PreparedTraining, run_folder: RunFolder, step: int) -> Survival:
    """Export the model of a step into ``best``, and measure how much of its update is left."""
    shutil.rmtree(run_folder.exported, ignore_errors=True)
    export(prepared, run_folder, step, run_folder.best)
    trained, best = (
        open_model(_source(prepared, run_folder, step)),
        open_checkpoint(str(run_folder.best)),
    )
    return survival(prepared.checkpoint, trained, best)


def _against(runs: dict[str, Run], margin: float) -> Pair | None:
    if BEST not in runs or "system2" not in runs:
        return None
    return pair(
        runs[BEST].results,
        runs["system2"].results,
        name=BEST,
        against="system2",
        margin=margin,
    )


def _facts(summary: Summary) -> dict[str, Any]:
    return {
        "problems": summary.problems,
        "accuracy": asdict(summary.accuracy),
        "length": asdict(summary.length),
        "truncated": summary.truncated,
        "thinking": summary.thinking,
    }


def _interval(estimate: Any, form: str) -> str:
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"
