"""Model Stock: go from the base towards the models' mean as far as their agreement says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from laconic.methods.contract.group import VECTOR_PRODUCTS, TensorGroup, method, vector_products
from laconic.methods.contract.kernel_steps import Combination, KernelContext, weighted_mean
from laconic.methods.contract.sums import square

if TYPE_CHECKING:
    from torch import Tensor


def kernel(context: KernelContext) -> Combination:
    """The mean of the vectors, times the ratio."""
    count = len(context.weights)
    return weighted_mean([1.0] * count, ratio(context.known_sums), float(count))


@method(models=(2, None), weighted=False, sums=VECTOR_PRODUCTS, kernel=kernel)
def model_stock(group: TensorGroup) -> Tensor:
    """The base plus `t` times the mean task vector, t from the angle between the vectors.

    ``t = K c / (1 + (K - 1) c)``, where c is the mean cosine between the K models' vectors,
    flattened, tensor by tensor: 1 where all agree, 0 where they are orthogonal. A mean cosine below
    0 counts as 0, which gives the base (the formula would turn back, and has a pole); a vector of
    zeros has cosine 0 with any other. One model has no angle: the recipe is refused.

    Source: Jang et al. 2024 (arXiv 2403.19522), the ratio for K models; the mean over pairs is
    mergekit's, that it is not below 0 ours.
    """
    far = ratio(group.total(vector_products))
    return group.base + far * sum(group.vectors) / len(group.vectors)


def ratio(products: Sequence[float]) -> float:
    """How far the merge goes from the base to the mean, in [0, 1], from the inner products."""
    matrix = square(products)
    norms = np.sqrt(matrix.diagonal())
    gross = np.outer(norms, norms)
    with np.errstate(invalid="ignore"):  # products that overflow give NaN, which the engine reports
        cosines = np.divide(matrix, gross, out=np.zeros_like(matrix), where=gross > 0)
    count = len(norms)
    mean = float(np.triu(cosines, 1).sum()) / (count * (count - 1) / 2)
    cosine = min(max(mean, 0.0), 1.0)
    return count * cosine / (1 + (count - 1) * cosine)
