"""Transformers as the engine: one model in this process, on a CPU or one GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from annotated_types import Ge

from laconic.backends.contract.backend import Backend, backend, refuse_overflow
from laconic.backends.contract.transcript import Transcript, end_tokens
from laconic.checkpoints.chat_template import encode_prompt, explained, render, template_digest
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.tokenizer import load_tokenizer
from laconic.errors import BackendError
from laconic.runtime import versions

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from laconic.backends.contract.call import Call
    from laconic.backends.contract.decoding import Draw
    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Generation, Sample

#: Tokens after which finished rows leave a batch.
CHUNK: Final = 16
#: No stop text has more tokens than this.
STOP_TOKENS: Final = 16
#: A model with fewer parameters than this gains nothing from a second thread.
SMALL: Final = 50_000_000
Finished = list[tuple["Call", "Generation"]]


@backend(can={"continue", "stop", "logprobs"})
def transformers(
    model: str,
    *,
    device: Literal["auto", "cpu", "cuda", "spread"] = "auto",
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    batch: Annotated[int, Ge(1)] = 128,
    threads: Annotated[int, Ge(0)] = 0,
) -> Backend:
    """The transformers library in this process, on a CPU, one GPU or several.

    A completion's length counts every generated token, the one that ends the turn included, as
    vLLM's usage does. ``</think>`` is counted by its token id; where the vocabulary has no such
    token, the text up to it is encoded and counted. A problem goes through the chat template; a
    tokenizer without one is given its plain text. Only safetensors are read, no code is run.

    Args:
        device: auto takes a GPU where there is one; spread divides the layers over all GPUs, for a
            model that is too large for one (by accelerate).
        dtype: auto is float32 on a CPU and the checkpoint's own type on a GPU.
        batch: Completions at a time; halved, and halved again, where a GPU's memory is too small.
        threads: CPU threads; 0 is one for a small model and torch's own number for a large one.

    Raises:
        BackendError: If the model cannot be loaded or the device is not there.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise BackendError("transformers: there is no CUDA device here. Give device=cpu or auto.")
    if device == "spread" and find_spec("accelerate") is None:
        raise BackendError("transformers: device=spread needs accelerate: pip install accelerate.")
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    on_cpu = place == "cpu" or not torch.cuda.is_available()
    kind = "float32" if dtype == "auto" and on_cpu else dtype
    checkpoint = open_checkpoint(model)
    checkpoint.fetch()
    tokenizer = load_tokenizer(checkpoint)
    loaded = _load_model(checkpoint, kind, place)
    return _TransformersEngine(
        loaded, tokenizer, checkpoint.name, checkpoint.fingerprint, batch, threads
    )


@dataclass
class _UnfinishedCompletion:
    """One row of a batch.

    Attributes:
        call: What is completed.
        budget: The most tokens it may have.
        draws: Where its random numbers come from; None if decoding is greedy.
        ids: The token ids generated so far.
        logprobs: The log-probability of each of them, if the call asks for it.
        stopped: Whether one of the call's stop texts ended it.
    """

    call: Call
    budget: int
    draws: np.random.Generator | None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False


