"""Statistics of forward passes: layer by layer, all samples through one layer before the next."""

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
        ids: Token ids, ``[row, token]``; 0 where there is none.
        mask: Where there are tokens, ``[row, token]``.
        start: Where their tokens begin among those of all batches.
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
        """The values of tokens, those of the padding left out.

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
            "went in: calibration does not know which token is where in this architecture."
        )


class StageObserver(Protocol):
    """What looks at the models while the samples go through them."""

    def attach(self, stack: ExitStack, side: int, skeleton: Skeleton, stage: int) -> None:
        """Put hooks on a stage of one of the models, for as long as the stack is open."""

    def begin(self, batch: Batch) -> None:
        """A batch goes through the stage next."""

    def end(self, skeletons: Sequence[Skeleton], stage: int, states: Sequence[Tensor]) -> None:
        """It has; `states` are what came out of each model, ``[row, token, channel]``."""

    def collect(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The stage's statistics and facts about them; both are forgotten here."""


def make_batches(
    items: Sequence[Item], groups: Sequence[Sequence[int]], device: torch.device
) -> list[Batch]:
    """Batches of samples by their numbers."""
    import torch

    made, start = [], 0
    for group in groups:
        longest = max(len(items[i].ids) for i in group)
        ids = torch.zeros(len(group), longest, dtype=torch.long)
        mask = torch.zeros(len(group), longest, dtype=torch.bool)
        for row, number in enumerate(group):
            own = items[number].ids
            ids[row, : len(own)] = torch.tensor(own)
            mask[row, : len(own)] = True
        made.append(Batch(tuple(group), ids.to(device), mask.to(device), start))
        start += made[-1].tokens
    return made


def run_forward(
    skeletons: Sequence[Skeleton],
    batches: Sequence[Batch],
    watch: StageObserver,
    work: WorkFolder,
    progress: Progress,
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Send all batches through the models, stage by stage, and collect what the watch saw.

    The hidden states between two stages lie in files of the work folder, so that memory holds one
    stage of each model and one batch, and a calibration that was stopped goes on at its stage.

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
                watch.attach(stack, side, skeleton, stage)
            for number, batch in enumerate(batches):
                note = f"{skeletons[0].group(stage)}, batch {number + 1} of {len(batches)}"
                progress(stage, stages, note)
                watch.begin(batch)
                watch.end(skeletons, stage, _through(stage, skeletons, batch, files))
            tensors, facts = watch.collect()
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
    """The hidden states that a stage reads and writes, for each model by stage."""
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
    """What a stage of each model makes of a batch, kept for the next stage."""
    span = slice(batch.start, batch.start + batch.tokens)
    made = []
    for skeleton, states in zip(skeletons, files, strict=True):
        values = batch.ids
        if stage > 0:
            held = states[stage][span].to(skeleton.device)
            values = held.new_zeros(*batch.mask.shape, skeleton.width)
            values[batch.mask] = held
        made.append(skeleton.step(stage, values))
        _check_finite(made[-1], batch, skeleton, stage)
        if stage + 1 in states:
            states[stage + 1][span] = made[-1][batch.mask].to("cpu")
    return made


def _check_finite(states: Tensor, batch: Batch, skeleton: Skeleton, stage: int) -> None:
    """Refuse hidden states that are not finite: nothing that follows would mean anything."""
    finite = states.isfinite().all(dim=-1) | ~batch.mask
    if not finite.all():
        number = batch.samples[int((~finite).any(dim=1).nonzero()[0])]
        raise CalibrationError(
            f"{skeleton.checkpoint.name}: what leaves {skeleton.group(stage)} is not finite for "
            f"sample {number}. Look at the weights with 'laconic inspect', or compute in "
            "--dtype float32."
        )
