"""Static: the mixture stays as it started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.training.controllers.contract import State, controller

if TYPE_CHECKING:
    from laconic.training.bounds import Measurement


@controller()
def static(state: State, measured: Measurement) -> State:
    """Keep the first weights, whatever is measured.

    ``w <- w``. The baseline of every moving mixture, at the share that is best for it.

    Source: the static mixtures of Li et al. 2025 (arXiv 2506.02678).
    """
    return state.moved(state.weights)
