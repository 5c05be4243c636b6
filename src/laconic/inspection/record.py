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
    from laconic.inspection.sums import DistanceSums

SCHEMA = 1


def to_json(inspection: Inspection) -> str:
    """An inspection as JSON: shares are fractions; numbers that do not exist are null."""
    return json.dumps(record(inspection), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def record(inspection: Inspection) -> dict[str, Any]:
    """An inspection as plain values."""
    return {
        "schema": SCHEMA,
        "base": inspection.base,
        "models": list(inspection.models),
        "candidates": list(inspection.candidates),
        "siblings": [asdict(model) for model in inspection.compatibility],
        "choice": {
            **asdict(inspection.base_verdict),
            "rule": RULE,
            "distances": _distances(inspection),
        },
        "warnings": list(inspection.warnings),
        "notes": list(inspection.notes),
        "differences": [asdict(difference) for difference in inspection.differences],
        "compared": {
            "tensors": len(inspection.sums),
            "values": inspection.whole.elements,
            "left_out": dict(inspection.common_tensors.left_out),
        },
        "not_numbers": [
            {**asdict(broken), "checkpoint": inspection.names[inspection.used[broken.checkpoint]]}
            for broken in inspection.broken
        ],
        "whole": numbers(inspection, inspection.whole),
        "parts": {part: numbers(inspection, sums) for part, sums in inspection.parts.items()},
        "layers": [
            {
                "layer": layer,
                **numbers(inspection, inspection.layer(layer)),
                "parts": {
                    part: numbers(inspection, sums)
                    for part in inspection.parts
                    if (sums := inspection.layer(layer, part=part)).elements
                },
            }
            for layer in range(inspection.layers)
        ],
        "tensors": {
            name: {
                "part": component_of(name),
                "layer": inspection.depth.of(name),
                **numbers(inspection, sums),
            }
            for name, sums in inspection.sums.items()
        },
    }


def numbers(inspection: Inspection, sums: DistanceSums) -> dict[str, Any]:
    """All numbers of some tensors, by model and by pair of models."""
    compared = inspection.compared
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


def _distances(inspection: Inspection) -> list[dict[str, Any]]:
    """The distance between all checkpoints, over the attention and MLP matrices."""
    return [
        {
            "from": inspection.names[start],
            "to": inspection.names[end],
            "relative": _some(inspection.matrices.relative(j, i)),
            "alignment": _some(inspection.matrices.alignment(i, j)),
        }
        for i, start in enumerate(inspection.used)
        for j, end in enumerate(inspection.used)
        if i != j
    ]


def _some(value: float | None) -> float | None:
    """The number, or None if JSON cannot write it."""
    return None if value is None or not math.isfinite(value) else value
