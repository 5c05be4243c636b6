"""The rows of a run: packed pools as one data set, checked against the model and the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laconic.data.pools import read_pools
from laconic.errors import TrainError
from laconic.training.mixture import Plan, check_weights, split_pools

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from laconic.data.pools import Kind, Pools
    from laconic.runs.run import Sample
    from laconic.tasks.contract.task import Task
    from laconic.training.controllers.contract import Role
    from laconic.training.mixture import Pool
    from laconic.training.objective import ObjectiveSection
    from laconic.training.recipe import PoolsSection, TrainRecipe

#: What the manifest's words for a pool's role are to a controller.
ROLES: dict[str, Role] = {"short": "efficiency", "long": "accuracy"}
#: The columns that are trained on, by the pools' kind.
TRAINED: Mapping[Kind, tuple[str, ...]] = {
    "rows": ("input_ids", "labels"),
    "pairs": ("prompt_ids", "chosen_ids", "rejected_ids"),
}


@dataclass(frozen=True)
class Rows:
    """Packed pools, one after another.

    Attributes:
        table: A pyarrow table with the columns that are trained on.
        pools: Where each pool's rows stand, and how many tokens each of them trains.
        weights: The first share of each pool, in the order of `pools`, that of the manifest.
        roles: What pools are there for, by name.
        questions: Of each pool, what its rows answer.
        tokens: Mean tokens of a row, prompt included, by pool.
        think_policy: How thoughts were encoded.
        samples: The problems of the rows where they are answered in training; else none.
    """

    table: Any
    pools: tuple[Pool, ...]
    weights: tuple[float, ...]
    roles: Mapping[str, Role]
    questions: Mapping[str, tuple[str, ...]]
    tokens: Mapping[str, float]
    think_policy: str
    samples: tuple[Sample, ...] = ()

    def plan(self, recipe: TrainRecipe, processes: int) -> Plan:
        """What never changes in a run of so many processes.

        Raises:
            TrainError: For an empty pool, one smaller than a step, or a step that cuts a group.
        """
        block = recipe.batch.per_device * recipe.batch.accumulation * processes
        if grpo := recipe.objective.grpo:
            if block % grpo.group:
                raise TrainError(
                    f"A step has {block} answers (batch.per_device x batch.accumulation x "
                    f"{processes} processes), which are no whole groups of {grpo.group} "
                    "(objective.grpo.group). Change one of them."
                )
            block //= grpo.group
        return Plan(self.pools, block, recipe.steps, recipe.unit, recipe.seed)

    def dataset(self) -> Any:
        """The rows as TRL reads them."""
        from datasets import Dataset

        return Dataset(self.table)


def read_rows(recipe: TrainRecipe, *, tokenizer: str, template: str) -> Rows:
    """Read the pools that a recipe names.

    Args:
        recipe: The training.
        tokenizer: The digest of the model's tokenizer.
        template: The digest of its chat template.

    Raises:
        DataError: For a folder that is damaged, or packed for another model.
        TrainError: For pools that cannot be mixed, or rows longer than the recipe allows.
    """
    import pyarrow

    assert recipe.pools is not None  # the recipe has said so
    kind = recipe.objective.kind
    packed = read_pools(recipe.pools.folder)
    packed.refuse_other(tokenizer=tokenizer, template=template, model=recipe.model)
    weights = _weights(recipe.pools, packed, recipe.objective)
    tables = {name: packed[name].table() for name in weights}
    for name, table in tables.items():
        _check(name, table, recipe.max_length)
    owners = [i for i, table in enumerate(tables.values()) for _ in range(table.num_rows)]
    lengths = [n for table in tables.values() for n in _trained(table)]
    digests = {name: packed[name].digest for name in weights}
    return Rows(
        table=pyarrow.concat_tables(
            [table.select(list(TRAINED[kind])) for table in tables.values()]
        ),
        pools=split_pools(list(weights), owners, lengths, digests),
        weights=tuple(weights.values()),
        roles=_roles(recipe.pools, packed, weights),
        questions={name: tuple(t["question"].to_pylist()) for name, t in tables.items()},
        tokens={name: packed[name].tokens / max(packed[name].rows, 1) for name in weights},
        think_policy=packed.think_policy,
    )


def refuse_overlap(rows: Rows, tasks: Iterable[Task]) -> None:
    """Refuse pools that answer a dev problem: what is trained on measures nothing.

    Texts are compared without case and spacing; laconic data decontaminate finds near copies, too.

    Raises:
        TrainError: Naming the first such problem.
    """
    asked = {_plain(s.problem): (task.name, s.id) for task in tasks for s in task.samples}
    for pool, questions in rows.questions.items():
        shared = [asked[plain] for q in questions if (plain := _plain(q)) in asked]
        if shared:
            task, name = shared[0]
            raise TrainError(
                f"Pool '{pool}' answers {len(set(shared))} of the dev problems, first '{name}' of "
                f"{task}: the mixture would be steered by what it was trained on. Take them out "
                f"(laconic data decontaminate), or name another dev task."
            )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _weights(section: PoolsSection, packed: Pools, objective: ObjectiveSection) -> dict[str, float]:
    """The first share of each pool that is used, in the order in which the pools were packed."""
    fit = [pool.name for pool in packed.of_kind(objective.kind)]
    weights = dict(section.weights) or {name: 1 / len(fit) for name in fit}
    told = ", ".join(fit) or "there is none"
    if not weights and objective.kind == "rows":
        raise TrainError(
            f"{packed.folder} holds pairs only ({', '.join(packed.pools)}); fine-tuning takes "
            "pools of rows. Preference training on pairs is objective: dpo or simpo."
        )
    for name in weights:
        if packed[name].kind == objective.kind:
            continue
        if objective.kind == "rows":
            raise TrainError(
                f"Pool '{name}' of {packed.folder} holds pairs for preference training; "
                f"fine-tuning takes pools of rows: {told}."
            )
        raise TrainError(
            f"Pool '{name}' of {packed.folder} holds single answers; objective {objective.name} "
            f"takes a pool of pairs: {told}. Make one: laconic data select --rule pairs."
        )
    if objective.kind == "pairs" and len(weights) != 1:
        raise TrainError(
            f"objective {objective.name} takes one pool of pairs, and {packed.folder} gives "
            f"{len(weights)} ({told}). "
            + (
                f"Name one: pools.weights: {{{fit[0]}: 1}}."
                if fit
                else "Make one: laconic data select --rule pairs, then laconic data pack."
            )
        )
    check_weights(list(weights), list(weights.values()))
    return {name: weights[name] for name in packed.pools if name in weights}


def _trained(table: Any) -> list[int]:
    """Of each row, the tokens that are trained on: of a pair, those of both answers."""
    from pyarrow import compute

    if "length" in table.column_names:
        return list(table["length"].to_pylist())
    return list(compute.add(table["chosen_length"], table["rejected_length"]).to_pylist())


def _roles(section: PoolsSection, packed: Pools, weights: Mapping[str, float]) -> dict[str, Role]:
    """What the pools are there for: as the recipe says, else as the manifest does."""
    for name in section.roles:
        packed[name]  # an unknown name is an error that tells the nearest
    found = {n: ROLES[packed[n].role] for n in weights if packed[n].role in ROLES}
    return found | {n: role for n, role in section.roles.items() if n in weights}


def _sizes(table: Any) -> Any:
    """Of each row its tokens, prompt included; of a pair those of the longer answer."""
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
    sizes = _sizes(table)
    over = compute.greater(sizes, longest)
    if count := compute.sum(over).as_py():
        row = compute.index(over, True).as_py()
        raise TrainError(
            f"Pool '{name}': {count} of {table.num_rows} rows are longer than max_length "
            f"({longest} tokens), first row {row} ('{table['id'][row]}') with {sizes[row]}. "
            "Cutting would lose their ends: raise max_length, or drop them when packing."
        )
    if "labels" in table.column_names and sizes != compute.list_value_length(table["labels"]):
        raise TrainError(
            f"Pool '{name}' has rows with more or fewer labels than tokens. Pack it again: "
            "laconic data pack."
        )
