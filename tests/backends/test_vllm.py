"""The vLLM backend: what it asks of vLLM and makes of its answers; the library itself on a GPU."""

from __future__ import annotations

import importlib.util
from contextlib import closing
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from laconic.backends.contract.call import Call
from laconic.backends.transformers import transformers
from laconic.backends.vllm import _VllmEngine, sampling_options, vllm
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.data.pools import file_digest
from laconic.errors import BackendError
from laconic.merging.merge import execute
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from laconic.runs.experiment import Sampling
from laconic.searching.resident import ModelSlot
from laconic.tasks.contract.task import load_task

if TYPE_CHECKING:
    from laconic.merging.plan import Plan
    from laconic.runs.run import Generation, Key

MODEL = "lab:system1"
SAMPLES = load_task("lab", limit=40).samples
CALLS = list(map(Call, SAMPLES))
INSTALLED = importlib.util.find_spec("vllm") is not None
GPU = INSTALLED and torch.cuda.is_available()


class Kind(Enum):
    CUMULATIVE = 0
    FINAL_ONLY = 2


@dataclass
class Params:
    """The fields of vLLM's class that are used."""

    max_tokens: int
    temperature: float
    top_p: float
    stop_token_ids: list[int]
    detokenize: bool
    seed: int | None = None
    output_kind: Kind = Kind.CUMULATIVE


@dataclass
class StandIn:
    """An engine of vLLM's documented interface that answers from a list, the last request first."""

    texts: list[tuple[list[int], str]]
    asked: list[tuple[str, dict[str, list[int]], Params]] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    model_config: Any = field(
        default_factory=lambda: SimpleNamespace(dtype="torch.bfloat16", max_model_len=1024)
    )
    read: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    version: str = "0.18.0"
    forgets: bool = True
    SamplingParams = Params

    @property
    def __version__(self) -> str:
        return self.version

    def collective_rpc(self, method: str, *, kwargs: dict[str, str]) -> list[None]:
        """Note what is read: method, and the digest of every file of weights."""
        folder = Path(kwargs["weights_path"])
        digests = {file.name: file_digest(file) for file in folder.glob("*.safetensors")}
        self.read.append((method, digests))
        return [None]

    def reset_prefix_cache(self) -> bool:
        return self.forgets

    def LLM(self, **options: Any) -> Any:  # vLLM's name
        self.options = options
        return SimpleNamespace(llm_engine=self)

    def add_request(self, name: str, prompt: dict[str, list[int]], params: Params) -> None:
        self.asked.append((name, prompt, params))
        self.waiting.append(name)

    def step(self) -> list[Any]:
        name = self.waiting.pop()
        ids, reason = self.texts.pop()
        made = SimpleNamespace(token_ids=tuple(ids), finish_reason=reason)
        other = SimpleNamespace(finished=True, request_id="of somebody else", outputs=[])
        going = SimpleNamespace(finished=False, request_id=name, outputs=[])
        return [other, going, SimpleNamespace(finished=True, request_id=name, outputs=[made])]


def stand_in(*texts: tuple[str, str]) -> tuple[StandIn, _VllmEngine]:
    """A stand-in with its answers, and the backend on it."""
    from transformers import PreTrainedTokenizerFast

    checkpoint = open_checkpoint(MODEL)
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(checkpoint.folder)
    answers = [(tokenizer.encode(text), reason) for text, reason in texts]
    library = StandIn(answers)
    return library, _VllmEngine(library, checkpoint, {"tensor_parallel_size": 4})


def test_each_completion_is_asked_with_its_own_seed_and_prompt() -> None:
    library, engine = stand_in(*[("a=1", "stop")] * 3)
    warm = Sampling(max_tokens=40, temperature=0.6, top_p=0.9, repeats=2, seed=7)
    asked = [SAMPLES[0], replace(SAMPLES[0], repeat=1), SAMPLES[1]]
    made = [pair for batch in engine.generate(list(map(Call, asked)), warm) for pair in batch]
    assert {sample.key for sample, _ in made} == {sample.key for sample in asked}
    names, prompts, params = zip(*library.asked, strict=True)
    assert len(set(names)) == 3
    assert prompts[0] == prompts[1] != prompts[2]
    assert len({p.seed for p in params}) == 3
    assert {(p.max_tokens, p.temperature, p.top_p) for p in params} == {(40, 0.6, 0.9)}
    assert {p.output_kind for p in params} == {Kind.FINAL_ONLY}
    with closing(transformers(MODEL)) as embedded:
        assert engine.render(SAMPLES[0]) == embedded.render(SAMPLES[0])
        assert engine.template == embedded.template
        assert len(prompts[0]["prompt_token_ids"]) == embedded.prompt_length(SAMPLES[0])


def test_lengths_and_thoughts_are_counted_from_the_token_ids() -> None:
    _, engine = stand_in(
        ("a=1<|im_end|>", "stop"), ("a=1</think>b=2<|im_end|>", "stop"), ("a=1", "length")
    )
    batches = list(engine.generate(CALLS[:3], Sampling(max_tokens=40)))
    made: dict[Key, Generation] = {s.key: g for batch in batches for s, g in batch}
    plain, thought, cut = (made[sample.key] for sample in SAMPLES[:3])
    assert (plain.text, plain.length, plain.finish) == ("a=1", 4, "stop")
    assert (thought.length, thought.thinking_length, thought.thinks) == (8, 4, True)
    assert (cut.length, cut.finish) == (3, "length")


