"""Statistics of gradients, one sample at a time; each gradient is freed as soon as it is used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Literal

from laconic.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from laconic.calibration.model import Skeleton
    from laconic.calibration.samples import Item
    from laconic.calibration.work import WorkFolder
    from laconic.checkpoints.name_map import ParameterPiece
    from laconic.runtime import Progress

Labels = Literal["sampled", "data"]
#: The sums are saved when saving takes at most this share of the time since the last save.
SAVING: Final = 0.05
SUMS: Final = "sums-{}"


class Gradients:
    """Sums over samples of each tensor's gradients, by the tensor's name in the checkpoint.

    Args:
        skeleton: The model; its weights are read here and stay in memory.
        kind: ``sensitivity`` (sum of |parameter * gradient|, decoder layers only) or ``fisher``
            (squared gradient, every parameter).
        whole: Whether an entry per element is kept instead of one per tensor.
    """

    def __init__(
        self, skeleton: Skeleton, kind: Literal["sensitivity", "fisher"], *, whole: bool
    ) -> None:
        self._skeleton, self._kind, self._whole = skeleton, kind, whole
        self.sums: dict[str, Tensor] = {}
        self.sample = ""
        skeleton.load()
        depth = skeleton.checkpoint.layout.depth
        for name, parameter in skeleton.model.named_parameters():
            pieces = skeleton.pieces[name]
            if kind == "sensitivity" and depth.of(pieces[0].tensor) is None:
                continue
            for piece in pieces:
                self.sums[piece.tensor] = self._zeros(parameter[piece.place])
            parameter.requires_grad_(requires_grad=True)
            parameter.register_post_accumulate_grad_hook(self._hook(pieces))

    def results(self, samples: int) -> dict[str, Tensor]:
        """The statistics in float32."""
        over = 1 if self._kind == "sensitivity" else samples
        return {name: (total / over).float() for name, total in self.sums.items()}

    def _zeros(self, part: Tensor) -> Tensor:
        import torch

        shape = part.shape if self._whole else ()
        wide = torch.float32 if self._whole else torch.float64
        return torch.zeros(shape, dtype=wide, device=part.device)

    def _hook(self, pieces: Sequence[ParameterPiece]) -> Any:
        """A hook that adds a parameter's gradient to the sums and frees it."""
        import torch

        def use(parameter: Tensor) -> None:
            gradient = parameter.grad
            assert gradient is not None
            parameter.grad = None
            for piece in pieces:
                part = gradient[piece.place].float()
                if self._kind == "sensitivity":
                    term = (part * parameter.detach()[piece.place].float()).abs()
                else:
                    term = part.square()
                if not self._whole:
                    term = term.sum(dtype=torch.float64)
                    term = term / (1 if self._kind == "sensitivity" else part.numel())
                if not term.isfinite().all():
                    raise CalibrationError(
                        f"The gradient of '{piece.tensor}' of {self._skeleton.checkpoint.name} is "
                        f"not finite for {self.sample}. Remove the row, or compute in --dtype "
                        "float32."
                    )
                self.sums[piece.tensor] += term

        return use


def run_gradients(
    skeleton: Skeleton,
    items: Sequence[Item],
    work: WorkFolder,
    progress: Progress,
    *,
    kind: Literal["sensitivity", "fisher"],
    whole: bool,
    labels: Labels,
    seed: int,
) -> dict[str, Tensor]:
    """Run one backward pass for each sample; the sums are saved in the work folder now and then.

    Args:
        skeleton: The model.
        items: The samples, in order.
        work: The folder from which a stopped calibration continues.
        progress: Called before each sample.
        kind: As for `Gradients`.
        whole: As for `Gradients`.
        labels: The tokens whose log-likelihood is differentiated: ``data`` takes the data's next
            tokens, ``sampled`` draws a token from the model's own prediction at each place.
        seed: Draws the sampled labels, together with the sample's number.

    Returns:
        The statistics.

    Raises:
        CalibrationError: For a gradient that is not finite, naming tensor and sample.
    """
    gradients = Gradients(skeleton, kind, whole=whole)
    if work.done:
        kept, _ = work.load(SUMS.format(work.done))
        for name, total in kept.items():
            gradients.sums[name].copy_(total)
    spent, since = 0.0, time.monotonic()
    for number in range(work.done, len(items)):
        progress(number, len(items), items[number].where)
        gradients.sample = items[number].where
        _loss(skeleton, items[number], labels, (seed, number)).backward()  # type: ignore[no-untyped-call]
        now = time.monotonic()
        if spent <= SAVING * (now - since):
            _keep(work, gradients.sums, number + 1)
            spent, since = time.monotonic() - now, time.monotonic()
    progress(len(items), len(items), "done")
    return gradients.results(len(items))


def _keep(work: WorkFolder, sums: dict[str, Tensor], done: int) -> None:
    before = work.done
    work.save(SUMS.format(done), sums)
    work.finish(done)
    work.drop(SUMS.format(before))


def _loss(skeleton: Skeleton, item: Item, labels: Labels, key: tuple[int, int]) -> Tensor:
    """The mean negative log-likelihood of the answer's tokens, or of all if there is no answer.

    Only the logits of those places are computed, in float32.
    """
    import torch
    from torch.nn.functional import cross_entropy

    ids = torch.tensor([item.ids], device=skeleton.device)
    states = skeleton.decoder(input_ids=ids, use_cache=False).last_hidden_state[0]
    first = max(1, item.start if item.start < len(item.ids) else 1)
    logits = skeleton.head(states[first - 1 : -1]).float()
    wanted = ids[0, first:] if labels == "data" else _sampled(logits.detach(), key)
    return cross_entropy(logits, wanted)


def _sampled(logits: Tensor, key: tuple[int, int]) -> Tensor:
    """A token for each place, drawn from the model's own prediction, ``[place]``."""
    import numpy as np
    import torch

    sums = logits.softmax(dim=-1).cumsum(dim=-1)
    drawn = np.random.default_rng(key).random(len(sums), dtype=np.float32)
    draws = torch.from_numpy(drawn).to(sums.device)[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, draws, right=True)[:, 0].clamp(max=sums.shape[1] - 1)
