"""The outcome of a search as text for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laconic.searching.study import Study

#: How the verdict on the held-out problems reads.
VERDICTS: Mapping[str, str] = {
    "yes": "shown to hold",
    "no": "shown not to hold",
    "unclear": "neither shown nor refuted: more problems would tell",
}


def summary_text(study: Study) -> str:
    """The outcome of a search: what was tried, the front, the winner and its proof."""
    return "\n".join([*_tried(study), "", *_front(study), "", *_winner(study)])


def _tried(study: Study) -> Iterator[str]:
    facts, states = study.facts, Counter(trial.state for trial in study.trials)
    ranges = ", ".join(f"{r['name']} from {r['low']:g} to {r['high']:g}" for r in facts["ranges"])
    yield f"Searched {ranges}."
    counts = f"{len(study.trials)} candidates: {states['complete']} on every problem"
    if states["dropped"]:
        counts += f", {states['dropped']} dropped early"
    if states["budget"]:
        counts += f", {states['budget']} cut short by the budget"
    tokens = facts["tokens"]
    of = f" of {facts['budget']:,}" if facts["budget"] else ""
    yield (
        f"{counts}. {sum(tokens.values()):,} tokens{of}: {tokens['references']:,} for the "
        f"references, {tokens['search']:,} for candidates, {tokens['proof']:,} for the proof."
    )


def _front(study: Study) -> Iterator[str]:
    rows = [(name, _numbers(numbers)) for name, numbers in study.facts["references"].items()]
    rows += [
        (t.name, _figures(t.measured.accuracy.value, t.measured.length.value)) for t in study.front
    ]
    width = max(len(name) for name, _ in rows)
    problems = sum(record["problems"] for record in study.facts["tasks"])
    yield f"The front, on the {problems} problems of the search:"
    for name, figures in rows:
        yield f"  {name:<{width}}  {figures}"


def _winner(study: Study) -> Iterator[str]:
    winner = study.facts["winner"]
    if winner is None:
        constraint = study.facts["constraint"] or "accuracy>=system2-0.02"
        yield f"No candidate keeps to {constraint}. Give more trials, or other ranges."
        return
    how = "shown" if winner["shown"] else "as measured there, which shows nothing yet"
    yield f"Chosen: {winner['name']} ({how})."
    proof = winner["proof"]
    if proof is None or not proof["answered"]:
        yield "It has not been measured on held-out problems: give a larger --budget."
    else:
        yield from _proof(proof)
    recipe = study.folder / "recipe.yaml"
    yield f"Its recipe: {recipe} (laconic merge {recipe} -o merged)."


def _proof(proof: Mapping[str, Any]) -> Iterator[str]:
    part = "" if proof["answered"] >= proof["problems"] else " (the budget ended there)"
    yield f"On {proof['answered']} held-out answers{part}:"
    for name in ("system1", "system2", "winner"):
        if name in proof:
            yield f"  {name:<7}  {_numbers(proof[name])}"
    gain, change = proof["accuracy_diff"], proof["length_change"]
    yield (
        f"Against system2: {_signed(gain, 'points')}; length {_signed(change, '%')}. "
        f"{proof['constraint']} is {VERDICTS[proof['verdict']]}."
    )


def _numbers(numbers: Mapping[str, Any]) -> str:
    return _figures(numbers["accuracy"]["value"], numbers["length"]["value"])


def _figures(accuracy: float, length: float) -> str:
    return f"{100 * accuracy:5.1f} %  {length:8,.0f} tokens"


def _signed(estimate: Mapping[str, float], unit: str) -> str:
    value, low, high = (100 * estimate[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} {unit} ({low:+.1f} to {high:+.1f})"
