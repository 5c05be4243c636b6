"""Train: shorten a System-2 model on a mixture of pools that is steered by what is measured."""

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
from laconic.training.dev import candidate
from laconic.training.distributed import Ranks, find_ranks
from laconic.training.evaluators import ask
from laconic.training.excess_loss import Excess
from laconic.training.export import Trained, export, finish
from laconic.training.mixture_state import Steering
from laconic.training.prepare import Job, load_model, prepare
from laconic.training.recipe import TrainRecipe
from laconic.training.references import References, find_references, reference_folder
from laconic.training.run_folder import Places
from laconic.training.sampler import MixtureSampler, lookahead

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
    """Fine-tune a System-2 model on a mixture that is steered by its own dev evaluations.

    Under ``accelerate launch`` every process calls it with the same arguments.

    Args:
        recipe: What to train and how.
        output: The folder to create.
        resume: Go on from the last checkpoint of a run that was stopped, as if nothing had
            happened; where there is none, begin.
        progress: Told after each evaluation, in steps.

    Returns:
        What came of it; the model is in ``best`` of the folder.

    Raises:
        LaconicError: For parts that do not fit, before a model is loaded; for an evaluation or a
            save that fails, with what is left to go on from.
    """
    ranks, places = find_ranks(), Places(Path(output).expanduser())
    jobs: list[Job] = []
    ranks.on_all(lambda: jobs.append(prepare(recipe, ranks.count)))
    with ExitStack() as stack:
        ranks.on_first(lambda: _open(stack, jobs[0], places, ranks, resume=resume))
        session = _Session(jobs[0], places, ranks, progress if ranks.first else silent)
        session.run()
        return session.finish()


def _open(stack: ExitStack, job: Job, places: Places, ranks: Ranks, *, resume: bool) -> None:
    """Take the folder, and say in it what the run is."""
    stack.enter_context(places.claim(job.recipe.digest, resume=resume))
    places.forget(places.last())
    text = yaml.safe_dump(job.recipe.to_dict(), sort_keys=False, allow_unicode=True)
    write_file(places.folder / "recipe.yaml", text.encode("utf-8"))
    places.write_head(_facts(job, ranks), complete=False)
    for warning in job.warnings:
        logger.warning("%s", warning)


def _facts(job: Job, ranks: Ranks) -> dict[str, Any]:
    """What run.json says of a run from its beginning."""
    return {
        "recipe": job.recipe.to_dict(),
        "digest": job.recipe.digest,
        "seed": job.recipe.seed,
        "processes": ranks.count,
        "rows_per_step": job.plan.block,
        "pools": {
            pool.name: {
                "rows": len(pool.rows),
                "label_tokens": int(pool.lengths.sum()),
                "digest": pool.contents,
            }
            for pool in job.rows.pools
        },
        "think_policy": job.rows.think_policy,
        "conditions": job.dev.conditions,
        "versions": versions("torch", "transformers", "trl", "accelerate", "peft"),
        "command": list(sys.argv),
    }


