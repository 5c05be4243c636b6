"""WUDI: the vector that interferes least with what each task vector does, found by descent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Gt

from laconic.methods.contract.group import TensorGroup, method

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.methods.contract.traits import TensorContext

#: Adam's decays of the mean gradient and of its square, and what keeps its divisor away from 0.
DECAYS = (0.9, 0.999)
EPSILON = 1e-8
TINY = 1e-30


def check(_: Mapping[str, Any], context: TensorContext) -> str:
    """Say what WUDI of a single model is."""
    if len(context.weights) > 1:
        return ""
    return (
        "wudi of one model is task_arithmetic: nothing interferes with its vector, so the descent "
        "ends where it starts. Merge two models over their common base."
    )


@method(
    reach="tensor",
    weighted=False,
    no_op_at={"scale": 0.0},
    check=check,
    extra_copies=3,
    cost="per matrix of the layers, steps * models products of min(rows, columns) * rows * columns "
    "multiplications, twice: days for a 7B model on a CPU, so use a GPU",
)
def wudi(
    group: TensorGroup,
    *,
    steps: Annotated[int, Ge(0)] = 300,
    rate: Annotated[float, Gt(0)] = 1e-5,
    scale: float = 1.0,
) -> Tensor:
    """Lower the interference of the merged vector with each model's by gradient descent.

    For each matrix of the layers, minimise over m, from ``m = sum_k v_k``, by Adam:
    ``sum_k |(m - v_k) v_k^T|_F^2 / |v_k|_F^2``; the result is ``x_0 + scale * m``. The rows of v_k
    span the inputs that model k was trained on: m is to treat them as v_k does. All other tensors
    (norms, biases, embedding, head) take the mean vector. Stacked experts are matrices by
    themselves. With one model the start is the minimum: that model comes back.

    Adam moves no entry by much more than ``steps * rate`` (0.003), so the result is between the sum
    and the minimum, as in the authors' settings. The gradient is written out instead of being
    traced, and embedding and head are left out for their cost.

    Args:
        steps: Steps of Adam.
        rate: Adam's learning rate, in units of the weights.
        scale: The multiple of the merged vector that is added; the paper has none (1).

    Source: Cheng et al. 2025 (arXiv 2503.08099), the data-free objective; settings as in
    fusion_bench.
    """
    import torch

    if group.base.ndim < 2 or group.layer is None:
        return group.base + scale * group.vectors.mean(0)
    merged = group.vectors.sum(0)
    mean, square = torch.zeros_like(merged), torch.zeros_like(merged)
    for step in range(1, steps + 1):
        slope = torch.zeros_like(merged)
        for vector in group.vectors:
            slope += 2 * pull(merged - vector, vector)
        mean.lerp_(slope, 1 - DECAYS[0])
        square.lerp_(slope.square_(), 1 - DECAYS[1])
        first, second = (1 - decay**step for decay in DECAYS)
        merged -= rate / first * mean / ((square / second).sqrt_() + EPSILON)
    return group.base + scale * merged


def pull(rest: Tensor, vector: Tensor) -> Tensor:
    """``rest v^T v / |v|^2``, half the gradient of one model's interference, ``shape``.

    The interference itself is this times `rest`, summed.
    """
    rows, columns = vector.shape[-2:]
    product = rest @ (vector.mT @ vector) if columns <= rows else (rest @ vector.mT) @ vector
    return product / vector.square().sum((-2, -1), keepdim=True).clamp(min=TINY)
