"""What a plug-in of a merge declares about itself, and what its `check` is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from laconic.registry import Parameter

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from laconic.checkpoints.layout import Role
    from laconic.methods.contract.group import TensorGroup
    from laconic.methods.contract.kernel_steps import Combination, KernelContext, VectorStep
    from laconic.methods.contract.ranking import Trim
    from laconic.methods.contract.step_statistics import StepStatistics

Reach = Literal["element", "row", "tensor", "model"]
#: The checkpoints whose statistics a step reads: the base's, each model's, or all of them; of an
#: adjustment also those of the merge without it, measured against the base (``merged``).
Whose = Literal["base", "models", "members", "merged"]
#: Statistics by kind, then one for each of those checkpoints, the base first.
Stats = Mapping[str, tuple["StepStatistics", ...]]
#: The trims that a step asks for, from its parameters for a tensor and the number of elements.
Trims = Callable[[Mapping[str, Any], int], Sequence["Trim"]]
#: Sums over the chunks of a group, ``[sum, chunk]``.
Parts = Callable[..., "np.ndarray[Any, Any]"]
#: The compiled kernels that take sums over a tensor: the inner products of the vectors; those of
#: the two checkpoints themselves; each vector's sum of magnitudes, before and after the step.
SumKernel = Literal["vector_products", "member_products", "magnitudes"]
#: Looks at a step's parameters for one tensor before anything is read. Returns a sentence on what
#: has no effect, or an empty one; raises a RecipeError for values that do not go together.
Check = Callable[[Mapping[str, Any], "TensorContext"], str]
#: Says what the compiled kernels are to do for one tensor: a transform gives its vector steps, a
#: method its combination, an adjustment its factor.
Kernel = Callable[["KernelContext"], "Sequence[VectorStep] | Combination | float"]

#: The recipe's parameter of every step that reads calibration statistics. The engine reads the
#: files; the plug-in's function has no such argument.
STATS: Final = Parameter(
    name="stats",
    kind="a file or a list of files",
    default=None,
    required=True,
    help="Files of laconic calibrate; each says itself which checkpoint was measured.",
)


class Sums(NamedTuple):
    """Sums over a whole tensor that a step needs before its blocks are computed.

    Attributes:
        parts: Gives the sums over the chunks of a group; takes the group and those parameters that
            it names.
        only: The sums are needed where the step's parameters have these values; empty for always.
        kernel: The compiled kernel that gives the same sums, if any. Where the step has a parameter
            `model`, it sums over that model only.
    """

    parts: Parts
    only: Mapping[str, Any] = MappingProxyType({})
    kernel: SumKernel | None = None


class TensorContext(NamedTuple):
    """What a recipe says of one tensor beside the step's parameters, for a step's `check`.

    Attributes:
        weights: The models' weights.
        based: Whether there is a base.
        name: The tensor's name.
        shape: Its shape.
        stats: The calibration statistics that the step reads.
        layer: The layer of the text model that the tensor belongs to; None outside of them.
        role: Whether the tensor is the embedding, or of the head.
    """

    weights: tuple[float, ...]
    based: bool
    name: str = ""
    shape: tuple[int, ...] = ()
    stats: Stats = MappingProxyType({})
    layer: int | None = None
    role: Role = ""


@dataclass(frozen=True, kw_only=True)
class StepTraits:
    """What a method, transform or adjustment declares: the keywords of its decorator.

    Attributes:
        reach: What one element of the result depends on, apart from `trims` and `sums`; of a method
            also a function of the parameters that says so.
        base: Methods: whether a recipe must name a base.
        members: Methods: how many checkpoints it takes, base included; None for any number.
        models: Methods: the fewest and the most models it takes, base not counted; None for any
            number.
        weighted: Methods: whether it uses the models' weights.
        normalises: Methods: whether only the proportions of the weights count, so that the base
            cancels.
        trims: Whether it trims with its own ``density``, ``scope`` and ``ties``, the last two being
            optional: `group.trimmed`, `group.limit` or `group.magnitude`. Or the trims that it asks
            for, as a function of its parameters and the number of elements.
        ranks: Methods: what its trims rank, float32, ``[rank, *shape]``, none below 0; None for the
            magnitudes of the vectors.
        sums: What it asks for by `group.total`.
        no_op_at: Parameters at which a method gives back its first checkpoint, and any other step
            changes nothing; users are told.
        zero_params: Methods: parameters at which task vectors of zero give the base, where not all
            do.
        check: Looks at the parameters before anything is read.
        extra_copies: Of a reach beyond ``row``: how many tensors in float32 it holds at its peak
            beside base, vectors and result.
        cost: What it costs beyond a pass over the weights, as users read it.
        stats: The kinds of calibration statistics it reads (`KINDS` in
            `laconic.calibration.record`), each with the checkpoints they are of; they come in
            `group.stats`, and a recipe names their files as its ``stats``.
        stats_copies: How many copies in float32 of one checkpoint's statistics of a tensor it
            holds.
        norms: Adjustments: whether it asks for `group.norms`, for which everything is merged once
            more.
        kernel: What the compiled kernels are to do in place of the function, with the same bytes;
            None where only the function can do it. A merge uses the kernels where all its steps
            have one.
        experimental: Whether its results are not to be relied on.
    """

    reach: Reach | Callable[[Mapping[str, Any]], Reach] = "element"
    base: Literal["needed", "optional"] = "needed"
    members: int | None = None
    models: tuple[int, int | None] = (1, None)
    weighted: bool = True
    normalises: bool = False
    trims: bool | Trims = False
    ranks: Callable[[TensorGroup], Tensor] | None = None
    sums: Sums | None = None
    no_op_at: Mapping[str, Any] = field(default_factory=dict)
    zero_params: Mapping[str, Any] = field(default_factory=dict)
    check: Check | None = None
    extra_copies: int = 0
    cost: str = ""
    stats: Mapping[str, Whose] = field(default_factory=dict)
    stats_copies: int = 0
    norms: bool = False
    kernel: Kernel | None = None
    experimental: bool = False
