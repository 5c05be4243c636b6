"""AIM: pull weights that read the base's most active channels back towards the base."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from laconic.errors import CalibrationError
from laconic.methods.contract.group import TensorGroup, adjustment

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.methods.contract.traits import TensorContext

#: Weights that a text may not use (experts, routers), or that are no linear layer.
MAYBE_UNUSED = re.compile(r"experts?\.|\.gate\.|router|conv")


def check(_: Mapping[str, Any], context: TensorContext) -> str:
    """Say where there is no activity to go by."""
    (base,), name = context.stats["activations"], context.name
    row = context.role == "embedding" or (context.role != "head" and "embed" in name)
    if row or not name.endswith(".weight") or not context.shape:
        return ""
    if name in base:
        dead = not bool(base[name].any())
        return "aim leaves weights as merged whose inputs were all zero" if dead else ""
    if context.role != "head" and not MAYBE_UNUSED.search(name):
        raise CalibrationError(f"aim: the activations hold nothing of '{name}'.")
    return "aim leaves weights as merged that calibration never saw used"


@adjustment(
    stats={"activations": "base"},
    no_op_at={"omega": 1.0},
    check=check,
    cost="one forward pass of the base over the calibration texts",
)
def aim(
    group: TensorGroup, merged: Tensor, *, omega: Annotated[float, Ge(0), Le(1)] = 0.4
) -> Tensor:
    """Relax the merged weights towards the base where their input channels are active.

    ``x_0 + (x - x_0) (1 - A (1 - omega))`` with ``A = a / max(a)``, where a is the mean |input| of
    each input channel over the tokens of the calibration texts, in the base: a value for each
    column of a matrix, each entry of a norm. The most active channel keeps `omega` of what merging
    moved, an inactive one all of it.

    Embeddings and biases stay as merged. So does a head tied to the embedding; one of its own is
    relaxed. Where every input was zero, or a text never used the weight (an expert without tokens),
    A is 0. The mean weighs every token alike, which theirs does for batches of one length only.

    Args:
        omega: The fraction of its change that the most active channel keeps.

    Source: Heyrani Nobari et al. 2025 (arXiv 2502.02421) and their code; 0.4 in Wu et al. 2025,
    Table 7.
    """
    (activity,) = group.measured("activations")
    if activity is None:
        return merged
    share = activity / activity.max().clamp(min=1e-30)
    return group.base + (merged - group.base) * (1 - across(group, share) * (1 - omega))


def across(group: TensorGroup, channels: Tensor) -> Tensor:
    """A value for each input channel at every element here, ``shape``."""
    import torch

    numbers = torch.arange(group.base.numel(), device=channels.device) + group.offset
    return channels[numbers % len(channels)].view(group.base.shape)