class _TransformersEngine:
    """A loaded model with its tokenizer."""

    def __init__(
        self, model: Any, tokenizer: Any, name: str, fingerprint: str, batch: int, threads: int
    ) -> None:
        import torch

        self._name = name
        self._batch = batch
        self._tokenizer = tokenizer
        self._model = model
        self._ends = end_tokens(self._model.generation_config, self._tokenizer)
        self._pad = _pad_token(self._tokenizer, self._ends)
        self._prompts: dict[tuple[str, str, bool], tuple[str, list[int]]] = {}
        self._quiet_generation()
        self._transcript = Transcript(self._tokenizer, self._ends)
        small = self._model.num_parameters() < SMALL
        self._threads = threads or (1 if small else torch.get_num_threads())
        self.fingerprint = fingerprint
        self.dtype = str(self._model.dtype).removeprefix("torch.")
        self.device = _device(self._model)
        self.template = template_digest(self._tokenizer)
        self.window = _window(self._model.config)
        self.versions = versions("torch", "transformers")

    def render(self, sample: Sample) -> str:
        return render(self._tokenizer, sample, self._name)

    def prompt_length(self, sample: Sample) -> int:
        return len(self._prompt(sample)[1])

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without special tokens around it."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def generate(self, calls: Sequence[Call], sampling: Sampling) -> Iterator[Finished]:
        import torch

        from laconic.backends.contract.decoding import draws

        budget = sampling.max_tokens
        if budget is None:
            raise BackendError("transformers: sampling.max_tokens must be a number here.")
        refuse_overflow(self, calls, budget)
        longest_first = sorted(calls, key=lambda call: len(self._prompt_ids(call)), reverse=True)
        waiting = {call.key: call for call in longest_first}
        size = self._batch
        while waiting:
            rows = [
                _UnfinishedCompletion(
                    call,
                    call.budget(budget),
                    draws(call, sampling) if sampling.temperature else None,
                )
                for call in islice(waiting.values(), size)
            ]
            exhausted = False
            try:
                for finished in self._complete(rows, sampling):
                    for call, _ in finished:
                        del waiting[call.key]
                    yield finished
            except torch.OutOfMemoryError:
                exhausted = True
            if exhausted:  # outside the handler, which would keep the batch's tensors alive
                size = self._halve(min(size, len(rows)))

    def weights(self) -> dict[str, Tensor]:
        """Views of the model's parameters by their checkpoint names, each flat."""
        state = self._model.state_dict().items()
        return {name: tensor.detach().view(-1) for name, tensor in state if tensor.is_contiguous()}

    def close(self) -> None:
        import torch

        on_gpu = self._model is not None and self._model.device.type == "cuda"
        self._model = None
        self._prompts.clear()
        if on_gpu:
            torch.cuda.empty_cache()

    def _quiet_generation(self) -> None:
        """Replace the sampling settings of the checkpoint, which the library would apply."""
        from transformers import GenerationConfig

        settings = {
            "do_sample": False,
            "eos_token_id": sorted(self._ends) or None,
            "pad_token_id": self._pad,
            "return_dict_in_generate": True,
            "use_cache": True,
        }
        self._model.generation_config = GenerationConfig.from_dict(settings)

    def _halve(self, size: int) -> int:
        import torch

        torch.cuda.empty_cache()
        if size == 1:
            raise BackendError(
                f"{self._name}: the GPU's memory is too small for one completion. Give a smaller "
                "--max-tokens, dtype=bfloat16, or device=cpu."
            )
        return size // 2

    def _prompt(self, sample: Sample) -> tuple[str, list[int]]:
        """The prompt of a sample, as text and as token ids; kept because its repeats share it."""
        words = sample.problem, sample.prefill, sample.raw
        if words not in self._prompts:
            text = self.render(sample)
            ids = encode_prompt(self._tokenizer, text, raw=sample.raw)
            self._prompts[words] = text, ids
        return self._prompts[words]

    def _prompt_ids(self, call: Call) -> list[int]:
        """The tokens that the model is given for a call."""
        ids = self._prompt(call.sample)[1]
        return [*ids, *call.prefix_ids] if call.prefix_ids else ids

    def _complete(
        self, rows: list[_UnfinishedCompletion], sampling: Sampling
    ) -> Iterator[Finished]:
        """Complete one batch; rows are yielded and leave the batch as they finish."""
        import torch

        from laconic.backends.contract.decoding import LogProbs, roomy_cache, using_threads

        ids, mask = self._collate([self._prompt_ids(row.call) for row in rows])
        cache = roomy_cache(self._model.config)
        can_shrink = all(hasattr(layer, "batch_select_indices") for layer in cache.layers)
        steps_done = 0
        while rows:
            steps_left = max(row.budget for row in rows) - steps_done
            steps = min(CHUNK, steps_left) if can_shrink else steps_left
            logprobs = LogProbs([i for i, row in enumerate(rows) if row.call.logprobs])
            drawing = _drawing(rows, sampling, ids.shape[1], steps)
            with using_threads(self._threads), torch.inference_mode():
                sequences = self._model.generate(
                    input_ids=ids,
                    attention_mask=mask,
                    past_key_values=cache,
                    max_new_tokens=steps,
                    logits_processor=[*([logprobs] if logprobs.rows else ()), *drawing],
                ).sequences
            steps_done += steps
            new = sequences[:, ids.shape[1] :]
            if logprobs.rows:
                for i, values in logprobs.read(sequences).items():
                    rows[i].logprobs += values
            for row, tokens in zip(rows, new.tolist(), strict=True):
                row.ids += self._cut(tokens)[: row.budget - len(row.ids)]
                self._stop(row, steps)
            going = [i for i, row in enumerate(rows) if not self._over(row)]
            if over := [row for row in rows if self._over(row)]:
                yield [(row.call, self._generation(row)) for row in over]
            if not going:
                return
            ids, mask = sequences, torch.cat([mask, mask.new_ones(new.shape)], dim=1)
            if over:
                kept = torch.tensor(going, device=ids.device)
                cache.batch_select_indices(kept)
                ids, mask, rows = ids[kept], mask[kept], [rows[i] for i in going]

    def _collate(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask, [row, token], padded on the left."""
        import torch

        shape = len(prompts), max(map(len, prompts))
        ids = torch.full(shape, self._pad)
        mask = torch.zeros(shape, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, shape[1] - len(prompt) :] = torch.tensor(prompt)
            mask[row, shape[1] - len(prompt) :] = 1
        return ids.to(self._model.device), mask.to(self._model.device)

    def _cut(self, tokens: list[int]) -> list[int]:
        """Tokens up to and including the first that ends the turn."""
        for place, token in enumerate(tokens):
            if token in self._ends:
                return tokens[: place + 1]
        return tokens

    def _stop(self, row: _UnfinishedCompletion, new: int) -> None:
        """Cut a row behind the token that completes one of its stop texts, if one of `new` did."""
        stops = row.call.stops
        if not stops:
            return

        start = max(0, len(row.ids) - new - STOP_TOKENS)

        def stops_at(end: int) -> bool:
            text = self._tokenizer.decode(row.ids[start:end], skip_special_tokens=False)
            return any(stop in text for stop in stops)

        if stops_at(len(row.ids)):
            end = next(n for n in range(start + 1, len(row.ids) + 1) if stops_at(n))
            row.ids, row.stopped = row.ids[:end], True

    def _ended(self, row: _UnfinishedCompletion) -> bool:
        """Whether the model ended its turn, or a stop text did."""
        return row.stopped or row.ids[-1] in self._ends

    def _over(self, row: _UnfinishedCompletion) -> bool:
        return len(row.ids) >= row.budget or self._ended(row)

    def _generation(self, row: _UnfinishedCompletion) -> Generation:
        completion = self._transcript.read(
            row.ids,
            prompt=self._prompt(row.call.sample)[0],
            prefill=row.call.sample.prefill,
            stops=row.call.stops,
            prefix_ids=row.call.prefix_ids,
            finish="stop" if self._ended(row) else "length",
        )
        return replace(completion, logprobs=tuple(row.logprobs[: len(row.ids)]))


def _drawing(
    rows: Sequence[_UnfinishedCompletion], sampling: Sampling, start: int, steps: int
) -> list[Draw]:
    """The processor that draws the next `steps` tokens of the rows; none if decoding is greedy."""
    import numpy as np
    import torch

    from laconic.backends.contract.decoding import Draw

    drawn = [row.draws.random(steps) for row in rows if row.draws is not None]
    if not drawn:
        return []
    numbers = torch.from_numpy(np.stack(drawn))
    return [Draw(sampling.temperature, sampling.top_p, numbers, start)]


def _load_model(checkpoint: Checkpoint, dtype: str, device: str) -> Any:
    """Load the model in evaluation mode; a checkpoint that lacks a parameter is refused."""
    from transformers import AutoModelForCausalLM

    with explained(checkpoint, "model"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, with the names
            device_map="auto" if device == "spread" else None,
        )
        model, report = loaded
        model.eval()
        if device != "spread":
            model.to(device)
    differing = [str(wrong[0]) for wrong in report["mismatched_keys"]]
    for what, names in {"lacks": report["missing_keys"], "has another shape of": differing}.items():
        if names:
            raise BackendError(
                f"{checkpoint.name} {what} {len(names)} tensors that its config.json asks for, "
                f"'{min(names)}' first. Its weights and its config are of different models."
            )
    return model


def _device(model: Any) -> str:
    """The name of the device, as run.json states it."""
    import torch

    places = {parameter.device for parameter in model.parameters()}
    if all(place.type != "cuda" for place in places):
        return "cpu"
    name = torch.cuda.get_device_name()
    return name if len(places) == 1 else f"{len(places)} x {name}"


def _pad_token(tokenizer: Any, ends: set[int]) -> int:
    if tokenizer.pad_token_id is not None:
        return int(tokenizer.pad_token_id)
    return min(ends, default=0)


def _window(config: Any) -> int | None:
    """The positions that the config allows, or the larger number that its rope scaling allows."""
    text = config.get_text_config(decoder=True)
    window = getattr(text, "max_position_embeddings", None)
    if window is None:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    stretched = rope.get("factor", 0) * rope.get("original_max_position_embeddings", 0)
    return max(int(window), int(stretched or 0))
