"""Build: all steps from models to packed pools, described by one recipe."""

from __future__ import annotations

from collections.abc import Mapping  # pydantic reads the fields' types
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from laconic.data.answers import write_selection
from laconic.data.decontaminate import NGRAM, decontaminate
from laconic.data.encode import Encoder, ThinkPolicy
from laconic.data.pack import check_names, pack
from laconic.data.sample import ANSWERS, TEMPERATURE, TOP_P, sample
from laconic.data.select import Filter, Rule, parse_levels, select
from laconic.errors import DataError, RecipeError, did_you_mean
from laconic.evaluation.evaluate import PLAIN
from laconic.files.yaml import read_yaml_mapping
from laconic.runs.run import read_run
from laconic.runtime import silent
from laconic.stats.difficulty import EASY, HARD, Ease
from laconic.tasks.contract.task import load_task

if TYPE_CHECKING:
    from laconic.data.answers import Selection
    from laconic.data.pools import Pools
    from laconic.runs.run import Run
    from laconic.runtime import Progress
    from laconic.tasks.contract.task import Task

PACKED: Final = "packed"
#: How pydantic calls a key that a recipe does not have.
UNKNOWN: Final = "unexpected_keyword_argument"
STRICT: Final = ConfigDict(extra="forbid")


@with_config(STRICT)
@dataclass(frozen=True)
class Sampled:
    """Answers to sample, with the arguments of `laconic.data.sample.sample`."""

    model: str
    tasks: tuple[str, ...]
    answers: int = ANSWERS
    temperature: float = TEMPERATURE
    top_p: float = TOP_P
    max_tokens: int | None = None
    seed: int = 0
    backend: str = "transformers"
    limit: int | None = None
    prompt: str = PLAIN
    data: str | None = None


@with_config(STRICT)
@dataclass(frozen=True)
class PoolRecipe:
    """One pool: the source of its answers, and the arguments of `laconic.data.select.select`.

    Attributes:
        sample: Answers to sample first.
        runs: Folders of existing runs.
        reference: Runs that tell how difficult problems are: folders, or names of pools.
        task: The problems in the wording to train on, written with `prompt`.
        role: The role of the pool in training; by default its name.
    """

    sample: Sampled | None = None
    runs: tuple[str, ...] = ()
    rule: Rule = "shortest"
    levels: str | int | None = None
    difficulty: tuple[Ease, ...] = ()
    reference: tuple[str, ...] = ()
    easy: float = EASY
    hard: float = HARD
    min_tokens: int | None = None
    max_tokens: int | None = None
    max_markers: int | None = None
    ratio: float = 1.5
    limit: int | None = None
    seed: int = 0
    task: str | None = None
    prompt: str = PLAIN
    role: str = ""

    @property
    def wanted(self) -> Filter:
        """Its filters."""
        return Filter(
            levels=() if self.levels is None else parse_levels(str(self.levels)),
            ease=self.difficulty,
            easy=self.easy,
            hard=self.hard,
            min_tokens=self.min_tokens,
            max_tokens=self.max_tokens,
            max_markers=self.max_markers,
        )


@with_config(STRICT)
@dataclass(frozen=True)
class DataRecipe:
    """A recipe of training data for one model.

    Attributes:
        model: The checkpoint to be trained.
        pools: The pools, by name.
        policy: How an answer without a thought is written.
        append: Whether answers are appended to the template's prompt instead of being written by
            the template.
        max_tokens: The most tokens of prompt and answer; by default the model's window.
        against: Benchmarks and dev sets whose problems are removed: tasks or files.
        ngram: A row is removed if it shares this many words in a row with a problem; 0 looks for
            whole problems only.
        overlap: The share of a question's runs of words that must be shared.
    """

    model: str
    pools: Mapping[str, PoolRecipe] = field(default_factory=dict)
    policy: ThinkPolicy = "think_short"
    append: bool = False
    max_tokens: int | None = None
    against: tuple[str, ...] = ()
    ngram: int = NGRAM
    overlap: float = 0.0


def read_data_recipe(path: str | Path) -> DataRecipe:
    """Read a recipe from YAML.

    Raises:
        RecipeError: For a file that cannot be read or is no YAML.
        DataError: For a key or a value that cannot be, named with its place.
    """
    try:
        return TypeAdapter(DataRecipe).validate_python(
            read_yaml_mapping(path, f"The recipe {path}", RecipeError)
        )
    except ValidationError as error:
        strange = [one for one in error.errors() if one["type"] == UNKNOWN]
        raise DataError(f"{path}: {_first_error((strange or error.errors())[0])}") from None


