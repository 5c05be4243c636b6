"""The checkpoints that a recipe names, opened and given one vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from laconic.checkpoints.adapter import open_model
from laconic.checkpoints.compatibility import check_config
from laconic.checkpoints.configs import turned
from laconic.checkpoints.layout import tie_flags
from laconic.checkpoints.model_files import ModelFiles, choose_model_files
from laconic.checkpoints.vocabulary import Vocabulary, of, unify, union
from laconic.errors import RecipeError

if TYPE_CHECKING:
    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.merging.recipe import Recipe


@dataclass(frozen=True)
class MergeSources:
    """The checkpoints of a merge with one vocabulary, and what stands beside their weights.

    Attributes:
        base: The base, if any.
        models: The merged checkpoints.
        system2: The one that gives the output its shape.
        config: The donor of config.json.
        tokenizer: The donor of the tokenizer.
        model_files: The files beside the weights.
        notes: What the user should know though it is no error.
    """

    base: Checkpoint | None
    models: tuple[Checkpoint, ...]
    system2: Checkpoint
    config: Checkpoint
    tokenizer: Checkpoint
    model_files: ModelFiles
    notes: tuple[str, ...]

    @property
    def members(self) -> tuple[Checkpoint, ...]:
        """Every checkpoint that is read for the arithmetic, the base first."""
        return (self.base, *self.models) if self.base else self.models


def resolve_sources(
    recipe: Recipe, base: Checkpoint | None, models: tuple[Checkpoint, ...], system2: Checkpoint
) -> MergeSources:
    """Open a recipe's donors, and give every checkpoint the rows of the chosen vocabulary.

    Args:
        recipe: Names the donors.
        base: The base, if any, as opened.
        models: The merged checkpoints, as opened.
        system2: The donor of whatever the recipe does not say.

    Raises:
        RecipeError: For a donor that there is none of, and vocabularies that cannot be joined.
        CheckpointError: For checkpoints that cannot be opened, or whose rows cannot be matched.
    """
    members = (base, *models) if base else models

    def donor(key: str, name: str | None, default: Checkpoint) -> Checkpoint:
        if name is None:
            return default
        if name == "base" and base is None:
            raise RecipeError(f"{key}: base, but the recipe has no base. Name a model instead.")
        roles = {"system2": system2, **({"base": base} if base else {})}
        by_name = {m.name: m for m in (*members, system2)} | roles
        return by_name.get(name) or open_model(name).with_head(recipe.head)

    vocabulary = _vocabulary(recipe, donor, members, system2)
    tokenizer = vocabulary.donor if vocabulary else system2
    config = donor("config", recipe.config_donor, system2)
    rope = donor("config: rope", recipe.rope_donor, config)
    check_config(config, system2, rope=recipe.rope_donor)
    path = Path(recipe.chat_template or "")
    template = (
        path.expanduser()
        if path.suffix in {".jinja", ".jinja2", ".j2"}
        else donor("chat_template", recipe.chat_template, tokenizer)
    )
    model_files = choose_model_files(
        vocabulary,
        tokenizer=tokenizer,
        config=config,
        generation=donor("generation_config", recipe.generation_config, system2),
        template=template,
        code=recipe.carry_code,
        changed=bool(recipe.rope_donor or recipe.towers or recipe.mtp),
    )
    if recipe.rope_donor is not None:
        model_files = model_files.with_config(lambda values: turned(values, rope.config))
    everyone = (*members, *(() if system2 in members else (system2,)))
    unified = everyone
    if vocabulary is not None:
        unified = unify(vocabulary, everyone, base=base is not None, lenders=len(members))
    with_vocabulary = dict(zip(map(id, everyone), unified, strict=True))
    notes = (*_contradictions(everyone), *(n for m in unified for n in m.notes), *model_files.notes)
    return MergeSources(
        base=with_vocabulary[id(base)] if base else None,
        models=tuple(with_vocabulary[id(model)] for model in models),
        system2=with_vocabulary[id(system2)],
        config=config,
        tokenizer=tokenizer,
        model_files=model_files,
        notes=tuple(dict.fromkeys(notes)),
    )


def _vocabulary(
    recipe: Recipe,
    donor: Callable[[str, str | None, Checkpoint], Checkpoint],
    members: tuple[Checkpoint, ...],
    system2: Checkpoint,
) -> Vocabulary | None:
    """What the output's rows stand for; None where the recipe leaves them as they are."""
    if recipe.tokenizer is None:
        return None
    if recipe.tokenizer == "union":
        return union(system2, [m for m in members if m is not system2])
    return of(donor("tokenizer", recipe.tokenizer, system2))


def _contradictions(members: tuple[Checkpoint, ...]) -> list[str]:
    """A note for each config that calls a head tied which the weights hold on its own."""
    return [
        f"The config of {member.name} says that the head is tied to the embedding, but its weights "
        f"hold a '{member.layout.head}': that one is merged, and the result has a head of its own."
        for member in members
        if member.layout.head in member.specs and tie_flags(member.config) == {True}
    ]
