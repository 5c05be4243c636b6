"""Forward passes layer by layer: all samples go through one layer before the next is loaded."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from laconic.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import Tensor

    from laconic.calibration.model import Skeleton
    from laconic.calibration.samples import Item
    from laconic.calibration.work import WorkFolder
    from laconic.runtime import Progress


@dataclass(frozen=True)
class Batch:
    """Samples that go through the model together, padded on the right.

    Attributes:
        samples: Their numbers.
        ids: Token ids, ``[row, token]``; 0 for padding.
        mask: True for tokens and False for padding, ``[row, token]``.
        start: The number of tokens in the batches before this one.
    """

    samples: tuple[int, ...]
    ids: Tensor
    mask: Tensor
    start: int

    @property
    def tokens(self) -> int:
        """How many tokens its samples have together."""
        return int(self.mask.sum())

    @property
    def lengths(self) -> list[int]:
        """The tokens of each sample."""
        lengths: list[int] = self.mask.sum(dim=1).tolist()
        return lengths

    def real(self, values: Tensor) -> Tensor:
        """The values of the tokens, without those of the padding.

        Args:
            values: ``[row, token, ...]`` or ``[row * token, ...]``.

        Raises:
            CalibrationError: For any other shape.
        """
        if values.shape[:2] == self.mask.shape:
            return values[self.mask]
        if len(values) == self.mask.numel():
            return values[self.mask.flatten()]
        raise CalibrationError(
            f"A part of the model reads {list(values.shape)} where {list(self.mask.shape)} tokens "
            "went in: calibration cannot tell which token is where in this architecture."
        )


class StageObserver(Protocol):
    """Collects statistics while the samples go through the models, one stage at a time."""

    def attach(self, stack: ExitStack, side: int, skeleton: Skeleton, stage: int) -> None:
        """Register hooks on a stage of model number `side`; closing the stack removes them."""

    def begin(self, batch: Batch) -> None:
        """Called before a batch goes through the stage."""

    def end(self, skeletons: Sequence[Skeleton], stage: int, states: Sequence[Tensor]) -> None:
        """Called after the batch; `states` has each model's output, ``[row, token, channel]``."""

    def collect(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the stage's statistics and facts about them, and reset both."""


def make_batches(
    items: Sequence[Item], groups: Sequence[Sequence[int]], device: torch.device
) -> list[Batch]:
    """Pad the samples of each group, given by their numbers, into a batch."""
    import torch

    batches, start = [], 0
    for group in groups:
        longest = max(len(items[i].ids) for i in group)
        ids = torch.zeros(len(group), longest, dtype=torch.long)
        mask = torch.zeros(len(group), longest, dtype=torch.bool)
        for row, number in enumerate(group):
            own = items[number].ids
            ids[row, : len(own)] = torch.tensor(own)
            mask[row, : len(own)] = True
        batches.append(Batch(tuple(group), ids.to(device), mask.to(device), start))
        start += batches[-1].tokens
    return batches


def run_forward(
    skeletons: Sequence[Skeleton],
    batches: Sequence[Batch],
    observer: StageObserver,
    work: WorkFolder,
    progress: Progress,
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Send all batches through the models, stage by stage, and collect the statistics.

    The hidden states between two stages are kept in files of the work folder. So memory holds one
    stage of each model and one batch, and a calibration that was stopped continues at its stage.

    Returns:
        The statistics, and the facts about them of each stage.
    """
    import torch

    stages = skeletons[0].layers + 2
    for skeleton in skeletons:
        skeleton.check_steps()
    for stage in range(work.done, stages):
        files = _files(stage, skeletons, batches, work)
        with ExitStack() as stack, torch.inference_mode():
            for side, skeleton in enumerate(skeletons):
                stack.enter_context(skeleton.holding(skeleton.part(stage)))
                skeleton.only(stage)
                observer.attach(stack, side, skeleton, stage)
            for number, batch in enumerate(batches):
                note = f"{skeletons[0].group(stage)}, batch {number + 1} of {len(batches)}"
                progress(stage, stages, note)
                observer.begin(batch)
                observer.end(skeletons, stage, _through(stage, skeletons, batch, files))
            tensors, facts = observer.collect()
        work.save(f"stage-{stage}", tensors, **facts)
        for side in range(len(skeletons) if stage + 1 < stages else 0):
            work.sync(f"states-{stage + 1}-{side}")
        work.finish(stage + 1)
        for side in range(len(skeletons)):
            work.drop(f"states-{stage}-{side}")
    progress(stages, stages, "done")
    merged: dict[str, Tensor] = {}
    facts_of = []
    for stage in range(stages):
        tensors, facts = work.load(f"stage-{stage}")
        merged |= tensors
        facts_of.append(facts)
    return merged, facts_of


def _files(
    stage: int, skeletons: Sequence[Skeleton], batches: Sequence[Batch], work: WorkFolder
) -> list[dict[int, Tensor]]:
    """The hidden states that a stage reads and writes: for each model, by stage."""
    rows = batches[-1].start + batches[-1].tokens
    return [
        {
            place: work.states(f"states-{place}-{side}", (rows, skeleton.width), skeleton.dtype)
            for place in (stage, stage + 1)
            if 0 < place <= skeleton.layers + 1
        }
        for side, skeleton in enumerate(skeletons)
    ]


def _through(
    stage: int,
    skeletons: Sequence[Skeleton],
    batch: Batch,
    files: Sequence[Mapping[int, Tensor]],
) -> list[Tensor]:
    """The output of a stage for a batch, model by model; it is stored for the next stage."""
    span = slice(batch.start, batch.start + batch.tokens)
    outputs = []
    for skeleton, states in zip(skeletons, files, strict=True):
        values = batch.ids
        if stage > 0:
            inputs = states[stage][span].to(skeleton.device)
            values = inputs.new_zeros(*batch.mask.shape, skeleton.width)
            values[batch.mask] = inputs
        outputs.append(skeleton.step(stage, values))
        _check_finite(outputs[-1], batch, skeleton, stage)
        if stage + 1 in states:
            states[stage + 1][span] = outputs[-1][batch.mask].to("cpu")
    return outputs


def _check_finite(states: Tensor, batch: Batch, skeleton: Skeleton, stage: int) -> None:
    """Refuse hidden states that are not finite: all later statistics would be useless."""
    finite = states.isfinite().all(dim=-1) | ~batch.mask
    if not finite.all():
        number = batch.samples[int((~finite).any(dim=1).nonzero()[0])]
        raise CalibrationError(
            f"{skeleton.checkpoint.name}: what leaves {skeleton.group(stage)} is not finite for "
            f"sample {number}. Look at the weights with 'laconic inspect', or compute in "
            "--dtype float32."
        )