def build(recipe: DataRecipe, output: str | Path, *, progress: Progress = silent) -> Pools:
    """Sample, select, decontaminate and pack; the same call continues after an interruption.

    Args:
        recipe: What to build.
        output: The folder to work in: ``runs/POOL``, ``POOL.jsonl`` and, last, ``packed``.
        progress: Called while answers are sampled and rows are packed.

    Raises:
        LaconicError: As the steps do. The model's template, the tasks and all names are checked
            before anything is sampled.
    """
    output = Path(output)
    if (output / PACKED).exists():
        raise DataError(f"{output / PACKED} is there: the data is built. Choose another folder.")
    roles = {name: pool.role for name, pool in recipe.pools.items() if pool.role}
    check_names(recipe.pools, roles)
    for name, pool in recipe.pools.items():
        _check(name, pool, recipe)
    Encoder(recipe.model, recipe.policy, append=recipe.append, max_tokens=recipe.max_tokens)
    benchmarks = [load_task(task) for task in recipe.against]
    runs = {name: _runs(name, pool, output, progress) for name, pool in recipe.pools.items()}
    chosen = {
        name: _select(name, pool, runs, recipe, benchmarks) for name, pool in recipe.pools.items()
    }
    for name, selection in chosen.items():
        write_selection(selection, output / f"{name}.jsonl")
    return pack(
        chosen,
        recipe.model,
        output / PACKED,
        policy=recipe.policy,
        roles=roles,
        append=recipe.append,
        max_tokens=recipe.max_tokens,
        progress=progress,
    )


def _check(name: str, pool: PoolRecipe, recipe: DataRecipe) -> None:
    """Refuse a pool that has no answers to come from, and filters and runs that cannot be."""
    if not pool.sample and not pool.runs:
        raise DataError(f"pools.{name} has no answers: give it sample (a model) or runs (folders).")
    if pool.sample:
        load_task(pool.sample.tasks[0], data=pool.sample.data)
    if pool.wanted.ease and not pool.reference:
        raise DataError(f"pools.{name}: a difficulty needs a reference: a run or another pool.")
    for folder in (*pool.runs, *(one for one in pool.reference if one not in recipe.pools)):
        read_run(Path(folder))


def _runs(name: str, pool: PoolRecipe, output: Path, progress: Progress) -> list[Run]:
    found = [read_run(Path(folder)) for folder in pool.runs]
    if pool.sample:
        options = {key: value for key, value in asdict(pool.sample).items() if key != "model"}
        tasks, model = options.pop("tasks"), pool.sample.model
        found.append(
            sample(model, tasks, output / "runs" / name, progress=progress, **options),
        )
    return found


def _select(
    name: str,
    pool: PoolRecipe,
    runs: Mapping[str, list[Run]],
    recipe: DataRecipe,
    benchmarks: list[Task],
) -> Selection:
    """The rows of a pool, without those that are problems of a benchmark."""
    reference = [run for one in pool.reference for run in (runs.get(one) or [read_run(Path(one))])]
    chosen = select(
        runs[name],
        pool.rule,
        wanted=pool.wanted,
        reference=reference,
        ratio=pool.ratio,
        limit=pool.limit,
        seed=pool.seed,
        questions=load_task(pool.task, prompt=pool.prompt) if pool.task else None,
    )
    if not benchmarks:
        return chosen
    clean, gone = decontaminate(chosen, benchmarks, n=recipe.ngram, share=recipe.overlap)
    if not clean.rows:
        raise DataError(
            f"pools.{name}: all {len(gone):,} rows share words with the benchmarks, {gone[0].id} "
            f"with {gone[0].problem}. Raise overlap, or set ngram: 0 for whole problems only."
        )
    return clean


def _first_error(first: Any) -> str:
    """The first error in a recipe, as a sentence."""
    place = tuple(map(str, first["loc"]))
    if first["type"] != UNKNOWN:
        return f"{'.'.join(place)}: {first['msg']}."
    inside = {1: DataRecipe, 3: PoolRecipe}.get(len(place), Sampled)
    where = ".".join(place[:-1]) or "a recipe of data"
    known = (one.name for one in fields(inside))
    return f"{where} has no key '{place[-1]}'. {did_you_mean(place[-1], known)}"
