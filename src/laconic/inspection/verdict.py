"""What the numbers mean for a merge: siblings or not, which base, what would go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from laconic.checkpoints.compatibility import check_compatible
from laconic.checkpoints.model_files import template_of
from laconic.checkpoints.parts import sort_parts
from laconic.checkpoints.vocabulary import of, unify
from laconic.errors import CheckpointError, LaconicError
from laconic.inspection.config_diff import parent_of, same_model, signs_of_swap
from laconic.merging.lint import equals_base

if TYPE_CHECKING:
    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.inspection.sums import DistanceSums, NonFiniteValues

Fit = Literal["fits", "another", "unrelated", "far", "unknown"]
#: What can be said of a base, the worst last.
SERIOUS: Final[tuple[Fit, ...]] = ("fits", "unknown", "far", "unrelated", "another")
#: Below this cosine of their weights, two checkpoints do not come from one another.
UNRELATED: Final = 0.2
#: From this relative distance on, more than fine-tuning lies between two checkpoints.
FAR: Final = 0.5
#: Another base must be nearer by this factor to be called nearer.
NEARER: Final = 0.99
#: How exactly one task vector goes on from another's end, for the one to be the other's start.
ON_THE_WAY: Final = (0.8, 1.2)
#: From this cosine on, two task vectors are as good as one.
ALIKE: Final = 0.95
RULE: Final = (
    "Rule: a model's base is the checkpoint that it is nearest to, by |model - base| / |base| over "
    f"the attention and MLP matrices; up to {FAR:.0%} is fine-tuning, a cosine of the weights "
    f"below {UNRELATED:g} is no kinship."
).replace("%", " %")


@dataclass(frozen=True)
class ModelCompatibility:
    """Whether a model can be merged with the base.

    Attributes:
        name: The model.
        fits: Whether it can be.
        reason: Why not, or what it takes; else empty.
    """

    name: str
    fits: bool
    reason: str = ""


@dataclass(frozen=True)
class BaseVerdict:
    """What the distances say of the base.

    Attributes:
        fit: ``fits``; ``another`` of the given checkpoints fits better; ``unrelated`` or ``far``:
            none does; ``unknown``: nothing could be compared.
        best: The checkpoint that fits best, where that can be told.
        sentences: The reasons, model by model.
    """

    fit: Fit
    best: str | None
    sentences: tuple[str, ...]


def check_compatibility(
    members: Sequence[Checkpoint],
) -> tuple[tuple[ModelCompatibility, ...], tuple[str, ...]]:
    """Whether each model fits the base, and what a merge would note.

    Args:
        members: The base, then the models. The one with the largest window gives the output its
            shape, as in a merge that does not say otherwise.
    """
    base, *models = members
    system2 = max(models, key=lambda model: model.window or 0)
    found: list[ModelCompatibility] = []
    notes: list[str] = []
    for model in models:
        made, said = _pair(base, model)
        found.append(made)
        notes += said if model is system2 else _pair(model, system2)[1]
    return tuple(found), tuple(dict.fromkeys(notes))


def _pair(first: Checkpoint, second: Checkpoint) -> tuple[ModelCompatibility, tuple[str, ...]]:
    parts = sort_parts({}, first, (first, second))
    try:
        said = check_compatible((first, second), second, apart=parts.apart)
        return ModelCompatibility(second.name, True), (*said, *parts.notes)
    except CheckpointError as error:
        reason = str(error)
    embedding = first.layout.embedding
    sizes = [m.specs[embedding].shape for m in (first, second) if embedding in m.specs]
    if len(sizes) == 2 and sizes[0][:1] != sizes[1][:1] and sizes[0][1:] == sizes[1][1:]:
        try:
            twins = unify(of(second), (first, second), base=True)
            said = check_compatible(twins, twins[1], apart=parts.apart)
        except LaconicError:
            return ModelCompatibility(second.name, False, reason), ()
        return ModelCompatibility(second.name, True, reason), (
            *(n for t in twins for n in t.notes),
            *said,
            *parts.notes,
        )
    return ModelCompatibility(second.name, False, reason), ()


def choose_base(members: Sequence[Checkpoint], models: int, sums: DistanceSums) -> BaseVerdict:
    """Which checkpoint the models were made from, by their distances.

    Args:
        members: The base, the models, then other candidates for the base.
        models: How many models there are.
        sums: Over the matrices of the layers.
    """
    if not sums.elements or not models:
        return BaseVerdict("unknown", None, ("Nothing could be compared.",))
    fits = {m: _fit(members, m, models, sums) for m in range(1, models + 1)}
    worst = max((fit for fit, _, _ in fits.values()), key=SERIOUS.index)
    best = 0
    if worst == "another":
        rivals = [rival for _, rival, _ in fits.values() if rival is not None]
        best = min(dict.fromkeys(rivals), key=lambda c: _cost(c, models, sums))
    said = tuple(sentence for m, (_, _, sentence) in fits.items() if m != best)
    return BaseVerdict(worst, members[best].name if worst in ("fits", "another") else None, said)


def _cost(candidate: int, models: int, sums: DistanceSums) -> float:
    """The squared distances of a candidate from the other given checkpoints."""
    return sum(sums.distance(x, candidate) ** 2 for x in range(models + 1))


def _fit(
    members: Sequence[Checkpoint], m: int, models: int, sums: DistanceSums
) -> tuple[Fit, int | None, str]:
    """How the base fits one model, which other checkpoint fits better, and a sentence."""
    base, model = members[0].name, members[m].name
    own, here = sums.distance(m), _percent(sums.relative(m) or 0.0)
    others = [x for x in range(1, len(members)) if x != m and sums.distance(m, x) < NEARER * own]
    nearest = min(others, key=lambda x: sums.distance(m, x), default=None)
    said = f"{model} is {here} away from {base}"
    if nearest is not None:
        other = members[nearest].name
        there = _percent(sums.relative(m, nearest) or 0.0)
        said = f"{model} is nearer to {other} ({there}) than to {base} ({here})"
        if nearest > models and (sums.alignment(nearest, m) or 0.0) >= UNRELATED:
            return "another", nearest, f"{said}: {other} fits better as its base."
    cosine = sums.alignment(0, m) or 0.0
    if cosine < UNRELATED:
        said = (
            f"{model} was not made from {base}: the cosine of their weights is {cosine:.2f}. "
            f"{said}. A merge of the two is noise."
        )
        return "unrelated", None, said
    if nearest is not None and nearest <= models:
        return _between(members, m, nearest, sums, said)
    if (sums.relative(m) or 0.0) >= FAR:
        said += (
            ": more than fine-tuning lies between them. Look for the base that it was fine-tuned "
            "from; --candidate compares others."
        )
        return "far", None, said
    return "fits", None, f"{said}: a fine-tune's distance."


def _between(
    members: Sequence[Checkpoint], m: int, nearest: int, sums: DistanceSums, said: str
) -> tuple[Fit, int | None, str]:
    """Whether a model that another one is nearer to than the base was made from that one."""
    other, contained = members[nearest].name, sums.projection(m, nearest) or 0.0
    inside = f"{contained:.2f} of the task vector of {other} is in its own"
    if ON_THE_WAY[0] <= contained <= ON_THE_WAY[1]:
        said += f", and goes on from there ({inside}): {other} is its base, or nearer to it."
        return "another", nearest, said
    said += (
        f", yet does not go on from there ({inside}): both were trained alike from "
        f"{members[0].name}, or from a base that is not given."
    )
    return "fits", None, said


def warnings(
    members: Sequence[Checkpoint],
    models: int,
    *,
    numbers: DistanceSums,
    used: Sequence[int],
    broken: Sequence[NonFiniteValues],
) -> tuple[str, ...]:
    """What would make a merge wrong, or useless, beside what the headers say.

    Args:
        members: The base, the models, then other candidates for the base.
        models: How many models there are.
        numbers: Over everything that was compared.
        used: Which of the members that was, the base first.
        broken: Values that are no numbers, by their place in `used`.
    """
    base, given = members[0], range(1, models + 1)
    said = [_not_numbers(members[used[b.checkpoint]].name, b) for b in broken]
    for m in given:
        signs = signs_of_swap(base, members[m])
        if signs:
            said.append(
                f"{base.name} and {members[m].name} may be swapped: the base is usually the "
                f"earlier one, but of {base.name}, {'; '.join(signs)}."
            )
        said += _lineage(members, m)
        theirs = template_of(members[m].tokenizer_folder)
        if theirs is None:
            said.append(f"{members[m].name} has no chat template; as System 2 it would give none.")
    place = {member: i for i, member in enumerate(used)}
    compared = [m for m in given if m in place]
    for m in compared:
        if numbers.elements and numbers.unchanged(place[m]) == 1:
            said.append(equals_base(members[m].name))
        for other in compared:
            cosine = numbers.cosine(place[other], place[m]) if other < m else None
            if cosine is not None and cosine >= ALIKE:
                said.append(
                    f"The task vectors of {members[other].name} and {members[m].name} are nearly "
                    f"the same (cosine {cosine:.3f}): the second adds hardly anything."
                )
    return tuple(dict.fromkeys(said))


def _lineage(members: Sequence[Checkpoint], m: int) -> list[str]:
    """What a model's card says of its base, where it is not the one given."""
    parent = parent_of(members[m])
    if parent is None or same_model(parent, members[0]):
        return []
    model, base = members[m].name, members[0].name
    return [f"The card of {model} names {parent} as its base; {base} is given as such."]


def _not_numbers(name: str, broken: NonFiniteValues) -> str:
    what = [f"{broken.nan:,} NaN"] if broken.nan else []
    what += [f"{broken.infinite:,} infinite values"] if broken.infinite else []
    return (
        f"'{broken.tensor}' of {name} holds {' and '.join(what)}: it cannot be merged, and is left "
        "out of the numbers. Fetch or save the checkpoint again."
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
