"""What a step of a merge takes and costs, from what its decorator declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laconic.methods.contract.traits import StepTraits
    from laconic.registry import Plugin


def count_words(least: int, most: int | None) -> str:
    """A range of numbers of models in words."""
    if least == most:
        return f"exactly {least} model{'s' * (least > 1)}"
    return f"at least {least} model{'s' * (least > 1)}" if most is None else f"{least} to {most}"


def describe_step(plugin: Plugin[Any]) -> list[str]:
    """What a method, transform or adjustment takes and costs, in sentences."""
    traits: StepTraits = plugin.traits
    sentences = []
    if plugin.family == "method":
        most = traits.models[1]
        count = (
            f"exactly {traits.members} checkpoints, base included"
            if traits.members
            else count_words(*traits.models)
        )
        based = "a base" if traits.base == "needed" else "with a base or without"
        weights = "" if traits.weighted else "; it ignores the models' weights"
        sentences.append(
            f"Takes {count}{', ' if most or based != 'a base' else ' and '}{based}{weights}."
        )
    reach = traits.reach
    if callable(reach):
        reach = reach({p.name: p.default for p in plugin.parameters})
    if reach in {"element", "row"}:
        memory = "Runs in blocks, whatever the size of the tensors"
    else:
        memory = "Takes whole tensors, one at a time"
    passes = [
        what
        for what, declared in (
            ("thresholds", traits.trims),
            ("sums over the tensor", traits.sums),
        )
        if declared
    ]
    before = f", after passes to find {' and '.join(passes)}" if passes else ""
    sentences.append(f"{memory}{before}.")
    for kind, whose in traits.stats.items():
        sentences.append(_measure(kind, whose))
    if traits.experimental:
        sentences.append("Experimental: do not rely on its results.")
    if traits.cost:
        sentences.append(f"Costs {traits.cost}.")
    return sentences


def _measure(kind: str, whose: str) -> str:
    """Which statistics a step reads, and how they are made and named."""
    of = {"base": "the base", "models": "each model", "members": "base and model"}.get(whose)
    words = kind.replace("_", " ")
    if of is None:
        return (
            f"Reads the {words} of base and merge: merge without it to STEP1, then laconic "
            f"calibrate STEP1 --data FILE --stats {kind} --against BASE -o FILE, then merge again "
            "with this FILE as stats."
        )
    return (
        f"Reads {words} statistics of {of}: laconic calibrate MODEL --data FILE --stats {kind} "
        "-o FILE; name the files as stats."
    )