def test_results_are_handed_over_as_they_finish() -> None:
    _, engine = stand_in(*[("a=1", "stop")] * 40)
    sizes = [len(batch) for batch in engine.generate(CALLS, Sampling(max_tokens=40))]
    assert sizes == [16, 16, 8]


def test_an_end_that_is_none_is_an_error() -> None:
    _, engine = stand_in(("a=1", "abort"))
    with pytest.raises(BackendError, match="ended with 'abort'"):
        list(engine.generate(CALLS[:1], Sampling(max_tokens=40)))


def test_a_budget_beyond_the_window_is_refused_before_anything_is_asked() -> None:
    library, engine = stand_in()
    with pytest.raises(BackendError, match="window holds 1024"):
        list(engine.generate(CALLS[:1], Sampling(max_tokens=1024)))
    assert library.asked == []


def test_the_engine_is_told_the_folder_and_what_the_user_chose() -> None:
    library, engine = stand_in()
    assert library.options == {
        "model": str(open_checkpoint(MODEL).folder),
        "tensor_parallel_size": 4,
    }
    assert (engine.dtype, engine.window) == ("bfloat16", 1024)
    assert engine.device.startswith("4 x ")


def test_a_model_that_vllm_cannot_load_is_one_sentence() -> None:
    library = StandIn([])
    library.LLM = _out_of_memory  # type: ignore[method-assign]  # what vLLM does
    with pytest.raises(BackendError, match=r"vLLM cannot load it \(No GPU. Really none\.\)"):
        _VllmEngine(library, open_checkpoint(MODEL), {})


def _out_of_memory(**options: Any) -> Any:
    raise RuntimeError("No GPU.\n  Really none.")


def test_greedy_completions_have_no_seed() -> None:
    asked = sampling_options(CALLS[0], Sampling(max_tokens=5), {2, 1})
    assert asked == {
        "max_tokens": 5,
        "temperature": 0.0,
        "top_p": 1.0,
        "stop_token_ids": [1, 2],
        "detokenize": False,
    }
    with pytest.raises(BackendError, match="must be a number"):
        sampling_options(CALLS[0], Sampling(), set())


def test_what_laconic_sets_cannot_be_set_again() -> None:
    with pytest.raises(BackendError, match="extra must not hold 'dtype'"):
        vllm(MODEL, extra={"dtype": "float16"})


@pytest.mark.skipif(INSTALLED, reason="vllm is installed")
def test_without_the_library_it_is_said_what_to_install() -> None:
    with pytest.raises(BackendError, match=r"pip install 'laconic\[vllm\]'; or ask a running"):
        vllm(MODEL)


@pytest.mark.skipif(not INSTALLED, reason="vllm is not installed")
def test_vllm_knows_every_option_and_parameter() -> None:
    from vllm import SamplingParams as Real
    from vllm.engine.arg_utils import EngineArgs

    asked = sampling_options(CALLS[0], Sampling(max_tokens=5, temperature=1.0), {1})
    assert Real(**asked).max_tokens == 5
    names = "tensor_parallel_size pipeline_parallel_size data_parallel_size dtype seed"
    names += " gpu_memory_utilization trust_remote_code load_format max_model_len"
    assert set(names.split()) <= set(EngineArgs.__dataclass_fields__)


def plan_of(scale: float) -> Plan:
    params = {"scale": scale}
    return plan(Recipe(["lab:system2"], "task_arithmetic", base="lab:base", params=params))


@pytest.mark.slow
def test_a_search_gives_the_engine_that_is_up_the_next_candidates_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = StandIn([])
    monkeypatch.setattr("laconic.backends.vllm._library", lambda: library)
    slot = ModelSlot("vllm:memory=0.5", tmp_path / "work")
    first = slot.take(plan_of(0.3))
    started = library.options["model"]
    second = slot.take(plan_of(0.7))
    assert second is first
    merged = execute(plan_of(0.7), tmp_path / "merged")
    wanted = {file.name: file_digest(file) for file in merged.folder.glob("*.safetensors")}
    assert library.read == [("reload_weights", wanted)]
    assert first.fingerprint == merged.fingerprint
    assert not Path(started).exists()
    library.version = "0.11.2"
    third = slot.take(plan_of(0.5))
    assert third is not first
    assert library.options["model"] != started
    slot.close()


def test_an_engine_takes_weights_of_its_own_kind_only() -> None:
    library, engine = stand_in()
    engine.renew(open_checkpoint("lab:system2"))
    assert engine.fingerprint == open_checkpoint("lab:system2").fingerprint
    library.forgets = False
    with pytest.raises(BackendError, match="vLLM kept prefixes of the weights before"):
        engine.renew(open_checkpoint(MODEL))
    library.version = "0.17.1"
    with pytest.raises(BackendError, match=r"vLLM 0\.17\.1 takes no new weights; 0\.18 and later"):
        engine.renew(open_checkpoint(MODEL))
    other = open_checkpoint(MODEL)
    other.specs.popitem()
    with pytest.raises(BackendError, match="its config or its tensors are not those of lab:system"):
        engine.renew(other)


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="needs vllm and a CUDA device")
def test_greedy_completions_are_those_of_transformers() -> None:
    sampling = Sampling(max_tokens=200)
    found = []
    for load in (transformers, vllm):
        with closing(load(MODEL, dtype="float32")) as engine:
            pairs = [p for batch in engine.generate(CALLS[:20], sampling) for p in batch]
            found.append({s.key: (g.text, g.length, g.finish) for s, g in pairs})
    same = sum(found[0][key] == found[1][key] for key in found[0])
    assert same >= 18  # ties of logits may fall otherwise in other kernels
