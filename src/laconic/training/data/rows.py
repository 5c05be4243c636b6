"""The rows of a run: packed pools as one data set, checked against the model and the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laconic.data.pools import read_pools
from laconic.errors import TrainError
from laconic.training.data.mixture import MixturePlan, check_weights, split_pools
from laconic.training.objectives.contract import objectives_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from laconic.data.pools import Kind, Pools
    from laconic.runs.run import Sample
    from laconic.tasks.contract.task import Task
    from laconic.training.controllers.contract import Role
    from laconic.training.data.mixture import MixturePool
    from laconic.training.objectives.contract import Objective
    from laconic.training.recipe import PoolsSection, TrainRecipe

#: The role that a controller sees, by the role in the manifest of the pools.
ROLES: dict[str, Role] = {"short": "efficiency", "long": "accuracy"}
#: The columns that are trained on, by the kind of the pool.
TRAINED: Mapping[Kind, tuple[str, ...]] = {
    "rows": ("input_ids", "labels"),
    "pairs": ("prompt_ids", "chosen_ids", "rejected_ids"),
}


@dataclass(frozen=True)
class TrainingRows:
    """What is trained on: the rows of all pools, one pool after another.

    Attributes:
        table: A pyarrow table with the columns that are trained on.
        pools: Where each pool's rows are, and how many tokens each row trains.
        weights: The first share of each pool, in the order of `pools`.
        roles: The roles of pools that have one, by name.
        questions: The questions that each pool's rows answer.
        tokens: Mean tokens of a row, prompt included, by pool.
        origin: Where the lengths of rows come from, for the cost estimate.
        think_policy: How thoughts were encoded.
        samples: The problems that the model answers during training, in the order of the rows;
            empty for packed pools.
        group: How often a step repeats each row: the answers to one problem.
    """

    table: Any
    pools: tuple[MixturePool, ...]
    weights: tuple[float, ...]
    roles: Mapping[str, Role]
    questions: Mapping[str, tuple[str, ...]]
    tokens: Mapping[str, float]
    origin: str
    think_policy: str = ""
    samples: tuple[Sample, ...] = ()
    group: int = 1

    def plan(self, recipe: TrainRecipe, processes: int) -> MixturePlan:
        """What never changes in a run of so many processes.

        Raises:
            TrainError: For an empty pool, one smaller than a step, or a step that cuts a group.
        """
        block = recipe.batch.per_device * recipe.batch.accumulation * processes
        if block % self.group:
            raise TrainError(
                f"A step has {block} answers (batch.per_device x batch.accumulation x "
                f"{processes} processes), which are no whole groups of {self.group} "
                f"(objective.{recipe.objective.name}.group). Change one of them."
            )
        return MixturePlan(self.pools, block // self.group, recipe.steps, recipe.unit, recipe.seed)

    def dataset(self) -> Any:
        """The rows as TRL reads them."""
        from datasets import Dataset

        return Dataset(self.table)


def read_rows(recipe: TrainRecipe, kind: Kind, *, tokenizer: str, template: str) -> TrainingRows:
    """Read the pools that a recipe names.

    Args:
        recipe: The training.
        kind: The kind of pools that its objective trains on.
        tokenizer: The digest of the model's tokenizer.
        template: The digest of its chat template.

    Raises:
        DataError: For a folder that is damaged, or packed for another model.
        TrainError: For pools that cannot be mixed, or rows longer than the recipe allows.
    """
    import pyarrow

    assert recipe.pools is not None  # the recipe's own check
    packed = read_pools(recipe.pools.folder)
    packed.refuse_other(tokenizer=tokenizer, template=template, model=recipe.model)
    weights = _weights(recipe.pools, packed, recipe.objective, kind)
    tables = {name: packed[name].table() for name in weights}
    for name, table in tables.items():
        _check(name, table, recipe.max_length)
    owners = [i for i, table in enumerate(tables.values()) for _ in range(table.num_rows)]
    lengths = [n for table in tables.values() for n in _trained_tokens(table)]
    digests = {name: packed[name].digest for name in weights}
    return TrainingRows(
        table=pyarrow.concat_tables(
            [table.select(list(TRAINED[kind])) for table in tables.values()]
        ),
        pools=split_pools(list(weights), owners, lengths, digests),
        weights=tuple(weights.values()),
        roles=_roles(recipe.pools, packed, weights),
        questions={name: tuple(t["question"].to_pylist()) for name, t in tables.items()},
        tokens={name: packed[name].tokens / max(packed[name].rows, 1) for name in weights},
        origin=f"counted in {recipe.pools.folder}",
        think_policy=packed.think_policy,
    )


def refuse_overlap(rows: TrainingRows, tasks: Iterable[Task]) -> None:
    """Refuse pools that answer a dev problem: what is trained on measures nothing.

    Texts are compared without case and spacing; laconic data decontaminate finds near copies, too.

    Raises:
        TrainError: Naming the first such problem.
    """
    dev = {_normalised(s.problem): (task.name, s.id) for task in tasks for s in task.samples}
    for pool, questions in rows.questions.items():
        shared = [dev[text] for q in questions if (text := _normalised(q)) in dev]
        if shared:
            task, name = shared[0]
            raise TrainError(
                f"Pool '{pool}' answers {len(set(shared))} of the dev problems, first '{name}' of "
                f"{task}: the mixture would be steered by what it was trained on. Take them out "
                f"(laconic data decontaminate), or name another dev task."
            )


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split())


def _weights(
    section: PoolsSection, packed: Pools, objective: Objective, kind: Kind
) -> dict[str, float]:
    """The first share of each pool that is used, in the order in which the pools were packed."""
    usable = [pool.name for pool in packed.of_kind(kind)]
    weights = dict(section.weights) or {name: 1 / len(usable) for name in usable}
    names = ", ".join(usable) or "there is none"
    needed = f"objective {objective.name} takes " + (
        "pools of rows" if objective.mixes else "one pool of pairs"
    )
    remedy = (
        f"Objectives on pairs: {objectives_on('pairs')}."
        if kind == "rows"
        else "Make one: laconic data select --rule pairs, then laconic data pack."
    )
    other = "pairs" if kind == "rows" else "single answers"
    for name in weights:
        if packed[name].kind != kind:
            raise TrainError(
                f"Pool '{name}' of {packed.folder} holds {other}; {needed}: {names}. {remedy}"
            )
    if not weights:
        held = ", ".join(packed.pools)
        raise TrainError(f"{packed.folder} holds {other} only ({held}); {needed}. {remedy}")
    if not objective.mixes and len(weights) > 1:
        raise TrainError(
            f"{packed.folder} gives {len(weights)} pools ({names}), and {needed}. Name one: "
            f"pools.weights: {{{usable[0]}: 1}}."
        )
    check_weights(list(weights), list(weights.values()))
    return {name: weights[name] for name in packed.pools if name in weights}


def _trained_tokens(table: Any) -> list[int]:
    """The trained tokens of each row; of a pair, those of both answers."""
    from pyarrow import compute

    if "length" in table.column_names:
        return list(table["length"].to_pylist())
    return list(compute.add(table["chosen_length"], table["rejected_length"]).to_pylist())


def _roles(section: PoolsSection, packed: Pools, weights: Mapping[str, float]) -> dict[str, Role]:
    """The roles of the pools: as the recipe says, else as the manifest says."""
    for name in section.roles:
        packed[name]  # an unknown name is an error that gives the nearest name
    in_manifest = {n: ROLES[packed[n].role] for n in weights if packed[n].role in ROLES}
    return in_manifest | {n: role for n, role in section.roles.items() if n in weights}


def _all_tokens(table: Any) -> Any:
    """The tokens of each row, prompt included; of a pair, those of its longer answer."""
    from pyarrow import compute

    if "input_ids" in table.column_names:
        return compute.list_value_length(table["input_ids"])
    prompt, *sides = (compute.list_value_length(table[name]) for name in TRAINED["pairs"])
    return compute.add(prompt, compute.max_element_wise(*sides))


def _check(name: str, table: Any, longest: int) -> None:
    """Refuse an empty pool, a row that is too long, and labels that do not fit their row."""
    from pyarrow import compute

    if table.num_rows == 0:
        raise TrainError(f"Pool '{name}' is empty: give it rows, or leave it out of the recipe.")
    tokens = _all_tokens(table)
    too_long = compute.greater(tokens, longest)
    if count := compute.sum(too_long).as_py():
        row = compute.index(too_long, True).as_py()
        raise TrainError(
            f"Pool '{name}': {count} of {table.num_rows} rows are longer than max_length "
            f"({longest} tokens), first row {row} ('{table['id'][row]}') with {tokens[row]}. "
            "Cutting would lose their ends: raise max_length, or drop them when packing."
        )
    if "labels" in table.column_names and tokens != compute.list_value_length(table["labels"]):
        raise TrainError(
            f"Pool '{name}' has rows with more or fewer labels than tokens. Pack it again: "
            "laconic data pack."
        )
