"""How much worse than at its start a model in training predicts each pool: what DoReMi needs."""

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

#: Rows of a pool that are looked at, the same at every evaluation.
SAMPLE: Final = 32
#: Tokens whose probabilities are computed at a time.
PIECE: Final = 1024
FILE: Final = "losses.npz"
#: The losses of a row's trained tokens, in nats, ``[token]``.
Losses = list["NDArray[np.float32]"]


class ExcessLoss:
    """The losses of a fixed sample of every pool's rows, against those before the first step.

    The reference is the model that training starts from. Its losses are kept in the run's folder,
    for a run that goes on.

    Args:
        rows: What is trained on.
        seed: Picks the sample.
        places: Where the reference is kept.
        processes: The processes; each computes all of it, which sharded weights need, and the first
            one's figures count.
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
            found = rows.table.take(chosen).to_pylist()
            self._sample[pool.name] = [(row["input_ids"], row["labels"]) for row in found]

    def begin(self, model: Any) -> None:
        """Measure the reference, the model before its first step, and keep its losses."""
        found = self._measure(model)

        held: dict[str, Any] = {name: np.concatenate(rows) for name, rows in found.items()}

        def write() -> None:
            with writing(self._path) as beside, beside.open("wb") as stream:
                np.savez(stream, **held)

        self._processes.on_main_process(write)

    def add(self, measured: Measurement, model: Any) -> Measurement:
        """A measurement with every pool's excess loss, and its standard error by rows.

        Raises:
            TrainError: Where the reference's losses are gone, or those of other rows.
        """
        found, before = self._measure(model), self._processes.on_main_process(self._reference)
        pairs = {name: _excess(rows, before[name]) for name, rows in found.items()}
        told = self._processes.on_main_process(lambda: pairs)
        return replace(
            measured,
            excess={name: mean for name, (mean, _) in told.items()},
            excess_se={name: error for name, (_, error) in told.items()},
        )

    def _measure(self, model: Any) -> dict[str, Losses]:
        with _resting(model):
            return {
                name: [_losses(model, ids, labels) for ids, labels in rows]
                for name, rows in self._sample.items()
            }

    def _reference(self) -> dict[str, Losses]:
        trouble = f"{self._path} is missing or damaged: begin the training anew, in another folder."
        try:
            with np.load(self._path) as held:
                kept = {name: held[name] for name in held.files}
        except (OSError, ValueError, EOFError) as error:
            raise TrainError(trouble) from error
        found = {}
        for name, rows in self._sample.items():
            sizes = [sum(label != MASKED for label in labels[1:]) for _, labels in rows]
            ends = [0, *accumulate(sizes)]
            if name not in kept or len(kept[name]) != ends[-1]:
                raise TrainError(trouble)
            found[name] = [kept[name][a:b] for a, b in pairwise(ends)]
        return found


def _losses(model: Any, ids: list[int], labels: list[int]) -> NDArray[np.float32]:
    """The loss of each trained token of a row, in nats, ``[token]``."""
    import torch
    from torch.nn.functional import cross_entropy

    device = next(model.parameters()).device
    asked = torch.tensor([ids], device=device)
    logits = model(input_ids=asked, use_cache=False).logits[0, :-1]
    wanted = torch.tensor(labels[1:], device=device)
    places = (wanted != MASKED).nonzero()[:, 0]
    pieces = [
        cross_entropy(logits[piece].float(), wanted[piece], reduction="none")
        for piece in (places[start : start + PIECE] for start in range(0, len(places), PIECE))
    ]
    found: NDArray[np.float32] = torch.cat(pieces).cpu().numpy()
    return found


def _excess(found: Losses, before: Losses) -> tuple[float, float]:
    """The mean over tokens of max(loss - reference, 0), and its standard error by rows."""
    sums = np.array([np.maximum(a - b, 0).sum() for a, b in zip(found, before, strict=True)])
    sizes = np.array([len(row) for row in found])
    mean = float(sums.sum() / sizes.sum())
    if len(found) < 2:
        return mean, 0.0
    spread = ((sums - mean * sizes) ** 2).sum() * len(found) / (len(found) - 1)
    return mean, float(np.sqrt(spread) / sizes.sum())


@contextmanager
def _resting(model: Any) -> Iterator[None]:
    """A model without dropout and gradients, for as long as it is only looked at."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
