"""What the mixture and its bookkeeping add to a step of TRL's trainer on the same batches.

Run it as ``python benchmarks/training.py recipe.yaml [--steps 30] [--rounds 3]``, with the recipe
of any training on one process. Both trainers start from the same model and see the same rows in the
same order; the plain one reads them from a data set that was put in that order beforehand. Times
are CPU seconds of the training loop without its start; saving and evaluating are left out. What an
update costs beside its evaluation (the controller, the new schedule, the curves, run.json) is
measured by itself and spread over the steps between two updates.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback
from trl.trainer.sft_trainer import SFTTrainer

from laconic.training.bounds import Measurement
from laconic.training.data.sampler import MixtureSampler, lookahead
from laconic.training.distributed import Processes
from laconic.training.loop import build_trainer, settings
from laconic.training.mixture_state import MixtureState
from laconic.training.prepare import PreparedTraining, load_model, prepare
from laconic.training.recipe import TrainRecipe
from laconic.training.run_folder import RunFolder
from laconic.training.selection import Candidate
from laconic.training.trainer import SaveAndEvaluate, quiet_libraries

#: Steps before the clock starts.
WARM = 5


class Clock(TrainerCallback):
    """CPU seconds of the steps behind the first few."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Note when the warm-up and when the last step ended."""
        control.should_save = False
        self.ended = time.process_time()
        if state.global_step == WARM:
            self.began = self.ended


def mixture_state(prepared: PreparedTraining) -> MixtureState:
    """The mixture of a run, with a controller that needs no bounds."""
    from laconic.training.controllers.contract import load_controller

    recipe = prepared.recipe
    controller = load_controller("static")
    state = controller.start(
        dict(zip((pool.name for pool in prepared.plan.pools), prepared.rows.weights, strict=True))
    )
    ahead = lookahead(workers=recipe.workers, accumulation=recipe.batch.accumulation)
    sampler = MixtureSampler(prepared.plan, state.weights)
    reference = Candidate(0, 1.0, 1.0, 0.0, 1.0)
    return MixtureState(controller, state, sampler, reference, recipe.select, ahead)


def timed(trainer: Any, steps: int) -> float:
    """CPU seconds of a step."""
    clock = Clock()
    trainer.add_callback(clock)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return (clock.ended - clock.began) / (steps - WARM)


def ours(prepared: PreparedTraining, folder: Path) -> float:
    """CPU seconds of a step of our trainer."""
    run_folder, recipe = RunFolder(folder), prepared.recipe
    parts = recipe.objective.trl(recipe)
    trainer = build_trainer(
        prepared,
        parts,
        mixture_state(prepared),
        run_folder,
        Processes(),
        args=settings(recipe, parts, run_folder),
        model=load_model(prepared),
        callback=SaveAndEvaluate(recipe, lambda step: False, lambda step: False),
    )
    return timed(trainer, recipe.steps)


def plain(prepared: PreparedTraining, folder: Path) -> float:
    """CPU seconds of a step of TRL's trainer on the same batches."""
    recipe = prepared.recipe
    args = settings(recipe, recipe.objective.trl(recipe), RunFolder(folder))
    args.train_sampling_strategy = "sequential"
    trainer = SFTTrainer(
        model=load_model(prepared),
        args=args,
        train_dataset=prepared.rows.dataset().select(list(mixture_state(prepared).sampler)),
        processing_class=prepared.tokenizer,
    )
    return timed(trainer, recipe.steps)


def update(prepared: PreparedTraining, folder: Path) -> float:
    """CPU seconds of an update in the middle of the run, without its evaluation."""
    run_folder, mixture = RunFolder(folder), mixture_state(prepared)
    rows = iter(mixture.sampler)
    step = prepared.recipe.steps // 2
    for _ in range(step * prepared.plan.block):
        next(rows)
    run_folder.checkpoint(step).mkdir(parents=True)
    began = time.process_time()
    mixture.observe(Measurement(step, 9, 0.9, 0.1, 90.0, 1.0), Candidate(step, 0.9, 90.0, 0.0, 1.0))
    run_folder.keep(mixture.to_dict(), step)
    run_folder.prune([step])
    return time.process_time() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    values = TrainRecipe.from_yaml(asked.recipe).to_dict()
    every = values["every"]
    prepared = prepare(
        TrainRecipe.from_dict({**values, "steps": asked.steps, "every": asked.steps}), 1
    )
    with tempfile.TemporaryDirectory() as scratch, quiet_libraries():
        here = Path(scratch)
        pairs = []
        for turn in range(asked.rounds):
            first, second = (plain, ours) if turn % 2 == 0 else (ours, plain)
            one, two = first(prepared, here / f"{turn}a"), second(prepared, here / f"{turn}b")
            pairs.append((one, two) if turn % 2 == 0 else (two, one))
        spread = update(prepared, here / "update") / every
    alone, mixed = (median(times) for times in zip(*pairs, strict=True))
    print("| what | CPU ms a step |\n|---|---|")
    print(f"| TRL's SFTTrainer | {alone * 1e3:.1f} |\n| the mixture's | {mixed * 1e3:.1f} |")
    print(f"| an update, spread over {every} steps | {spread * 1e3:.2f} |")
    ratios = sorted(two / one for one, two in pairs)
    whole = median(ratios) + spread / alone
    print(f"\nratio {whole:.3f} (rounds {ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
