"""Conclusions for a merge: whether models are compatible, which base fits, what would go wrong."""

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
#: The verdicts on a base, from best to worst.
SERIOUS: Final[tuple[Fit, ...]] = ("fits", "unknown", "far", "unrelated", "another")
#: Below this cosine of their weights, two checkpoints are unrelated.
UNRELATED: Final = 0.2
#: From this relative distance on, two checkpoints differ by more than fine-tuning.
FAR: Final = 0.5
#: Another base counts as nearer if its distance is below this fraction of the first.
NEARER: Final = 0.99
#: How many times a task vector must contain another one, at least and at most, for its model to
#: have been trained on from that other model.
ON_THE_WAY: Final = (0.8, 1.2)
#: From this cosine on, two task vectors are nearly the same.
ALIKE: Final = 0.95
RULE: Final = (
    "Rule: a model's base is the checkpoint that it is nearest to, by |model - base| / |base| over "
    f"the attention and MLP matrices; up to {FAR:.0%} is fine-tuning, a cosine of the weights "
    f"below {UNRELATED:g} means that they are unrelated."
).replace("%", " %")


@dataclass(frozen=True)
class ModelCompatibility:
    """Whether a model can be merged with the base.

    Attributes:
        name: The model.
        fits: Whether it can be merged.
        reason: Why it cannot, or which option the merge needs; else empty.
    """

    name: str
    fits: bool
    reason: str = ""


@dataclass(frozen=True)
class BaseVerdict:
    """What the distances between the checkpoints say of the base.

    Attributes:
        fit: ``fits``; ``another``: another given checkpoint fits better; ``unrelated`` or ``far``:
            no given checkpoint fits; ``unknown``: nothing could be compared.
        best: The checkpoint that fits best; None if that is not known.
        sentences: The reasons, one for each model.
    """

    fit: Fit
    best: str | None
    sentences: tuple[str, ...]


def check_compatibility(
    members: Sequence[Checkpoint],
) -> tuple[tuple[ModelCompatibility, ...], tuple[str, ...]]:
    """Check whether each model can be merged with the base, as a merge would.

    Args:
        members: The base, then the models. The model with the largest context window counts as
            System 2, as in a merge whose recipe does not name one.

    Returns:
        The result for each model, and the notes that a merge would print.
    """
    base, *models = members
    system2 = max(models, key=lambda model: model.window or 0)
    results: list[ModelCompatibility] = []
    notes: list[str] = []
    for model in models:
        result, own_notes = _pair(base, model)
        results.append(result)
        notes += own_notes if model is system2 else _pair(model, system2)[1]
    return tuple(results), tuple(dict.fromkeys(notes))


def _pair(first: Checkpoint, second: Checkpoint) -> tuple[ModelCompatibility, tuple[str, ...]]:
    """Whether two checkpoints can be merged, perhaps with one tokenizer, and notes."""
    parts = sort_parts({}, first, (first, second))
    try:
        notes = check_compatible((first, second), second, apart=parts.apart)
        return ModelCompatibility(second.name, True), (*notes, *parts.notes)
    except CheckpointError as error:
        reason = str(error)
    embedding = first.layout.embedding
    sizes = [m.specs[embedding].shape for m in (first, second) if embedding in m.specs]
    if len(sizes) == 2 and sizes[0][:1] != sizes[1][:1] and sizes[0][1:] == sizes[1][1:]:
        try:
            unified = unify(of(second), (first, second), base=True)
            notes = check_compatible(unified, unified[1], apart=parts.apart)
        except LaconicError:
            return ModelCompatibility(second.name, False, reason), ()
        return ModelCompatibility(second.name, True, reason), (
            *(note for checkpoint in unified for note in checkpoint.notes),
            *notes,
            *parts.notes,
        )
    return ModelCompatibility(second.name, False, reason), ()


