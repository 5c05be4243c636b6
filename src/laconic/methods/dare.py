"""DARE: drop entries of the task vectors at random and rescale the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from annotated_types import Gt, Le

from laconic.methods.contract.group import TensorGroup, transform
from laconic.methods.contract.kernel_steps import KernelContext, VectorStep, keep_at_random


def kernel(context: KernelContext) -> list[VectorStep]:
    """One draw for each entry."""
    density = context.params["density"]
    factor = 1 / density if context.params["rescale"] else 1.0
    return [keep_at_random(density, factor, len(context.weights))]


@transform(kernel=kernel, no_op_at={"density": 1.0})
def dare(
    group: TensorGroup,
    *,
    density: Annotated[float, Gt(0), Le(1)] = 0.7,
    rescale: bool = True,
) -> TensorGroup:
    """Keep each entry of each task vector with probability `density`, divided by `density`.

    The expectation of every entry is unchanged. Put it before ``average`` for the paper's DARE,
    ``task_arithmetic`` for DARE-TA, ``ties`` for DARE-TIES.

    Args:
        density: The probability that an entry is kept (1 minus the drop rate p).
        rescale: Whether kept entries are divided by `density`.

    Source: Yu et al. 2024 (arXiv 2311.03099), equation 1; density 0.7 at 1.5B and 7B in Wu et al.
    2025, Table 7.
    """
    import torch

    keep = torch.stack([group.uniform(i) < density for i in range(len(group.vectors))])
    return replace(group, vectors=group.vectors * (keep * (1 / density if rescale else 1.0)))
