"""How the embedded engine decodes: random numbers for each row, and a cache that grows in place.

Imports torch and transformers: only what is about to run a model should import it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from laconic.runtime import using_threads as using_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from laconic.backends.contract.call import Call
    from laconic.runs.experiment import Sampling

#: Positions that a full cache grows by.
SPARE: Final = 64


class Draw:
    """Picks each row's next token by that row's own random number, as a logits processor.

    The token is where the cumulated probabilities pass the number: a function of the row's logits
    and its number alone, not of the batch or the global generator. All others get minus infinity.

    Args:
        temperature: Above 0.
        top_p: The probability mass kept, in (0, 1].
        numbers: Uniform in [0, 1), float64, [row, step].
        start: Tokens that stand before the first step.
    """

    def __init__(self, temperature: float, top_p: float, numbers: Tensor, start: int) -> None:
        self.temperature = temperature
        self.top_p = top_p
        self.numbers = numbers
        self.start = start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """New scores, [row, token], for the tokens so far, [row, position], and the model's."""
        chances = torch.softmax(scores.double() / self.temperature, dim=-1)
        if self.top_p < 1:
            ranked, order = chances.sort(dim=-1, descending=True, stable=True)
            beyond = ranked.cumsum(dim=-1) - ranked >= self.top_p
            chances = chances.scatter(-1, order, ranked.masked_fill(beyond, 0))
        reach = chances.cumsum(dim=-1)
        step = input_ids.shape[1] - self.start
        aim = self.numbers[:, step : step + 1].to(reach.device) * reach[:, -1:]
        token = torch.searchsorted(reach, aim, right=True).clamp(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(-1, token, 0.0)


class LogProbs:
    """Keeps the log-probability of each chosen token, as the first of the logits processors.

    It is the model's own: at temperature 1 and without top-p, however the token was drawn.

    Args:
        rows: The rows that are wanted.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        self.rows = rows
        self._chosen: list[Tensor] = []
        self._step: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores as they are; arguments as in `Draw`."""
        self._take(input_ids)
        self._step = torch.log_softmax(scores[list(self.rows)].float(), dim=-1)
        return scores

    def read(self, sequences: Tensor) -> dict[int, list[float]]:
        """The log-probabilities by row, when generation has ended with these tokens."""
        self._take(sequences)
        return dict(zip(self.rows, torch.stack(self._chosen, dim=1).tolist(), strict=True))

    def _take(self, sequences: Tensor) -> None:
        """Look up the last token of each row."""
        if self._step is not None:
            tokens = sequences[list(self.rows), -1:].to(self._step.device)
            self._chosen.append(self._step.gather(1, tokens)[:, 0])
        self._step = None


def draws(call: Call, sampling: Sampling) -> np.random.Generator:
    """The random numbers of one completion: a function of the seed, the problem and the repeat.

    There is one number a token. Those of the tokens that the call begins with are passed over, so
    that a completion broken off and continued is the completion as it would have gone on.
    """
    key = json.dumps([sampling.seed, *call.key]).encode()
    numbers = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:16], "big"))
    numbers.random(len(call.prefix_ids))
    return numbers


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # __init_subclass__ has no types
    """One layer's keys and values, [row, head, position, feature], as views of larger buffers.

    A token is written into the room behind them; transformers' own layer copies the whole cache
    for every token, which at small widths costs more than the model.
    """

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append the new positions and return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[..., :0, :], value_states[..., :0, :]
            self._rooms: list[Tensor] = [self.keys, self.values]
        assert self.keys is not None
        assert self.values is not None
        self.keys = self._extend(0, self.keys, key_states)
        self.values = self._extend(1, self.values, value_states)
        return self.keys, self.values

    def _extend(self, which: int, stored: Tensor, new: Tensor) -> Tensor:
        start, end = stored.shape[-2], stored.shape[-2] + new.shape[-2]
        room = self._rooms[which]
        if room.shape[-2] < end or room.data_ptr() != stored.data_ptr():  # full, or rows have left
            room = new.new_empty(*new.shape[:-2], end + SPARE, new.shape[-1])
            room[..., :start, :] = stored
            self._rooms[which] = room
        room[..., start:end, :] = new
        return room[..., :end, :]


def roomy_cache(config: Any) -> DynamicCache:
    """The cache of a model, its full-attention layers extended in place."""
    cache = DynamicCache(config=config)
    cache.layers = [
        RoomyLayer() if type(layer) is DynamicLayer else layer  # type: ignore[no-untyped-call]  # nor has __init__
        for layer in cache.layers
    ]
    return cache
