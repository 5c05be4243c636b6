"""The embedded engine: equal to plain generation, independent of batches, honest about lengths."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.cache_utils import DynamicCache
from transformers.utils import logging

from laconic.backends.contract.call import Call
from laconic.backends.contract.decoding import Draw, draws, roomy_cache
from laconic.backends.transformers import (
    CHUNK,
    _TransformersEngine,
    _UnfinishedCompletion,
    transformers,
)
from laconic.errors import BackendError, CheckpointError
from laconic.runs.experiment import Sampling
from laconic.runs.run import Generation, Key, Sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WINDOW = 256
PAD, START, END = SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
THINKING = ("<think>", "</think>")
WORDS = (*SPECIAL, *THINKING, "user", "assistant", "\n", *map(chr, range(32, 127)))
VOCABULARY = {word: index for index, word in enumerate(WORDS)}
#: Many tokens end a turn, so that random models stop at many lengths.
ENDS = sorted({VOCABULARY[END], *range(20, 24)})
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SAMPLES = [
    Sample("t", str(i), "Work mod 100. " + "a=1 " * (i % 5) + f"b={i}?", "1") for i in range(14)
]
CALLS = list(map(Call, SAMPLES))


def build() -> PreTrainedTokenizerFast:
    """A tokenizer of single characters and a few words."""
    core = Tokenizer(models.WordLevel(VOCABULARY, unk_token=PAD))
    pattern = "|".join([*map(re.escape, WORDS[:7]), r"[\s\S]"])
    core.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens([AddedToken(word, special=True) for word in SPECIAL])
    core.add_tokens([AddedToken(word, special=False, normalized=False) for word in THINKING])
    kind: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = kind(
        tokenizer_object=core, pad_token=PAD, eos_token=END, chat_template=TEMPLATE
    )
    return made


def make_model(folder: Path, seed: int = 1, **changes: Any) -> Path:
    """A random two-layer Qwen2 of width 32 in float32."""
    settings = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": WINDOW,
        "tie_word_embeddings": False,
        "eos_token_id": VOCABULARY[END],
        "pad_token_id": 0,
        "bos_token_id": None,
    }
    config: Any = Qwen2Config(**{**settings, **changes})
    with torch.random.fork_rng():
        model: Any = Qwen2ForCausalLM(config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
    model.generation_config.eos_token_id = ENDS
    model.save_pretrained(folder)
    build().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny", seed=10)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "copy")


def row(sample: Sample, ids: list[int]) -> _UnfinishedCompletion:
    """A greedy completion of so many tokens so far."""
    return _UnfinishedCompletion(Call(sample), len(ids), None, ids)


def load(folder: Path, **options: Any) -> _TransformersEngine:
    engine = transformers(str(folder), **{"device": "cpu", **options})
    assert isinstance(engine, _TransformersEngine)
    return engine


def complete(
    engine: _TransformersEngine, sampling: Sampling, samples: list[Sample] = SAMPLES
) -> dict[Key, Generation]:
    batches = list(engine.generate(list(map(Call, samples)), sampling))
    found = {call.key: generation for batch in batches for call, generation in batch}
    assert len(found) == sum(map(len, batches)) == len(samples)
    return found


def plainly(folder: Path, sample: Sample, budget: int) -> list[int]:
    """Greedy tokens of one sample, by nothing but the library."""
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    turn = [{"role": "user", "content": sample.problem}]
    prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt")
    ids = prompt["input_ids"]
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        repetition_penalty=1.0,
        max_new_tokens=budget,
    )
    tokens: list[int] = out[0, ids.shape[1] :].tolist()
    return tokens


# Greedy


@pytest.mark.parametrize("budget", [1, CHUNK, CHUNK + 1, 100])
def test_greedy_batches_give_the_tokens_of_plain_generation(folder: Path, budget: int) -> None:
    engine = load(folder, batch=5)
    found = complete(engine, Sampling(budget))
    lengths = set()
    for sample in SAMPLES:
        tokens = plainly(folder, sample, budget)
        generation = found[sample.key]
        ended = tokens[-1] in ENDS
        shown = [WORDS[t] for t in tokens if t not in HIDDEN]
        assert generation.text == "".join(shown)
        assert generation.length == len(tokens)
        assert generation.finish == ("stop" if ended else "length")
        lengths.add(len(tokens))
    if budget > CHUNK:
        assert len(lengths) > 3, "the random model ends everything at one length: no test"


def test_raw_words_reach_the_model_as_they_stand(folder: Path) -> None:
    engine = load(folder)
    usual = complete(engine, Sampling(40))
    raw = [replace(s, problem=engine.render(s), raw=True) for s in SAMPLES]
    assert all(engine.render(sample) == sample.problem for sample in raw)
    assert complete(engine, Sampling(40), raw) == usual


def test_a_stop_text_ends_a_completion_behind_its_last_token(folder: Path) -> None:
    engine = load(folder, batch=5)
    usual = complete(engine, Sampling(100))
    texts = [made.text for made in usual.values() if len(made.text) > CHUNK + 6]
    stop = (texts[0][CHUNK + 1 : CHUNK + 4], "never there")
    found = complete(engine, Sampling(100), [replace(s, stop=stop) for s in SAMPLES])
    stopped = []
    for key, made in found.items():
        before, hit, _ = usual[key].text.partition(stop[0])
        assert made.text == before
        if hit:
            stopped.append(key)
            assert made.finish == "stop"
            assert made.length <= usual[key].length
        else:
            assert made == usual[key]
    sample = next(sample for sample in SAMPLES if sample.key == stopped[0])
    tokens = plainly(folder, sample, 100)[: found[sample.key].length]
    shown = "".join(WORDS[t] for t in tokens if t not in HIDDEN)
    assert shown == found[sample.key].text + stop[0]


HIDDEN = {*ENDS, *(VOCABULARY[word] for word in SPECIAL)}


def test_models_with_a_sliding_window_are_decoded_right(tmp_path: Path) -> None:
    sliding = {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}
    folder = make_model(tmp_path / "sliding", **sliding)
    found = complete(load(folder, batch=7), Sampling(60))
    for sample in SAMPLES[:4]:
        assert found[sample.key].length == len(plainly(folder, sample, 60))


def test_the_checkpoints_own_sampling_settings_do_not_apply(folder: Path, copy: Path) -> None:
    settings = {"eos_token_id": ENDS, "do_sample": True, "temperature": 3.0, "top_k": 5}
    settings |= {"repetition_penalty": 9.0}
    (copy / "generation_config.json").write_text(json.dumps(settings))
    assert complete(load(copy), Sampling(40)) == complete(load(folder), Sampling(40))


def test_a_cache_with_room_holds_what_the_librarys_own_holds(folder: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    ours, theirs = roomy_cache(model.config), DynamicCache(config=model.config)
    draw = torch.Generator().manual_seed(0)
    rows = 4
    for step in range(200):
        tokens = 9 if step == 0 else 1
        for layer in range(2):
            keys, values = torch.randn(2, rows, 2, tokens, 8, generator=draw)
            got, expected = ours.update(keys, values, layer), theirs.update(keys, values, layer)
            assert all(map(torch.equal, got, expected))
        if step in {50, 51, 120}:
            kept = torch.arange(rows)[1:]
            ours.batch_select_indices(kept)
            theirs.batch_select_indices(kept)
            rows -= 1
    assert ours.get_seq_length() == theirs.get_seq_length() == 208


# Sampling


@pytest.mark.slow
def test_sampled_texts_depend_on_seed_and_repeat_and_not_on_the_batch(folder: Path) -> None:
    warm = Sampling(40, temperature=1.0, top_p=0.9, seed=1)
    alone = complete(load(folder, batch=1), warm)
    assert complete(load(folder, batch=14), warm) == alone
    assert complete(load(folder, batch=4), warm, SAMPLES[::-1]) == alone
    assert complete(load(folder), replace(warm, seed=2)) != alone
    again = [replace(sample, repeat=1) for sample in SAMPLES]
    texts = [generation.text for generation in complete(load(folder), warm, again).values()]
    assert texts != [generation.text for generation in alone.values()]


def test_a_larger_budget_only_goes_on_where_the_smaller_one_stopped(folder: Path) -> None:
    engine = load(folder)
    short = complete(engine, Sampling(20, temperature=1.0))
    long = complete(engine, Sampling(60, temperature=1.0))
    assert all(long[key].text.startswith(short[key].text) for key in short)


def test_sampling_leaves_the_global_generators_alone(folder: Path) -> None:
    torch_state, numpy_state = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    complete(load(folder), Sampling(20, temperature=1.0))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state()) == numpy_state  # noqa: NPY002


def drawn(logits: list[float], temperature: float, top_p: float) -> list[float]:
    """How often each token is drawn, by 40,000 numbers: four standard errors are at most 0.01."""
    numbers = draws(Call(SAMPLES[0]), Sampling(seed=3)).random((40_000, 1))
    pick = Draw(temperature, top_p, torch.from_numpy(numbers), start=4)
    scores = pick(torch.zeros(40_000, 4), torch.tensor([logits]).expand(40_000, -1))
    assert (scores > -torch.inf).sum() == 40_000
    shares: list[float] = (scores.argmax(-1).bincount(minlength=len(logits)) / 40_000).tolist()
    return shares


def test_the_numbers_of_many_samples_are_spread_evenly() -> None:
    numbers = [draws(Call(Sample("t", str(i), "", "")), Sampling()).random() for i in range(2000)]
    shares = np.histogram(numbers, bins=10, range=(0, 1))[0] / 2000
    assert shares.tolist() == pytest.approx([0.1] * 10, abs=0.027)  # four standard errors


def test_tokens_are_drawn_by_their_probabilities() -> None:
    logits = [0.0, 2.0, -1.0, 1.0]
    for temperature in (1.0, 0.5):
        expected = torch.softmax(torch.tensor(logits) / temperature, -1).tolist()
        assert drawn(logits, temperature, 1.0) == pytest.approx(expected, abs=0.01)


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    chances = [0.1, 0.5, 0.15, 0.25]
    logits = np.log(chances).tolist()
    assert drawn(logits, 1.0, 0.7) == pytest.approx([0, 2 / 3, 0, 1 / 3], abs=0.01)
    assert drawn(logits, 1.0, 0.8) == pytest.approx([0, 0.5556, 0.1667, 0.2778], abs=0.01)
    assert drawn(logits, 1.0, 0.01) == [0, 1, 0, 0]


# Lengths and thinking


def tokens(text: str) -> list[int]:
    tokenizer: Any = build()
    encoded: list[int] = tokenizer.encode(text)
    return encoded


def test_a_thought_is_counted_by_its_token_and_the_end_token_counts_too(folder: Path) -> None:
    engine = load(folder)
    made = tokens("<think>1+1</think>\n\\boxed{2}<|im_end|>")
    generation = engine._generation(row(SAMPLES[0], made))
    assert generation == Generation(
        "<think>1+1</think>\n\\boxed{2}", 16, 5, True, "stop", tuple(made)
    )


def test_a_thought_that_is_never_closed_is_all_there_is(folder: Path) -> None:
    engine = load(folder)
    cut = engine._generation(row(SAMPLES[0], tokens("<think>1+1=")))
    assert replace(cut, ids=()) == Generation("<think>1+1=", 5, 5, False, "length")
    none = engine._generation(row(SAMPLES[0], tokens("1+1=")))
    assert (none.thinking_length, none.thinks) == (0, False)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_completion_goes_on_from_its_own_token_ids_as_if_never_broken_off(
    folder: Path, temperature: float
) -> None:
    engine = load(folder)
    sampling = Sampling(max_tokens=48, temperature=temperature, seed=5)
    whole = complete(engine, sampling)
    calls = [
        Call(sample, prefix_ids=whole[sample.key].ids[:cut], max_tokens=48 - cut)
        for cut, sample in zip((0, 1, 7, 16, 17, 30), SAMPLES, strict=False)
        if len(whole[sample.key].ids) > cut
    ]
    assert len(calls) > 2
    for batch in engine.generate(calls, sampling):
        for call, continued in batch:
            ids = whole[call.key].ids
            assert continued.ids == ids[len(call.prefix_ids) :]
            assert continued.length == len(continued.ids)
            assert continued.finish == whole[call.key].finish


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_log_probabilities_are_those_of_the_model(folder: Path, temperature: float) -> None:
    engine = load(folder)
    sampling = Sampling(max_tokens=40, temperature=temperature, seed=2)
    plain = complete(engine, sampling)
    calls = [Call(sample, logprobs=i != 1) for i, sample in enumerate(SAMPLES[:6])]
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    for batch in engine.generate(calls, sampling):
        for call, made in batch:
            assert replace(made, logprobs=()) == plain[call.key]
            if call.key == SAMPLES[1].key:
                assert made.logprobs == ()
                continue
            prompt = engine._prompt_ids(call)
            with torch.no_grad():
                logits = model(torch.tensor([[*prompt, *made.ids]])).logits[0]
            told = torch.log_softmax(logits[len(prompt) - 1 : -1], -1)
            wanted = told[range(len(made.ids)), list(made.ids)]
            assert torch.allclose(torch.tensor(made.logprobs), wanted, atol=1e-4)


def test_calls_of_one_batch_may_have_budgets_and_stop_texts_of_their_own(folder: Path) -> None:
    engine = load(folder)
    sampling = Sampling(max_tokens=48)
    whole = complete(engine, sampling)
    calls = [Call(s, max_tokens=n) for s, n in zip(SAMPLES, (1, 5, 16, 20, 48), strict=False)]
    for batch in engine.generate(calls, sampling):
        for call, cut in batch:
            ids, budget = whole[call.key].ids, call.max_tokens or 0
            assert cut.ids == ids[:budget]
            ended = len(ids) < budget or (len(ids) == budget and whole[call.key].finish == "stop")
            assert cut.finish == ("stop" if ended else "length")
    longest = max(SAMPLES, key=lambda s: len(whole[s.key].text))
    stop = whole[longest.key].text[3]
    ((_, stopped),) = next(iter(engine.generate([Call(longest, stop=(stop,))], sampling)))
    assert stopped.text == whole[longest.key].text.partition(stop)[0]


def test_a_thought_is_open_or_closed_where_the_given_token_ids_leave_it(folder: Path) -> None:
    engine = load(folder)
    for begun, thought in (("<think>1", 4), ("<think>1</think>2", 0), ("1+1", 0)):
        call = Call(SAMPLES[0], prefix_ids=tuple(tokens(begun)))
        ids = tokens("1+1=")
        made = engine._generation(_UnfinishedCompletion(call, len(ids), None, ids))
        assert (made.thinking_length, made.length) == (thought, 4)


def test_a_thought_that_the_template_opens_counts_as_open(copy: Path) -> None:
    template = (copy / "chat_template.jinja").read_text()
    opening = template.replace("assistant\n", "assistant\n<think>\n")
    assert opening != template
    (copy / "chat_template.jinja").write_text(opening)
    engine = load(copy)
    assert engine.render(SAMPLES[0]).endswith("assistant\n<think>\n")
    assert engine._generation(row(SAMPLES[0], tokens("1+1="))).thinking_length == 4
    closed = engine._generation(row(SAMPLES[0], tokens("1+1</think>2")))
    assert (closed.thinking_length, closed.thinks) == (4, True)


def test_a_thought_that_the_task_began_counts_as_open_and_is_gone_on_with(folder: Path) -> None:
    engine = load(folder)
    begun = replace(SAMPLES[0], prefill="<think>\n1+1=2\n")
    assert engine.render(begun) == engine.render(SAMPLES[0]) + begun.prefill
    assert engine.prompt_length(begun) > engine.prompt_length(SAMPLES[0])
    assert engine._generation(row(begun, tokens("1+1="))).thinking_length == 4
    over = replace(begun, prefill="<think>1</think>")
    assert engine._generation(row(over, tokens("1+1="))).thinking_length == 0
    both = {g.text for g in complete(engine, Sampling(max_tokens=20), [begun]).values()}
    both |= {g.text for g in complete(engine, Sampling(max_tokens=20), [SAMPLES[0]]).values()}
    assert len(both) == 2


def test_a_vocabulary_without_the_token_counts_the_encoded_text(folder: Path) -> None:
    engine = load(folder)
    engine._transcript._close = engine._transcript._open = None
    made = tokens("1+1</think>2")
    assert engine._generation(row(SAMPLES[0], made)).thinking_length == 4
    assert not engine._generation(row(SAMPLES[0], tokens("1+1"))).thinks


def test_thinking_tags_are_shown_even_where_they_are_special(copy: Path) -> None:
    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(copy)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    tokenizer.save_pretrained(copy)
    made = tokens("<think>1</think>2<|im_end|>")
    assert load(copy)._generation(row(SAMPLES[0], made)).text == "<think>1</think>2"


# Prompts and windows


def test_a_problem_goes_through_the_chat_template_or_as_it_is(folder: Path, copy: Path) -> None:
    shown = load(folder).render(SAMPLES[0])
    assert shown == f"<|im_start|>user\n{SAMPLES[0].problem}<|im_end|>\n<|im_start|>assistant\n"
    (copy / "chat_template.jinja").unlink()
    plain = load(copy)
    assert plain.render(SAMPLES[0]) == SAMPLES[0].problem
    assert plain.template != load(folder).template
    assert complete(plain, Sampling(5))


def test_a_template_that_cannot_write_a_turn_is_named(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("{{ raise_exception('no system turn') }}")
    with pytest.raises(BackendError, match=r"chat template cannot write.*no system turn"):
        load(copy).render(SAMPLES[0])


def test_a_budget_that_the_window_cannot_hold_is_refused_with_the_numbers(folder: Path) -> None:
    engine = load(folder)
    longest = max(engine.prompt_length(sample) for sample in SAMPLES)
    room = WINDOW - longest
    with pytest.raises(
        BackendError, match=rf"{longest} tokens.*{room + 1} \(--max-tokens\).*{room} or less"
    ):
        next(engine.generate(CALLS, Sampling(room + 1)))
    assert next(engine.generate(CALLS, Sampling(room)))


def test_a_stretched_window_is_as_long_as_its_scaling_makes_it(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": WINDOW}
    config["rope_parameters"] = {**config.get("rope_parameters", {}), **yarn}
    (copy / "config.json").write_text(json.dumps(config))
    assert load(copy).window == 4 * WINDOW


# Memory, threads, loading


def failing(engine: _TransformersEngine, most: int) -> Callable[..., Any]:
    """A generate that runs out of memory above a batch size."""
    whole = engine._model.generate

    def generate(**arguments: Any) -> Any:
        if len(arguments["input_ids"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(**arguments)

    return generate


def test_a_batch_that_memory_cannot_hold_is_halved(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = complete(load(folder), Sampling(30, temperature=1.0))
    engine = load(folder, batch=14)
    monkeypatch.setattr(engine._model, "generate", failing(engine, 3))
    assert complete(engine, Sampling(30, temperature=1.0)) == expected


def test_a_single_completion_that_memory_cannot_hold_is_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(folder)
    monkeypatch.setattr(engine._model, "generate", failing(engine, 0))
    with pytest.raises(BackendError, match="too small for one completion"):
        complete(engine, Sampling(30))


def test_threads_and_progress_bars_are_given_back(folder: Path) -> None:
    threads, bars = torch.get_num_threads(), logging.is_progress_bar_enabled()
    engine = load(folder, threads=threads + 1)
    seen = []
    for _ in engine.generate(CALLS, Sampling(20)):
        seen.append(torch.get_num_threads())
    assert set(seen) == {threads} == {torch.get_num_threads()}
    assert logging.is_progress_bar_enabled() == bars


def test_types_are_the_ones_asked_for(folder: Path, copy: Path) -> None:
    assert load(folder).dtype == "float32"
    engine = load(folder, dtype="bfloat16")
    assert engine.dtype == "bfloat16"
    assert complete(engine, Sampling(5))
    model: Any = AutoModelForCausalLM.from_pretrained(copy, dtype=torch.bfloat16)
    model.save_pretrained(copy)
    assert load(copy).dtype == "float32"


def test_an_engine_says_what_it_is(folder: Path, tmp_path: Path) -> None:
    engine, other = load(folder), load(make_model(tmp_path / "other", seed=2))
    assert (engine.device, engine.window) == ("cpu", WINDOW)
    assert {"torch", "transformers"} <= set(engine.versions)
    assert engine.fingerprint != other.fingerprint
    assert engine.template == other.template
    engine.close()
    engine.close()


def test_what_cannot_be_loaded_is_one_sentence(copy: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        load(copy / "nowhere")
    config = json.loads((copy / "config.json").read_text())
    deeper = {**config, "num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}
    (copy / "config.json").write_text(json.dumps(deeper))
    with pytest.raises(BackendError, match=r"lacks \d+ tensors.*'model\.layers\.2"):
        load(copy)
    (copy / "config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    with pytest.raises(BackendError, match=r"has another shape of \d+ tensors.*'lm_head"):
        load(copy)
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "martian"}))
    with pytest.raises(BackendError, match=r"cannot load its (tokenizer|model).*martian"):
        load(copy)
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(BackendError, match=r"tokenizer\.json is damaged"):
        load(copy)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(BackendError, match=r"has no tokenizer: .* none of tokenizer\.json"):
        load(copy)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_said_before_anything_is_loaded(folder: Path) -> None:
    with pytest.raises(BackendError, match="no CUDA device here"):
        load(folder, device="cuda")


def test_a_model_that_accelerate_places_gives_the_same_texts(folder: Path) -> None:
    engine = load(folder, device="spread", dtype="float32")
    assert engine.device == "cpu" or torch.cuda.is_available()
    assert complete(engine, Sampling(40)) == complete(load(folder), Sampling(40))
    engine.close()


def test_a_missing_accelerate_is_said_before_anything_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laconic.backends.transformers.find_spec", lambda name: None)
    with pytest.raises(BackendError, match="pip install accelerate"):
        load(folder, device="spread")


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs here")
def test_a_model_on_two_gpus_gives_the_texts_of_the_cpu(folder: Path) -> None:
    engine = load(folder, device="spread", dtype="float32")
    assert engine.device.startswith("2 x ")
    assert complete(engine, Sampling(40)) == complete(load(folder), Sampling(40))
    engine.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_gives_the_texts_of_the_cpu(folder: Path) -> None:
    engine = load(folder, device="cuda", dtype="float32")
    assert engine.device != "cpu"
    for sampling in (Sampling(40), Sampling(40, temperature=1.0, top_p=0.9)):
        assert complete(engine, sampling) == complete(load(folder), sampling)
    engine.close()
