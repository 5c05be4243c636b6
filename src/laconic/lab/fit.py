"""The lab's network and its training loop: a tiny Qwen2, AdamW, one warm-up and one cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from laconic.lab.tokenizer import END, PAD, TRAINED, WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from transformers import Qwen2ForCausalLM

    from laconic.lab.corpus import TrainingText
    from laconic.lab.sizes import Size

SPREAD: Final = 0.05
IGNORED: Final = -100
REPORT_EVERY: Final = 25
#: Texts of one batch where nothing is trained.
ASKED: Final = 16


@dataclass(frozen=True)
class LearningRateSchedule:
    """How a phase is trained.

    Attributes:
        rate: The peak learning rate.
        floor: The learning rate at the end of the cosine, as a fraction of the peak rate.
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


def network(size: Size, seed: int | None = None) -> Qwen2ForCausalLM:
    """A lab network: Qwen2 in small, tied embeddings, float32.

    Args:
        size: Its dimensions.
        seed: Draws the start weights; None leaves them for the caller to fill.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=TRAINED,
        hidden_size=size.hidden,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.window,
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


def collate(batch: Sequence[TrainingText]) -> tuple[Tensor, Tensor]:
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
    batches: Sequence[Sequence[TrainingText]],
    schedule: LearningRateSchedule,
    *,
    label: str = "",
    progress: Callable[[int, int, str], None] | None = None,
) -> list[float]:
    """Train in place, one step per batch; returns the loss of every step.

    Equal inputs give equal weights for one kind of CPU, thread count and torch version: nothing
    here is random. Padding needs no attention mask: it stands after every token that counts. On a
    GPU the products are taken in bfloat16.

    Args:
        model: Trained in place, on its own device, float32.
        batches: One step each, in this order.
        schedule: Learning rates and weight decay.
        label: The name of the phase, for `progress`.
        progress: Called with (steps done, steps in all, label) every 25 steps and at the end.
    """
    import torch
    from torch.nn.functional import cross_entropy

    device = model.device
    parameters = [parameter for _, parameter in sorted(model.named_parameters())]
    optimizer = torch.optim.AdamW(
        parameters, lr=schedule.rate, betas=(0.9, 0.98), weight_decay=schedule.decay, fused=True
    )
    model.train()
    losses: list[float] = []
    for step, batch in enumerate(batches):
        ids, labels = collate(batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(input_ids=ids.to(device), use_cache=False).logits[:, :-1]
        wanted = labels[:, 1:].flatten().to(device)
        loss = cross_entropy(logits.flatten(0, 1).float(), wanted, ignore_index=IGNORED)
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


def misread(model: Qwen2ForCausalLM, texts: Sequence[TrainingText]) -> float:
    """The share of texts in which the model predicts at least one learned token wrongly.

    Args:
        model: The model; it predicts each token from the true text before it.
        texts: Texts that the model was not trained on.
    """
    import torch

    wrong = 0
    with torch.no_grad():
        for start in range(0, len(texts), ASKED):
            ids, labels = collate(texts[start : start + ASKED])
            said = model(input_ids=ids.to(model.device), use_cache=False).logits[:, :-1].argmax(-1)
            wanted = labels[:, 1:]
            wrong += int(((said.cpu() != wanted) & (wanted != IGNORED)).any(1).sum())
    return wrong / len(texts)