def choose_base(members: Sequence[Checkpoint], models: int, sums: DistanceSums) -> BaseVerdict:
    """Decide by distances from which checkpoint the models were trained.

    Args:
        members: The base, the models, then other candidates for the base.
        models: The number of models.
        sums: The sums over the attention and MLP matrices.
    """
    if not sums.elements or not models:
        return BaseVerdict("unknown", None, ("Nothing could be compared.",))
    fits = {m: _fit(members, m, models, sums) for m in range(1, models + 1)}
    worst = max((fit for fit, _, _ in fits.values()), key=SERIOUS.index)
    best = 0
    if worst == "another":
        rivals = [rival for _, rival, _ in fits.values() if rival is not None]
        best = min(dict.fromkeys(rivals), key=lambda c: _cost(c, models, sums))
    name = members[best].name if worst in ("fits", "another") else None
    return BaseVerdict(worst, name, tuple(text for m, (_, _, text) in fits.items() if m != best))


def _cost(candidate: int, models: int, sums: DistanceSums) -> float:
    """The sum of the squared distances of a candidate from the base and the models."""
    return sum(sums.distance(x, candidate) ** 2 for x in range(models + 1))


def _fit(
    members: Sequence[Checkpoint], m: int, models: int, sums: DistanceSums
) -> tuple[Fit, int | None, str]:
    """The verdict for one model, the checkpoint that fits it better if any, and a sentence."""
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
            f"{model} was not trained from {base}: the cosine of their weights is {cosine:.2f}. "
            f"{said}. A merge of the two gives noise."
        )
        return "unrelated", None, said
    if nearest is not None and nearest <= models:
        return _between(members, m, nearest, sums, said)
    if (sums.relative(m) or 0.0) >= FAR:
        said += (
            ": this is more than fine-tuning. Look for the base that it was fine-tuned from; "
            "--candidate compares other checkpoints."
        )
        return "far", None, said
    return "fits", None, f"{said}, which is typical of fine-tuning."


def _between(
    members: Sequence[Checkpoint], m: int, nearest: int, sums: DistanceSums, said: str
) -> tuple[Fit, int | None, str]:
    """Whether a model was trained on from another given model that is nearer than the base."""
    other, contained = members[nearest].name, sums.projection(m, nearest) or 0.0
    inside = f"{contained:.2f} of the task vector of {other} is in its own"
    if ON_THE_WAY[0] <= contained <= ON_THE_WAY[1]:
        said += (
            f", and was trained on from there ({inside}): {other} is its base, or nearer to its "
            "base."
        )
        return "another", nearest, said
    said += (
        f", but was not trained on from there ({inside}): both were trained in a similar way from "
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
    """Reasons why a merge would be wrong or useless, in addition to `check_compatibility`.

    Args:
        members: The base, the models, then other candidates for the base.
        models: The number of models.
        numbers: The sums over everything that was compared.
        used: The places in `members` that `numbers` covers, the base first.
        broken: NaN and infinite values; their checkpoints are places in `used`.
    """
    base, given = members[0], range(1, models + 1)
    said = [_not_numbers(members[used[b.checkpoint]].name, b) for b in broken]
    for m in given:
        signs = signs_of_swap(base, members[m])
        if signs:
            said.append(
                f"{base.name} and {members[m].name} may be swapped. The base is usually the "
                f"earlier model, but {base.name} looks like the later one: {'; '.join(signs)}."
            )
        said += _lineage(members, m)
        theirs = template_of(members[m].tokenizer_folder)
        if theirs is None:
            said.append(
                f"{members[m].name} has no chat template. As System 2 it gives the result none."
            )
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
                    f"the same (cosine {cosine:.3f}): the second one adds hardly anything."
                )
    return tuple(dict.fromkeys(said))


def _lineage(members: Sequence[Checkpoint], m: int) -> list[str]:
    """A warning if the model's card names another base than the given one."""
    parent = parent_of(members[m])
    if parent is None or same_model(parent, members[0]):
        return []
    model, base = members[m].name, members[0].name
    return [f"The card of {model} names {parent} as its base, but {base} is given as the base."]


def _not_numbers(name: str, broken: NonFiniteValues) -> str:
    what = [f"{broken.nan:,} NaN"] if broken.nan else []
    what += [f"{broken.infinite:,} infinite values"] if broken.infinite else []
    return (
        f"'{broken.tensor}' of {name} contains {' and '.join(what)}: it cannot be merged, and is "
        "left out of the numbers. Fetch or save the checkpoint again."
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
