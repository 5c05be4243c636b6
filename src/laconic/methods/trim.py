"""Magnitude trimming: keep the largest entries of each task vector."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Gt, Le

from laconic.methods.contract.group import TensorGroup, transform
from laconic.methods.contract.kernel_steps import keep_trimmed
from laconic.methods.contract.ranking import Scope, Ties  # noqa: TC001  # the registry reads the types


@transform(trims=True, kernel=keep_trimmed, no_op_at={"density": 1.0})
def trim(
    group: TensorGroup,
    *,
    density: Annotated[float, Gt(0), Le(1)] = 0.2,
    scope: Scope = "tensor",
    ties: Ties = "all",
) -> TensorGroup:
    """Keep the `density` largest entries of each task vector by magnitude, unscaled.

    The first step of TIES by itself, for any method that follows; counted as in ``ties``, where the
    paper's code keeps one entry more.

    Args:
        density: The fraction of entries kept.
        scope: Whether the entries are ranked within each tensor or over the whole model.
        ties: Of the entries at the threshold keep all, or exactly as many as `density` says.

    Source: Yadav et al. 2023 (arXiv 2306.01708), section 3, step 1; their code keeps one
    entry more.
    """
    return group.trimmed(density, scope, ties)
