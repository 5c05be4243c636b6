"""The lab's network and its training loop: a tiny Qwen2, AdamW, one warm-up and one cosine."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from laconic.lab.tokenizer import END, PAD, TRAINED, WHOLE, WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor
    from transformers import Qwen2ForCausalLM

    from laconic.lab.corpus import Text

SPREAD: Final = 0.05
IGNORED: Final = -100
REPORT_EVERY: Final = 25


@dataclass(frozen=True)
class Schedule:
    """How a phase is trained.

    Attributes:
        rate: Peak learning rate.
        floor: Share of the peak rate left at the end of the cosine.
        decay: AdamW's weight decay.
        warmup: Steps of linear warm-up.
    """

    rate: float
    floor: float = 0.05
    decay: float = 0.01
    warmup: int = 100

    def at(self, step: int, steps: int) -> float:
        """The learning rate of a step (from 0) out of `steps`."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        turn = (step - self.warmup) / max(1, steps - self.warmup)
        return self.rate * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * turn)))


def network(seed: int | None = None) -> Qwen2ForCausalLM:
    """A lab network: 4 layers of width 128, 0.8 M parameters, tied embeddings, float32.

    Args:
        seed: Draws the start weights; None leaves them for the caller to fill.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=TRAINED,
        hidden_size=128,
        intermediate_size=336,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=WINDOW,
        initializer_range=SPREAD,
        tie_word_embeddings=True,
        use_cache=True,
        bos_token_id=None,
        eos_token_id=WHOLE[END],
        pad_token_id=WHOLE[PAD],
    )
    with torch.random.fork_rng(devices=[]):  # transformers draws from the global generator
        model = Qwen2ForCausalLM(config)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in sorted(model.named_parameters()):
                if parameter.ndim > 1:
                    parameter.normal_(0, SPREAD, generator=generator)
                else:
                    parameter.fill_(0 if name.endswith("bias") else 1)
    return model


@contextmanager
def using(threads: int) -> Iterator[None]:
    """Run with a number of torch threads, then restore the caller's."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def collate(batch: Sequence[Text]) -> tuple[Tensor, Tensor]:
    """Token ids and labels, [text, token], padded on the right; labels hold only learned tokens."""
    import torch

    shape = len(batch), max(len(text.ids) for text in batch)
    ids = torch.full(shape, WHOLE[PAD])
    labels = torch.full(shape, IGNORED)
    for row, text in enumerate(batch):
        tokens = torch.tensor(text.ids.tolist())
        learned = torch.tensor(text.learned.tolist(), dtype=torch.bool)
        ids[row, : len(tokens)] = tokens
        labels[row, : len(tokens)] = tokens.where(learned, IGNORED)
    return ids, labels


def fit(
    model: Qwen2ForCausalLM,
    batches: Sequence[Sequence[Text]],
    schedule: Schedule,
    *,
    label: str = "",
    progress: Callable[[int, int, str], None] | None = None,
) -> list[float]:
    """Train in place, one step per batch; returns the loss of every step.

    Equal inputs give equal weights for one kind of CPU, thread count and torch version: nothing
    here is random. Padding needs no attention mask: it stands after every token that counts.

    Args:
        model: Trained in place, float32.
        batches: One step each, in this order.
        schedule: Learning rates and weight decay.
        label: What `progress` is told is being trained.
        progress: Called with (steps done, steps in all, label) every 25 steps and at the end.
    """
    import torch
    from torch.nn.functional import cross_entropy

    parameters = [parameter for _, parameter in sorted(model.named_parameters())]
    optimizer = torch.optim.AdamW(
        parameters, lr=schedule.rate, betas=(0.9, 0.98), weight_decay=schedule.decay, fused=True
    )
    model.train()
    losses: list[float] = []
    for step, batch in enumerate(batches):
        ids, labels = collate(batch)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it without annotations
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = schedule.at(step, len(batches))
        optimizer.step()
        losses.append(loss.item())
        if progress and ((step + 1) % REPORT_EVERY == 0 or step + 1 == len(batches)):
            progress(step + 1, len(batches), label)
    model.train(mode=False)
    return losses
