"""How far a merge moves each layer, found in a pass of its own for adjustments that ask for it."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laconic.merging.engine.members import Array
    from laconic.merging.engine.streaming import Chain, Engine


def give_norms(engine: Engine, chain: Chain) -> None:
    """Add to a chain's results how far merging has moved each layer, before each step that asks."""
    for number, step in enumerate(engine.plan.after):
        if step.traits.norms:
            if number not in engine.norms:
                engine.norms[number] = _find_norms(engine, number)
            chain.results.norms[number] = engine.norms[number]


def _find_norms(engine: Engine, number: int) -> dict[int, float]:
    """The squared norm of what is moved in each layer before an adjustment, without rounding."""
    parts: dict[int, list[float]] = {}
    specs = engine.plan.specs
    for finished, spec in enumerate(specs, start=1):
        chain = None if spec.name in engine.plan.copied else engine.chain(spec.name)
        if chain is None or chain.members.layer is None or not chain.members.size:
            continue
        engine.prepare(chain)
        chain.results.norms.update(engine.norms)
        blocks = engine.blocks(chain, chain.chunk)
        for chunks in engine.map(partial(_squares, chain, number), blocks):
            parts.setdefault(chain.members.layer, []).extend(chunks.tolist())
        engine.progress(finished, len(specs), "norms")
    return {layer: math.fsum(squares) for layer, squares in parts.items()}


def _squares(chain: Chain, number: int, block: tuple[int, int]) -> Array:
    from laconic.merging.engine.formula import Formula

    assert isinstance(chain, Formula)  # no kernel knows such adjustments
    return chain.squares(*block, number)
