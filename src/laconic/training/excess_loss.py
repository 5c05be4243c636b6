"""The excess loss of each pool over the model before training, which DoReMi needs."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from laconic.data.pools import MASKED
from laconic.errors import TrainError
from laconic.files.atomic import writing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from laconic.training.bounds import Measurement
    from laconic.training.data.rows import TrainingRows
    from laconic.training.distributed import Processes
    from laconic.training.run_folder import RunFolder

#: How many rows of a pool are measured, the same ones at every evaluation.
SAMPLE: Final = 32
#: Tokens whose probabilities are computed at a time.
PIECE: Final = 1024
FILE: Final = "losses.npz"
#: The losses of a row's trained tokens, in nats, ``[token]``.
Losses = list["NDArray[np.float32]"]


class ExcessLoss:
    """The losses of a fixed sample of every pool's rows, against those before the first step.

    The reference is the model that training starts from. Its losses are kept in the run's folder,
    so that a resumed run has them.

    Args:
        rows: What is trained on.
        seed: Picks the sample.
        run_folder: Where the reference losses are kept.
        processes: The processes that train. Each computes all losses, which sharded weights need;
            those of the main process count.
    """

    def __init__(
        self, rows: TrainingRows, seed: int, run_folder: RunFolder, processes: Processes
    ) -> None:
        self._path = run_folder.folder / FILE
        self._processes = processes
        self._sample: dict[str, list[tuple[list[int], list[int]]]] = {}
        for pool in rows.pools:
            draw = random.Random(f"{seed} {pool.name}")
            chosen = sorted(
                draw.sample([int(row) for row in pool.rows], min(SAMPLE, len(pool.rows)))
            )
            sample = rows.table.take(chosen).to_pylist()
            self._sample[pool.name] = [(row["input_ids"], row["labels"]) for row in sample]

    def begin(self, model: Any) -> None:
        """Measure the reference, the model before its first step, and keep its losses."""
        losses = self._measure(model)
        arrays: dict[str, Any] = {name: np.concatenate(rows) for name, rows in losses.items()}

        def write() -> None:
            with writing(self._path) as beside, beside.open("wb") as stream:
                np.savez(stream, **arrays)

        self._processes.on_main_process(write)

    def add(self, measured: Measurement, model: Any) -> Measurement:
        """A measurement with every pool's excess loss, and its standard error by rows.

        Raises:
            TrainError: Where the reference losses are missing, or of other rows.
        """
        now, before = self._measure(model), self._processes.on_main_process(self._reference)
        own = {name: _excess(rows, before[name]) for name, rows in now.items()}
        excess = self._processes.on_main_process(lambda: own)
        return replace(
            measured,
            excess={name: mean for name, (mean, _) in excess.items()},
            excess_se={name: error for name, (_, error) in excess.items()},
        )

    def _measure(self, model: Any) -> dict[str, Losses]:
        with _evaluation_mode(model):
            return {
                name: [_losses(model, ids, labels) for ids, labels in rows]
                for name, rows in self._sample.items()
            }

    def _reference(self) -> dict[str, Losses]:
        trouble = f"{self._path} is missing or damaged: begin the training anew, in another folder."
        try:
            with np.load(self._path) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (OSError, ValueError, EOFError) as error:
            raise TrainError(trouble) from error
        losses = {}
        for name, rows in self._sample.items():
            sizes = [sum(label != MASKED for label in labels[1:]) for _, labels in rows]
            ends = [0, *accumulate(sizes)]
            if name not in arrays or len(arrays[name]) != ends[-1]:
                raise TrainError(trouble)
            losses[name] = [arrays[name][a:b] for a, b in pairwise(ends)]
        return losses


def _losses(model: Any, ids: list[int], labels: list[int]) -> NDArray[np.float32]:
    """The loss of each trained token of a row, in nats, ``[token]``."""
    import torch
    from torch.nn.functional import cross_entropy

    device = next(model.parameters()).device
    inputs = torch.tensor([ids], device=device)
    logits = model(input_ids=inputs, use_cache=False).logits[0, :-1]
    targets = torch.tensor(labels[1:], device=device)
    trained = (targets != MASKED).nonzero()[:, 0]
    pieces = [
        cross_entropy(logits[piece].float(), targets[piece], reduction="none")
        for piece in (trained[start : start + PIECE] for start in range(0, len(trained), PIECE))
    ]
    losses: NDArray[np.float32] = torch.cat(pieces).cpu().numpy()
    return losses


def _excess(now: Losses, before: Losses) -> tuple[float, float]:
    """The mean over tokens of max(loss - reference, 0), and its standard error by rows."""
    sums = np.array([np.maximum(a - b, 0).sum() for a, b in zip(now, before, strict=True)])
    sizes = np.array([len(row) for row in now])
    mean = float(sums.sum() / sizes.sum())
    if len(now) < 2:
        return mean, 0.0
    spread = ((sums - mean * sizes) ** 2).sum() * len(now) / (len(now) - 1)
    return mean, float(np.sqrt(spread) / sizes.sum())


@contextmanager
def _evaluation_mode(model: Any) -> Iterator[None]:
    """Turn a model's dropout and gradients off for as long as it is measured."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
