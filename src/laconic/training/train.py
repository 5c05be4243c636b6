"""Train: shorten a System-2 model on a mixture of pools whose shares follow measurements."""

from __future__ import annotations

import logging
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from laconic.errors import LaconicError, TrainError
from laconic.files.atomic import write_file
from laconic.files.json import write_json
from laconic.runtime import silent, versions
from laconic.stats import summarise
from laconic.training.controllers.contract import CONTROLLERS
from laconic.training.data.sampler import MixtureSampler, lookahead
from laconic.training.dev import candidate
from laconic.training.distributed import Processes, find_processes
from laconic.training.evaluators import ask
from laconic.training.excess_loss import ExcessLoss
from laconic.training.export import Trained, export, finish
from laconic.training.mixture_state import MixtureState
from laconic.training.prepare import PreparedTraining, load_model, prepare
from laconic.training.recipe import TrainRecipe
from laconic.training.references import References, find_references, reference_folder
from laconic.training.run_folder import RunFolder

if TYPE_CHECKING:
    from laconic.runtime import Progress
    from laconic.training.bounds import Measurement
    from laconic.training.selection import Candidate

logger = logging.getLogger(__name__)

__all__ = ["TrainRecipe", "Trained", "train"]
#: Models with fewer parameters than this are trained with one CPU thread.
SMALL = 50_000_000


def train(
    recipe: TrainRecipe,
    output: str | Path,
    *,
    resume: bool = False,
    progress: Progress = silent,
) -> Trained:
    """Fine-tune a System-2 model on a mixture whose shares follow its own dev evaluations.

    Under ``accelerate launch`` every process calls it with the same arguments.

    Args:
        recipe: What to train and how.
        output: The folder to create.
        resume: Continue a stopped run from its last checkpoint, with the result of an undisturbed
            run; where there is no checkpoint, begin.
        progress: Called after each evaluation, with the number of steps.

    Returns:
        The result; the model is in ``best`` of the folder.

    Raises:
        LaconicError: For parts that do not fit, before a model is loaded; for an evaluation or a
            save that fails, with what is left to go on from.
    """
    processes, run_folder = find_processes(), RunFolder(Path(output).expanduser())
    # Every process prepares for itself; none goes on where one of them fails.
    own: list[PreparedTraining] = []
    processes.on_all(lambda: own.append(prepare(recipe, processes.count)))
    prepared = own[0]
    with ExitStack() as stack:
        processes.on_main_process(
            lambda: _open(stack, prepared, run_folder, processes, resume=resume)
        )
        shown = progress if processes.is_main else silent
        session = _Session(prepared, run_folder, processes, shown)
        session.run()
        return session.finish()


def _open(
    stack: ExitStack,
    prepared: PreparedTraining,
    run_folder: RunFolder,
    processes: Processes,
    *,
    resume: bool,
) -> None:
    """Lock the folder, and write into it what the run is."""
    stack.enter_context(run_folder.claim(prepared.recipe.digest, resume=resume))
    run_folder.forget(run_folder.last())
    text = yaml.safe_dump(prepared.recipe.to_dict(), sort_keys=False, allow_unicode=True)
    write_file(run_folder.folder / "recipe.yaml", text.encode("utf-8"))
    run_folder.write_head(_facts(prepared, processes), complete=False)
    for warning in prepared.warnings:
        logger.warning("%s", warning)


def _facts(prepared: PreparedTraining, processes: Processes) -> dict[str, Any]:
    """What run.json holds from the beginning of a run."""
    recipe = prepared.recipe
    return {
        "recipe": recipe.to_dict(),
        "digest": recipe.digest,
        "seed": recipe.seed,
        "processes": processes.count,
        "rows_per_step": prepared.plan.block,
        "pools": {
            pool.name: {
                "rows": len(pool.rows),
                "label_tokens": int(pool.lengths.sum()),
                "digest": pool.contents,
            }
            for pool in prepared.rows.pools
        },
        "think_policy": prepared.rows.think_policy,
        "conditions": prepared.dev.conditions,
        "versions": versions("torch", "transformers", "trl", "accelerate", "peft"),
        "command": list(sys.argv),
    }


