"""An inspection as plain values: the JSON that other programs read."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from itertools import combinations
from typing import TYPE_CHECKING, Any

from laconic.checkpoints.name_map import component_of
from laconic.inspection.verdict import RULE

if TYPE_CHECKING:
    from laconic.inspection.inspect import Inspection
    from laconic.inspection.sums import Sums

SCHEMA = 1


def to_json(found: Inspection) -> str:
    """An inspection as JSON: shares are fractions; what does not exist is null."""
    return json.dumps(record(found), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def record(found: Inspection) -> dict[str, Any]:
    """An inspection as plain values."""
    return {
        "schema": SCHEMA,
        "base": found.base,
        "models": list(found.models),
        "candidates": list(found.candidates),
        "siblings": [asdict(sibling) for sibling in found.siblings],
        "choice": {**asdict(found.choice), "rule": RULE, "distances": _distances(found)},
        "warnings": list(found.warnings),
        "notes": list(found.notes),
        "differences": [asdict(difference) for difference in found.differences],
        "compared": {
            "tensors": len(found.sums),
            "values": found.whole.elements,
            "left_out": dict(found.overlap.left_out),
        },
        "not_numbers": [
            {**asdict(broken), "checkpoint": found.names[found.used[broken.checkpoint]]}
            for broken in found.broken
        ],
        "whole": numbers(found, found.whole),
        "parts": {part: numbers(found, sums) for part, sums in found.parts.items()},
        "layers": [
            {
                "layer": layer,
                **numbers(found, found.layer(layer)),
                "parts": {
                    part: numbers(found, sums)
                    for part in found.parts
                    if (sums := found.layer(layer, part=part)).elements
                },
            }
            for layer in range(found.layers)
        ],
        "tensors": {
            name: {
                "part": component_of(name),
                "layer": found.depth.of(name),
                **numbers(found, sums),
            }
            for name, sums in found.sums.items()
        },
    }


def numbers(found: Inspection, sums: Sums) -> dict[str, Any]:
    """Every figure of some tensors, by model and by pair of models."""
    compared = found.compared
    return {
        "values": sums.elements,
        "base_norm": sums.norm(0),
        "models": [
            {
                "model": name,
                "norm": sums.norm(i),
                "vector_norm": sums.distance(i),
                "relative": _some(sums.relative(i)),
                "alignment": _some(sums.alignment(0, i)),
                "unchanged": _some(sums.unchanged(i)),
            }
            for i, name in compared.items()
        ],
        "pairs": [
            {
                "models": [compared[i], compared[j]],
                "cosine": _some(sums.cosine(i, j)),
                "both_change": int(sums.changed[i - 1, j - 1]),
                "conflicts": _some(sums.conflicts(i, j)),
            }
            for i, j in combinations(compared, 2)
        ],
    }


def _distances(found: Inspection) -> list[dict[str, Any]]:
    """How far every checkpoint is from every other one, over the matrices of the layers."""
    return [
        {
            "from": found.names[start],
            "to": found.names[end],
            "relative": _some(found.matrices.relative(j, i)),
            "alignment": _some(found.matrices.alignment(i, j)),
        }
        for i, start in enumerate(found.used)
        for j, end in enumerate(found.used)
        if i != j
    ]


def _some(value: float | None) -> float | None:
    """A number that JSON has."""
    return None if value is None or not math.isfinite(value) else value