class _Session:
    """A run under way: owns the trainer and the place where the mixture stands.

    Args:
        job: What is trained.
        places: Where.
        ranks: By whom.
        progress: Told after each evaluation.
    """

    def __init__(self, job: Job, places: Places, ranks: Ranks, progress: Progress) -> None:
        self.job = job
        self.places = places
        self.ranks = ranks
        self.progress = progress
        recipe = job.recipe
        self.references = self._references()
        needed = CONTROLLERS.get(job.controller.name).traits["excess"]
        self.excess = Excess(job.rows, recipe.seed, places, ranks) if needed else None
        state = job.controller.start(
            dict(zip((pool.name for pool in job.plan.pools), job.rows.weights, strict=True)),
            roles=job.rows.roles,
            bounds=self.references.bounds,
        )
        ahead = lookahead(workers=recipe.workers, accumulation=recipe.batch.accumulation)
        sampler = MixtureSampler(job.plan, state.weights)
        self.steering = Steering(
            job.controller, state, sampler, self.references.system2, recipe.select, ahead
        )
        self.start = ranks.on_first(places.last)
        if self.start:
            held = ranks.on_first(lambda: places.state(self.start))
            self.steering.restore(job.plan, held)
        self.trainer: Any = None

    def run(self) -> None:
        """Train from where the run stands to its end."""
        ended = self.start == self.job.recipe.steps or bool(self.steering.stopped)
        if ended and self.steering.evaluated == self.start:
            self.ranks.on_first(lambda: self._keep(self.start))  # a kill may have cut it short
            return
        from laconic.runtime import using_threads
        from laconic.training.loop import build, settings
        from laconic.training.trainer import Watch, quiet

        with ExitStack() as stack:
            stack.enter_context(quiet())
            args = settings(self.job.recipe, self.places)
            model = load_model(self.job)
            if model.num_parameters() < SMALL:
                stack.enter_context(using_threads(1))
            self.trainer = build(
                self.job.recipe,
                self.job.rows,
                self.steering,
                self.places,
                self.ranks,
                args=args,
                model=model,
                tokenizer=self.job.tokenizer,
                watch=Watch(self.job.recipe, self.evaluate, self.begin),
            )
            self._refuse_shards()
            last = str(self.places.checkpoint(self.start)) if self.start else None
            self.trainer.train(resume_from_checkpoint=last)
            self.trainer = None

    def begin(self, step: int) -> bool:
        """Before the first step: check given bounds, or make up for a missed evaluation."""
        if step == 0:
            if self.references.given:
                measured, _ = self._observe(0)
                self.references.check_start(measured)
            if self.excess is not None:
                self.excess.begin(self.trainer.model_wrapped)
            return False
        if self.steering.evaluated < step:
            return self.evaluate(step)
        return bool(self.steering.stopped)

    def evaluate(self, step: int) -> bool:
        """Measure the model, move the mixture, keep what is worth it; say whether to stop."""
        measured, seen = self._observe(step)
        if self.excess is not None:
            measured = self.excess.add(measured, self.trainer.model_wrapped)
        made = self.trainer.state.num_input_tokens_seen if self.job.rows.samples else None
        self.steering.observe(measured, seen, tokens=made)
        self.ranks.agree("the mixture's schedule", self.steering.sampler.schedule.digest)
        self.ranks.on_first(lambda: self._keep(step))
        note = f"{measured.accuracy:.1%} right, {measured.length:,.1f} tokens a piece"
        self.progress(step, self.job.recipe.steps, note)
        return bool(self.steering.stopped)

    def finish(self) -> Trained:
        """Deliver the best checkpoint, measured on problems that steered nothing."""
        trained = finish(
            self.job,
            self.steering,
            self.places,
            reference_folder(self.job.recipe, self.places.folder),
            steps=self.steering.evaluated,
            ranks=self.ranks,
            progress=self.progress,
        )

        def write() -> None:
            facts = _facts(self.job, self.ranks) | {"result": trained.to_dict()}
            shutil.rmtree(self.places.pairs, ignore_errors=True)
            text = trained.to_text() + "\n"
            write_file(self.places.folder / "summary.txt", text.encode("utf-8"))
            self.places.write_head(facts, complete=True)

        self.ranks.on_first(write)
        return trained

    def _references(self) -> References:
        job = self.job
        found = find_references(
            job.recipe,
            job.dev,
            reference_folder(job.recipe, self.places.folder),
            ranks=self.ranks,
            progress=self.progress,
        )
        self.ranks.on_first(
            lambda: write_json(self.places.folder / "bounds.json", found.to_dict(job.dev))
        )
        return found

    def _keep(self, step: int) -> None:
        from laconic.training.trainer import explained

        with explained(self.places.checkpoint(step), self.places):
            self.places.keep(self.steering.to_dict(), step)
            self.places.prune([one.step for one in self.steering.ranking[: self.job.recipe.keep]])

    def _observe(self, step: int) -> tuple[Measurement, Candidate]:
        """What the dev problems say of the weights that would be delivered, on every process."""
        import torch

        job, places = self.job, self.places
        model = job.recipe.model
        try:
            if step:
                model = str(places.exported)
                self.ranks.on_first(lambda: export(job, places, step, places.exported))
            with torch.random.fork_rng():
                run = ask(
                    model,
                    job.dev.steer,
                    job.dev.sampling,
                    recipe=job.recipe,
                    output=places.evaluation(step),
                    ranks=self.ranks,
                    progress=silent,
                )
        except LaconicError as error:
            raise TrainError(f"Step {step}: {error} {self.places.rest()}") from error
        return job.dev.measured(run, step), candidate(summarise(run.results), step)

    def _refuse_shards(self) -> None:
        """Refuse to load a whole model where each process holds a part of one."""
        trainer = self.trainer
        sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
        if sharded and self.job.recipe.evaluator.where == "inside":
            raise TrainError(
                "evaluator.where: inside loads all weights into each process, and FSDP and "
                "DeepSpeed divide them for want of room. Set evaluator.where: apart, with devices "
                "it may use, or served."
            )