class _Session:
    """A training in progress: owns the trainer and the state of the mixture.

    Args:
        prepared: What is trained.
        run_folder: The folder of the run.
        processes: The processes that train.
        progress: Called after each evaluation.
    """

    def __init__(
        self,
        prepared: PreparedTraining,
        run_folder: RunFolder,
        processes: Processes,
        progress: Progress,
    ) -> None:
        self.prepared = prepared
        self.recipe = recipe = prepared.recipe
        self.run_folder = run_folder
        self.processes = processes
        self.progress = progress
        self.references = self._references()
        needs_excess = CONTROLLERS.get(prepared.controller.name).traits["excess"]
        self.excess = (
            ExcessLoss(prepared.rows, recipe.seed, run_folder, processes) if needs_excess else None
        )
        names = (pool.name for pool in prepared.plan.pools)
        state = prepared.controller.start(
            dict(zip(names, prepared.rows.weights, strict=True)),
            roles=prepared.rows.roles,
            bounds=self.references.bounds,
        )
        ahead = lookahead(workers=recipe.workers, accumulation=recipe.batch.accumulation)
        sampler = MixtureSampler(prepared.plan, state.weights)
        self.mixture = MixtureState(
            prepared.controller, state, sampler, self.references.system2, recipe.select, ahead
        )
        self.start = processes.on_main_process(run_folder.last)
        if self.start:
            saved = processes.on_main_process(lambda: run_folder.state(self.start))
            self.mixture.restore(prepared.plan, saved)
        self.trainer: Any = None

    def run(self) -> None:
        """Train from the last checkpoint to the end of the run."""
        ended = self.start == self.recipe.steps or bool(self.mixture.stopped)
        if ended and self.mixture.evaluated == self.start:
            self.processes.on_main_process(lambda: self._keep(self.start))  # if a kill cut it short
            return
        from laconic.runtime import using_threads
        from laconic.training.loop import build_trainer, settings
        from laconic.training.trainer import SaveAndEvaluate, quiet_libraries

        with ExitStack() as stack:
            stack.enter_context(quiet_libraries())
            parts = self.recipe.objective.trl(self.recipe)
            args = settings(self.recipe, parts, self.run_folder)
            model = load_model(self.prepared)
            if model.num_parameters() < SMALL:
                stack.enter_context(using_threads(1))
            self.trainer = build_trainer(
                self.prepared,
                parts,
                self.mixture,
                self.run_folder,
                self.processes,
                args=args,
                model=model,
                callback=SaveAndEvaluate(self.recipe, self.evaluate, self.begin),
            )
            self._refuse_shards()
            last = str(self.run_folder.checkpoint(self.start)) if self.start else None
            self.trainer.load_objective_state(self.run_folder.objective_state(self.start))
            self.trainer.train(resume_from_checkpoint=last)
            self.trainer = None

    def begin(self, step: int) -> bool:
        """Before the first step: check given bounds, or catch up on a missed evaluation."""
        if step == 0:
            if self.references.given:
                measured, _ = self._measure(0)
                self.references.check_start(measured)
            if self.excess is not None:
                self.excess.begin(self.trainer.model_wrapped)
            return False
        if self.mixture.evaluated < step:
            return self.evaluate(step)
        return bool(self.mixture.stopped)

    def evaluate(self, step: int) -> bool:
        """Measure the model, move the mixture, prune checkpoints; return whether to stop."""
        measured, evaluated = self._measure(step)
        if self.excess is not None:
            measured = self.excess.add(measured, self.trainer.model_wrapped)
        answered = bool(self.prepared.rows.samples)
        tokens = self.trainer.state.num_input_tokens_seen if answered else None
        self.mixture.observe(measured, evaluated, tokens=tokens)
        self.processes.agree("the mixture's schedule", self.mixture.sampler.schedule.digest)
        self.processes.on_main_process(lambda: self._keep(step))
        note = f"{measured.accuracy:.1%} right, {measured.length:,.1f} tokens a piece"
        self.progress(step, self.recipe.steps, note)
        return bool(self.mixture.stopped)

    def finish(self) -> Trained:
        """Deliver the best checkpoint, and measure it on the held-out problems."""
        trained = finish(
            self.prepared,
            self.mixture,
            self.run_folder,
            reference_folder(self.recipe, self.run_folder.folder),
            steps=self.mixture.evaluated,
            processes=self.processes,
            progress=self.progress,
        )

        def write() -> None:
            facts = _facts(self.prepared, self.processes) | {"result": trained.to_dict()}
            shutil.rmtree(self.run_folder.pairs, ignore_errors=True)
            text = trained.to_text() + "\n"
            write_file(self.run_folder.folder / "summary.txt", text.encode("utf-8"))
            self.run_folder.write_head(facts, complete=True)

        self.processes.on_main_process(write)
        return trained

    def _references(self) -> References:
        folder, dev = self.run_folder.folder, self.prepared.dev
        references = find_references(
            self.recipe,
            dev,
            reference_folder(self.recipe, folder),
            processes=self.processes,
            progress=self.progress,
        )
        self.processes.on_main_process(
            lambda: write_json(folder / "bounds.json", references.to_dict(dev))
        )
        return references

    def _keep(self, step: int) -> None:
        from laconic.training.trainer import explain_write_errors

        with explain_write_errors(self.run_folder.checkpoint(step), self.run_folder):
            self.run_folder.keep(self.mixture.to_dict(), step)
            best = self.mixture.ranking[: self.recipe.keep]
            self.run_folder.prune([candidate.step for candidate in best])

    def _measure(self, step: int) -> tuple[Measurement, Candidate]:
        """The answers to the dev problems of the weights as they would be delivered."""
        import torch

        prepared, run_folder = self.prepared, self.run_folder
        model = self.recipe.model
        try:
            if step:
                model = str(run_folder.exported)
                self.processes.on_main_process(
                    lambda: export(prepared, run_folder, step, run_folder.exported)
                )
            with torch.random.fork_rng():
                run = ask(
                    model,
                    prepared.dev.steer,
                    prepared.dev.sampling,
                    recipe=self.recipe,
                    output=run_folder.evaluation(step),
                    ranks=self.processes,
                    progress=silent,
                )
        except LaconicError as error:
            raise TrainError(f"Step {step}: {error} {run_folder.what_is_left()}") from error
        return prepared.dev.measured(run, step), candidate(summarise(run.results), step)

    def _refuse_shards(self) -> None:
        """Refuse to load a whole model into each process where each holds a part of one."""
        trainer = self.trainer
        sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        if sharded and self.recipe.evaluator.where == "inside":
            raise TrainError(
                "evaluator.where: inside loads all weights into each process, but FSDP and "
                "DeepSpeed divide them because one process has no room for all. Set "
                "evaluator.where: apart, with devices it may use, or served."
            )
