"""Model Stock: go from the base towards the models' mean as far as their agreement says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.method import TensorGroup, method

if TYPE_CHECKING:
    from torch import Tensor


@method(reach="tensor", models=(2, None), weighted=False)
def model_stock(group: TensorGroup) -> Tensor:
    """The base plus `t` times the mean task vector, t from the angle between the vectors.

    ``t = K c / (1 + (K - 1) c)``, where c is the mean cosine between the K models' vectors,
    flattened, tensor by tensor: 1 where all agree, 0 where they are orthogonal. A mean cosine below
    0 counts as 0, which gives the base (the formula would turn back, and has a pole); a vector of
    zeros has cosine 0 with any other. One model has no angle: the recipe is refused.

    Source: Jang et al. 2024 (arXiv 2403.19522), the ratio for K models; the mean over pairs is
    mergekit's, that it is not below 0 ours.
    """
    return group.base + ratio(group) * group.vectors.mean(0)


def ratio(group: TensorGroup) -> float:
    """How far the merge goes from the base to the mean, in [0, 1]."""
    import torch

    products = group.inner_products()
    norms = products.diagonal().sqrt()
    cosines = torch.nan_to_num(products / (norms[:, None] * norms[None]), nan=0.0)
    count = len(norms)
    mean = float(cosines.triu(1).sum()) / (count * (count - 1) / 2)
    cosine = min(max(mean, 0.0), 1.0)
    return count * cosine / (1 + (count - 1) * cosine)
