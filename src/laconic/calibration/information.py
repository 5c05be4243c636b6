"""Mutual information of two models' outputs; each bfloat16 value is a category."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.architecture_names import FEED_FORWARDS
from laconic.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from torch import Tensor, nn

    from laconic.calibration.forward import Batch
    from laconic.calibration.model import Skeleton

#: How many pairs of values are counted at a time.
CHUNK: Final = 1 << 24
HEAD: Final = "lm_head"


class JointCounts:
    """How often each pair of bfloat16 values occurs, added up over several calls."""

    def __init__(self) -> None:
        self._pairs: Tensor | None = None
        self._counts: Tensor | None = None

    def add(self, ours: Tensor, theirs: Tensor) -> None:
        """Count the pairs of two tensors of one shape, rounded to bfloat16."""
        import torch

        for x, y in zip(*(torch.split(v.flatten(), CHUNK) for v in (ours, theirs)), strict=True):
            pairs, counts = torch.unique((_codes(x) << 16) | _codes(y), return_counts=True)
            if self._pairs is not None and self._counts is not None:
                merged = torch.cat([self._pairs, pairs])
                pairs, places = torch.unique(merged, return_inverse=True)
                counts = torch.zeros_like(pairs).scatter_add_(
                    0, places, torch.cat([self._counts, counts])
                )
            self._pairs, self._counts = pairs, counts

    def information(self) -> float:
        """The mutual information of all added pairs, in nats."""
        assert self._pairs is not None
        assert self._counts is not None
        total = int(self._counts.sum())
        weights = self._counts.double()
        ours = (self._pairs >> 16).bincount(weights)
        theirs = (self._pairs & 0xFFFF).bincount(weights)
        joint = _entropy(weights, total)
        return max(0.0, _entropy(ours, total) + _entropy(theirs, total) - joint)


class MutualInformation:
    """The mutual information of two models' outputs, for each sample and part of the model.

    The parts are the embedding, the feed-forward part of each layer, the final norm and the head.
    The head's output is computed a few tokens at a time.
    Source: Yao et al. 2025 (arXiv 2505.14009), and its authors' code for what a category is.

    Args:
        samples: How many samples there are.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._seen: dict[int, Tensor] = {}
        self._found: dict[str, dict[int, float]] = {}
        self._batch: Batch | None = None

    def attach(self, stack: ExitStack, side: int, skeleton: Skeleton, stage: int) -> None:
        """Hook the stage's output; for the last stage, load the head, too."""
        module = skeleton.part(stage)
        if 0 < stage <= skeleton.layers:
            found = [getattr(module, name, None) for name in FEED_FORWARDS]
            inner = next((part for part in found if part is not None), None)
            if inner is None:
                raise CalibrationError(
                    f"{skeleton.checkpoint.name}: {type(module).__name__} has no "
                    f"{' or '.join(FEED_FORWARDS)}, whose output mutual information needs."
                )
            module = inner
        elif stage > skeleton.layers:
            stack.enter_context(skeleton.holding(skeleton.head))

        def see(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            assert self._batch is not None
            self._seen[side] = self._batch.real(output[0] if isinstance(output, tuple) else output)

        stack.callback(module.register_forward_hook(see).remove)

    def begin(self, batch: Batch) -> None:
        """Remember the batch, whose padding does not count."""
        self._batch = batch

    def end(self, skeletons: Sequence[Skeleton], stage: int, states: Sequence[Tensor]) -> None:
        """Count the values of each sample; after the final norm, those of its logits, too."""
        import torch

        assert self._batch is not None
        ours, theirs = (torch.split(self._seen.pop(side), self._batch.lengths) for side in (0, 1))
        for number, x, y in zip(self._batch.samples, ours, theirs, strict=True):
            joint = JointCounts()
            joint.add(x, y)
            self._note(skeletons[0].group(stage), number, joint)
            if stage > skeletons[0].layers:
                self._note(HEAD, number, _head(skeletons, x, y))

    def collect(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The samples' figures by group, ``[sample]``."""
        import torch

        tensors = {
            group: torch.tensor([found[i] for i in range(self._samples)], dtype=torch.float32)
            for group, found in self._found.items()
        }
        self._found = {}
        return tensors, {}

    def _note(self, group: str, number: int, joint: JointCounts) -> None:
        self._found.setdefault(group, {})[number] = joint.information()


def _head(skeletons: Sequence[Skeleton], ours: Tensor, theirs: Tensor) -> JointCounts:
    """The pairs of both heads' logits, a few tokens at a time.

    If one vocabulary was padded to more rows, only the rows that both have are compared.
    """
    import torch

    joint = JointCounts()
    rows = min(skeleton.rows for skeleton in skeletons)
    step = max(1, CHUNK // rows)
    for x, y in zip(*(torch.split(v, step) for v in (ours, theirs)), strict=True):
        joint.add(skeletons[0].head(x)[:, :rows], skeletons[1].head(y)[:, :rows])
    return joint


def _codes(values: Tensor) -> Tensor:
    """Values as the bits of bfloat16, in int64; zero has one code, whatever its sign."""
    import torch

    rounded = values.to(torch.bfloat16) + 0.0
    return rounded.view(torch.int16).long() & 0xFFFF


def _entropy(counts: Tensor, total: int) -> float:
    """The entropy of counts, in nats."""
    shares = counts[counts > 0] / total
    return float(-(shares * shares.log()).sum())
