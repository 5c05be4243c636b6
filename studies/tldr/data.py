"""The data of a seed: answers of the lab's models to its training problems, packed into pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from laconic.data.build import PACKED, DataRecipe, PoolRecipe, build
from laconic.data.sample import sample
from laconic.merging.merge import merge
from laconic.runtime import silent
from laconic.training.distributed import Processes
from laconic.training.prepare import prepare
from laconic.training.references import find_references, reference_folder
from studies.family import Family
from studies.tldr.arms import BACKEND, writer

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.training.train import TrainRecipe
    from studies.tldr.arms import Pools, Scale, StudyFolders

#: The levels whose answers are to be short; the hardest one's are to stay long.
EASY: Final = "1-4"
HARD: Final = 5
#: How many times the tokens of the short answer of a pair the long one has at least.
RATIO: Final = 1.5


def make_pools(pools: Pools, seed: int, scale: Scale, folders: StudyFolders) -> None:
    """Sample, select and pack, unless it is done; answers that several pools use are asked once.

    Args:
        pools: Which pools.
        seed: Of the problems, and of the order of the rows.
        scale: How many problems.
        folders: Where.
    """
    folder = folders.data(seed, pools)
    if (folder / PACKED).exists():
        return
    family, answers = Family.at(), folders.answers(seed)
    drawn = f"lab:split=train,seed={seed},size="
    whole = f"{drawn}{scale.short}"

    def short() -> Path:
        if pools == "system1":
            return _sample(family.system1, whole, answers / "system1")
        model = folders.folder / "models" / "writer"
        if not model.exists():
            merge(writer(family), model)
        return _sample(str(model), whole, answers / "merge")

    if pools == "pairs":
        long = _sample(family.system2, whole, answers / "system2-pairs", limit=scale.pairs)
        recipes = {"pairs": _from(short(), long, rule="pairs", ratio=RATIO, seed=seed)}
    else:
        long = _sample(family.system2, f"{drawn}{scale.long},level={HARD}", answers / "system2")
        recipes = {
            "short": _from(short(), levels=EASY, seed=seed),
            "long": _from(long, seed=seed),
        }
    build(DataRecipe(family.system2, recipes, policy="think_short"), folder)


def measure_bounds(recipe: TrainRecipe, folders: StudyFolders) -> None:
    """Measure System 1 and System 2 on a seed's dev problems, before trainings share them."""
    folder = reference_folder(recipe, folders.folder)
    find_references(recipe, prepare(recipe, 1).dev, folder, processes=Processes(), progress=silent)


def _sample(model: str, task: str, folder: Path, limit: int | None = None) -> Path:
    """Sample a model's greedy answers into a run folder."""
    greedy: dict[str, Any] = {"answers": 1, "temperature": 0.0, "top_p": 1.0}
    sample(model, (task,), folder, limit=limit, backend=BACKEND, **greedy)
    return folder


def _from(*runs: Path, **how: Any) -> PoolRecipe:
    """A pool of right answers of some runs."""
    return PoolRecipe(runs=tuple(map(str, runs)), **how)
