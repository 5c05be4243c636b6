"""What the study trains: a line for each arm; all arms of a seed share data, bounds and steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from laconic.training.train import TrainRecipe
from studies.bench import slug

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.merging.recipe import Recipe
    from studies.family import Family

Pools = Literal["merge", "system1", "pairs"]
EVEN: Final[Mapping[str, float]] = {"short": 0.5, "long": 0.5}
#: Answers are generated so many at a time: models this small gain from wide batches.
BACKEND: Final = "transformers:batch=256"
#: Where the layers of the merge that writes the short answers stand between base and System 2.
WRITER: Final = {"first": 0.7, "last": 0.3}


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: What tables call it.
        controller: What moves the mixture, as a recipe names it.
        weights: The first share of rows of each pool; the pools named are the ones used.
        pools: What it is trained on: short answers of a merge, or of System 1 as in the paper,
            beside long ones of System 2; or pairs of the merge's and System 2's.
        like: The arm at whose realised shares of tokens this one is held; it is trained after it.
        more: What else its recipe changes.
    """

    name: str
    controller: str
    weights: Mapping[str, float] = field(default_factory=lambda: EVEN)
    pools: Pools = "merge"
    like: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


DAMPED: Final = "tldr, damped"
MATCHED: Final = "static, matched"
EVEN_STATIC: Final = "static 1:1"
ARMS: Final = (
    Arm("tldr, paper's rule", "tldr:preset=paper"),
    Arm(DAMPED, "tldr"),
    Arm("constrained", "constrained"),
    Arm(EVEN_STATIC, "static"),
    Arm(MATCHED, "static", like=DAMPED),
    Arm("short answers only", "static", {"short": 1.0}),
    Arm("tldr, System 1's answers", "tldr", pools="system1"),
    Arm("DPO", "static", {"pairs": 1.0}, pools="pairs", more={"objective": "dpo", "rate": 5e-5}),
)


@dataclass(frozen=True)
class Scale:
    """How much is asked of whom.

    Attributes:
        dev: Problems that steer each training and choose its checkpoint.
        test: Fresh problems for the figures, the same for all models.
        short: Problems of all levels that the writer of short answers is asked.
        long: Problems of the hardest level that System 2 is asked.
        pairs: Of the first, problems that System 2 is asked, too, for pairs.
        steps: Optimizer steps.
        every: Steps between two evaluations.
        rows: Rows of a step.
    """

    dev: int = 200
    test: int = 1000
    short: int = 400
    long: int = 100
    pairs: int = 100
    steps: int = 64
    every: int = 16
    rows: int = 12


@dataclass(frozen=True)
class StudyFolders:
    """Where the study keeps what.

    Attributes:
        folder: The whole of it.
    """

    folder: Path

    def seed(self, seed: int) -> Path:
        """All data of a seed."""
        return self.folder / "data" / f"seed-{seed}"

    def data(self, seed: int, pools: Pools) -> Path:
        """Where some of a seed's pools are built."""
        return self.seed(seed) / pools

    def answers(self, seed: int) -> Path:
        """The runs that a seed's pools are made from."""
        return self.seed(seed) / "answers"

    def bounds(self, seed: int) -> Path:
        """The runs of System 1 and System 2 on a seed's dev problems."""
        return self.folder / "bounds" / f"seed-{seed}"

    def training(self, arm: str, seed: int) -> Path:
        """The folder of a training, by the arm's name."""
        return self.folder / "trainings" / f"seed-{seed}" / slug(arm)


def recipe(
    arm: Arm,
    seed: int,
    scale: Scale,
    folders: StudyFolders,
    shares: Mapping[str, float] | None = None,
) -> TrainRecipe:
    """How an arm is trained.

    Args:
        arm: The arm.
        seed: Of the problems, the rows and their order.
        scale: How much.
        folders: Where the data is.
        shares: The shares of tokens to hold, where the arm is like another one.
    """
    return TrainRecipe.from_dict(
        {
            "model": "lab:system2",
            "pools": {
                "folder": str(folders.data(seed, arm.pools) / "packed"),
                "weights": dict(shares or arm.weights),
            },
            "unit": "tokens" if shares else "samples",
            "dev": {"task": f"lab:split=dev,size={scale.dev},seed={seed}", "heldout": 0.0},
            "bounds": {"system1": "lab:system1", "folder": str(folders.bounds(seed))},
            "controller": arm.controller,
            "steps": scale.steps,
            "every": scale.every,
            "batch": {"per_device": scale.rows},
            "rate": 1e-4,
            "schedule": "linear",
            "warmup": 5,
            "max_length": 1024,
            "seed": seed,
            "select": {"margin": 0.01},
            "keep": 1,
            "evaluator": {"backend": BACKEND},
            **arm.more,
        }
    )


def writer(f: Family) -> Recipe:
    """The merge that writes the short answers: the best of the study of merging (LiNeS)."""
    return f.one(params={"scale": 1.0}, after=[{"lines": WRITER}])


def merges(f: Family) -> dict[str, Recipe]:
    """The merges that trainings are seen beside: a straight line, and the writer itself."""
    line = {f"merge, scale {v:g}": f.one(params={"scale": v}) for v in (0.5, 0.6, 0.7)}
    return {**line, "merge, LiNeS": writer(f)}
