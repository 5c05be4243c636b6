"""vLLM as the engine: one model in this process's GPUs, or spread over several machines' by Ray."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

from annotated_types import Ge, Gt, Le

from laconic.backends.client.protocol import SEEDS, seed_of
from laconic.backends.contract.backend import Backend, backend, refuse_overflow
from laconic.backends.contract.transcript import Transcript, end_tokens
from laconic.checkpoints.chat_template import encode_prompt, explained, render, template_digest
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.tokenizer import load_tokenizer
from laconic.errors import BackendError
from laconic.files.text import read_text
from laconic.runtime import versions

if TYPE_CHECKING:
    from laconic.backends.contract.call import Call
    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Finish, Generation, Sample

#: Finished completions that are handed over together.
BATCH: Final = 16
#: What laconic sets itself; `extra` must leave these alone.
OWN: Final = frozenset(
    {"model", "tokenizer", "dtype", "seed", "max_model_len", "trust_remote_code", "load_format"}
)
#: The first version whose documentation has workers reload weights from a folder by its path.
RELOADS: Final = (0, 18)
Finished = list[tuple["Call", "Generation"]]


@backend(can={"continue", "stop"})
def vllm(
    model: str,
    *,
    tensor: Annotated[int, Ge(1)] = 1,
    pipeline: Annotated[int, Ge(1)] = 1,
    data: Annotated[int, Ge(1)] = 1,
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    window: Annotated[int, Ge(0)] = 0,
    memory: Annotated[float, Gt(0), Le(1)] = 0.9,
    extra: dict[str, Any] | None = None,
) -> Backend:
    """The vLLM library in this process: ``pip install 'laconic[vllm]'``, and a GPU.

    It is given every sample at once and hands completions over as they finish. Prompts are the
    tokens that the checkpoint's own template and tokenizer make, lengths are those of the token ids
    that come back, each completion has a seed of its own. Only safetensors are read, no code of a
    checkpoint is run. Sampled completions do not repeat from one batching, GPU or version to
    another: vLLM promises no more. A search gives it the next candidate's weights without a new
    start, where vLLM is 0.18 or later.

    Args:
        tensor: GPUs that each layer is divided over.
        pipeline: Groups of GPUs that the layers are divided over; several machines take
            extra={"distributed_executor_backend": "ray"}.
        data: Copies of the model. Where vLLM refuses them in one process, serve it and give the
            backend openai several URLs.
        dtype: auto is the checkpoint's own type.
        window: Tokens of prompt and completion to make room for; 0 is the model's whole window.
        memory: The fraction of each GPU's memory that vLLM may take.
        extra: More of vLLM's engine arguments, as a JSON object.

    Raises:
        BackendError: If vLLM is not installed, or cannot load the model.
    """
    if taken := sorted(OWN & (extra or {}).keys()):
        raise BackendError(f"vllm: extra must not hold '{taken[0]}': laconic sets it.")
    options = {
        "tensor_parallel_size": tensor,
        "pipeline_parallel_size": pipeline,
        "gpu_memory_utilization": memory,
        "dtype": dtype,
        "trust_remote_code": False,
        "load_format": "safetensors",
        "seed": 0,
        **({"data_parallel_size": data} if data > 1 else {}),
        **({"max_model_len": window} if window else {}),
        **(extra or {}),
    }
    library = _library()
    checkpoint = open_checkpoint(model)
    checkpoint.fetch()
    return _VllmEngine(library, checkpoint, options)


class _VllmEngine:
    """A loaded model; owns its GPUs' memory.

    Args:
        library: The module ``vllm``.
        checkpoint: The model.
        options: vLLM's engine arguments.
    """

    def __init__(self, library: Any, checkpoint: Checkpoint, options: dict[str, Any]) -> None:
        from transformers import GenerationConfig

        self._library = library
        self._name = checkpoint.name
        self._shape = _shape(checkpoint)
        self._tokenizer = load_tokenizer(checkpoint)
        folder = checkpoint.folder
        there = (folder / "generation_config.json").exists()
        with explained(checkpoint, "generation config"):
            config: Any = GenerationConfig.from_pretrained(folder) if there else None
        self._ends = end_tokens(config, self._tokenizer)
        self._transcript = Transcript(self._tokenizer, self._ends)
        self._prompts: dict[tuple[str, str, bool], tuple[str, list[int]]] = {}
        self._numbers = count()
        try:
            self._engine: Any = library.LLM(model=str(folder), **options).llm_engine
        except Exception as error:  # vLLM, its workers and CUDA raise anything at all
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise BackendError(f"{checkpoint.name}: vLLM cannot load it ({reason}).") from error
        loaded_config = self._engine.model_config
        self.fingerprint = checkpoint.fingerprint
        self.dtype = str(loaded_config.dtype).removeprefix("torch.")
        self.device = _device(options)
        self.template = template_digest(self._tokenizer)
        self.window: int | None = loaded_config.max_model_len
        self.versions = versions("vllm", "torch", "transformers")

    def render(self, sample: Sample) -> str:
        return self._prompt(sample)[0]

    def prompt_length(self, sample: Sample) -> int:
        return len(self._prompt(sample)[1])

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without special tokens around it."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def generate(self, calls: Sequence[Call], sampling: Sampling) -> Iterator[Finished]:
        refuse_overflow(self, calls, sampling.max_tokens or 0)
        waiting: dict[str, Call] = {}
        for call in calls:
            name = str(next(self._numbers))
            waiting[name] = call
            prompt = {"prompt_token_ids": [*self._prompt(call.sample)[1], *call.prefix_ids]}
            options = sampling_options(call, sampling, self._ends)
            params = self._library.SamplingParams(**options)
            params.output_kind = type(params.output_kind).FINAL_ONLY
            self._engine.add_request(name, prompt, params)
        finished: Finished = []
        while waiting:
            for output in self._engine.step():
                if output.finished and output.request_id in waiting:
                    call = waiting.pop(output.request_id)
                    finished.append((call, self._generation(call, output.outputs[0])))
            if len(finished) >= BATCH or (finished and not waiting):
                yield finished
                finished = []

    def renew(self, checkpoint: Checkpoint) -> None:
        """Have vLLM's workers load the weights of another folder, and empty the prefix cache.

        Raises:
            BackendError: For another model than a sibling, for a vLLM that cannot, and where it
                fails.
        """
        if _shape(checkpoint) != self._shape:
            raise BackendError(
                f"{checkpoint.name}: its config or its tensors are not those of {self._name}; vLLM "
                "must be started anew for it."
            )
        version = str(self._library.__version__)
        if _numbers(version) < RELOADS or not hasattr(self._engine, "collective_rpc"):
            wanted = ".".join(map(str, RELOADS))
            raise BackendError(f"vLLM {version} takes no new weights; {wanted} and later do.")
        where = {"weights_path": str(checkpoint.folder)}
        try:
            self._engine.collective_rpc("reload_weights", kwargs=where)
            forgotten = self._engine.reset_prefix_cache()
        except Exception as error:  # as at the start
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise BackendError(
                f"{checkpoint.name}: vLLM cannot take its weights ({reason})."
            ) from error
        if forgotten is False:
            raise BackendError(
                f"{checkpoint.name}: vLLM kept prefixes of the weights before: a completion is "
                "under way."
            )
        self._name, self.fingerprint = checkpoint.name, checkpoint.fingerprint

    def close(self) -> None:
        import gc

        self._engine = None
        self._prompts.clear()
        gc.collect()  # vLLM ends its workers when its engine is forgotten

    def _prompt(self, sample: Sample) -> tuple[str, list[int]]:
        """The prompt of a sample, as text and as token ids; kept because its repeats share it."""
        words = sample.problem, sample.prefill, sample.raw
        if words not in self._prompts:
            text = render(self._tokenizer, sample, self._name)
            self._prompts[words] = text, encode_prompt(self._tokenizer, text, raw=sample.raw)
        return self._prompts[words]

    def _generation(self, call: Call, output: Any) -> Generation:
        if output.finish_reason not in {"stop", "length"}:
            sample = call.sample
            raise BackendError(
                f"vllm: {sample.task}, problem '{sample.id}' ended with '{output.finish_reason}', "
                "which is no end of a completion. The same command goes on from there."
            )
        return self._transcript.read(
            list(output.token_ids),
            prompt=self._prompt(call.sample)[0],
            prefill=call.sample.prefill,
            stops=call.stops,
            prefix_ids=call.prefix_ids,
            finish=cast("Finish", output.finish_reason),
        )


def sampling_options(call: Call, sampling: Sampling, ends: set[int]) -> dict[str, Any]:
    """Sampling parameters of vLLM for one completion; the checkpoint's own do not apply.

    Args:
        call: What is completed. The sample's id and repeat pick the seed, and how many tokens
            the call begins with: a continuation must not draw the numbers of its beginning again.
        sampling: How; its `max_tokens` is a number.
        ends: The token ids that end a turn.

    Raises:
        BackendError: For a budget that is no number.
    """
    if sampling.max_tokens is None:
        raise BackendError("vllm: sampling.max_tokens must be a number here.")
    options: dict[str, Any] = {
        "max_tokens": call.budget(sampling.max_tokens),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop_token_ids": sorted(ends),
        "detokenize": bool(call.stops),
        **({"stop": list(call.stops)} if call.stops else {}),
    }
    if sampling.temperature:
        options["seed"] = (seed_of(call.sample, sampling) + len(call.prefix_ids)) % SEEDS
    return options


def _shape(checkpoint: Checkpoint) -> tuple[Any, ...]:
    """What two checkpoints must share so that one engine can serve both."""
    tensors = {name: spec.shape for name, spec in checkpoint.specs.items()}
    written = checkpoint.folder / "generation_config.json"
    generation = read_text(written, BackendError) if written.exists() else ""
    return checkpoint.config, tensors, template_digest(load_tokenizer(checkpoint)), generation


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version; (0, 0) if the text is no version."""
    matched = re.match(r"(\d+)\.(\d+)", version)
    return (int(matched[1]), int(matched[2])) if matched else (0, 0)


def _library() -> Any:
    """The module ``vllm``.

    Raises:
        BackendError: If it is not installed, or cannot be loaded here.
    """
    try:
        import vllm as library
    except ImportError as error:
        raise BackendError(
            f"vllm: it cannot be imported ({error}). Install it where there is a GPU: pip install "
            "'laconic[vllm]'; or ask a running server: --backend openai:url=http://HOST:PORT/v1."
        ) from None
    return library


def _device(options: dict[str, Any]) -> str:
    """The number and name of the GPUs, as run.json states them."""
    import torch

    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    number = 1
    for size in sizes:
        number *= int(options.get(size, 1))
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "vLLM's device"
    return name if number == 1 else f"{number} x {name}"
