"""Calibration against naive float64 references; what must not matter; and what is refused."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MixtralConfig, MixtralForCausalLM

from laconic.calibration import gradients
from laconic.calibration.calibrate import CalibrationOptions, calibrate, prepare
from laconic.calibration.estimate import Cost
from laconic.calibration.forward import make_batches, run_forward
from laconic.calibration.inputs import InputStatistics
from laconic.calibration.record import Calibration, Kind, read_calibration
from laconic.calibration.samples import SampleSelection, batches
from laconic.calibration.work import WorkFolder
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.tokenizer import load_tokenizer
from laconic.errors import BackendError, CalibrationError, TaskError
from laconic.runs.experiment import Experiment, Sampling
from laconic.runs.writer import RunWriter
from laconic.runtime import silent
from tests.support.results import result
from tests.support.tiny_models import (
    ROWS,
    SIZES,
    naive_gradients,
    naive_information,
    naive_inputs,
    qwen2,
    qwen3_moe,
    save,
    wide,
    without_tokenizer,
    write_rows,
)

if TYPE_CHECKING:
    from pathlib import Path

RAW = SampleSelection(raw=True)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrate")
    qwen2(folder / "ours")
    qwen2(folder / "theirs", seed=1)
    write_rows(folder / "rows.jsonl")
    return folder


def tokens(folder: Path) -> tuple[list[list[int]], list[int]]:
    """The ids of the rows, question and answer joined as they stand, and where answers begin."""
    tokenizer = load_tokenizer(open_checkpoint(folder))
    parts = [[tokenizer.encode(row[key]) for key in ("problem", "response")] for row in ROWS]
    end = tokenizer.eos_token_id
    return [[*asked, *told, end] for asked, told in parts], [len(asked) for asked, _ in parts]


def measure(
    here: Path, kind: Kind, name: str = "made", selection: SampleSelection = RAW, **asked: Any
) -> Calibration:
    if kind == "mutual_information":
        asked.setdefault("against", here / "theirs")
    model = asked.pop("model", here / "ours")
    measurement = prepare(model, str(here / "rows.jsonl"), kind, selection=selection, **asked)
    path = here / f"{name}.safetensors"
    calibrate(measurement, path)
    return read_calibration(path)


def close(ours: torch.Tensor, reference: torch.Tensor) -> bool:
    return torch.allclose(ours.double(), reference, rtol=1e-4, atol=1e-9)


def test_activations_are_mean_sizes_of_what_weights_read(here: Path) -> None:
    ids, _ = tokens(here / "ours")
    seen = naive_inputs(wide(here / "ours"), ids)
    made = measure(here, "activations")
    assert made.tensors.keys() == seen.keys()
    for name, parts in seen.items():
        assert close(made.tensors[name], torch.cat(parts).abs().mean(dim=0)), name
    assert (made.samples, made.tokens) == (len(ids), sum(map(len, ids)))
    assert made.model == open_checkpoint(here / "ours").fingerprint


def test_gram_matrices_are_mean_products_of_what_linear_weights_read(here: Path) -> None:
    ids, _ = tokens(here / "ours")
    seen = naive_inputs(wide(here / "ours"), ids)
    made = measure(here, "gram")
    assert made.tensors.keys() == {name for name in seen if "norm" not in name}
    for name, tensor in made.tensors.items():
        rows = torch.cat(seen[name])
        assert torch.allclose(tensor.double(), rows.T @ rows / len(rows), rtol=1e-3, atol=1e-7)


def test_sensitivity_is_the_sum_of_weight_times_gradient(here: Path) -> None:
    model = wide(here / "ours")
    found = naive_gradients(model, *tokens(here / "ours"))
    made = measure(here, "sensitivity")
    weights = {n: p.detach() for n, p in model.named_parameters() if ".layers." in n}
    assert made.tensors.keys() == weights.keys()
    for name, weight in weights.items():
        naive = sum((weight * each[name]).abs().sum() for each in found)
        assert made.tensors[name].shape == ()
        assert close(made.tensors[name], torch.as_tensor(naive)), name


def test_fisher_is_the_mean_squared_gradient(here: Path) -> None:
    model = wide(here / "ours")
    found = naive_gradients(model, *tokens(here / "ours"))
    made = measure(here, "fisher", labels="data")
    scalars = measure(here, "fisher", labels="data", reduce="tensor")
    assert made.tensors.keys() == scalars.tensors.keys() == dict(model.named_parameters()).keys()
    for name, tensor in made.tensors.items():
        naive = torch.stack([each[name] ** 2 for each in found]).mean(dim=0)
        assert torch.allclose(tensor.double(), naive, rtol=1e-3, atol=1e-10), name
        assert close(scalars.tensors[name], naive.mean()), name


def test_mutual_information_is_that_of_the_outputs_as_categories(here: Path) -> None:
    ids = [own[:start] for own, start in zip(*tokens(here / "ours"), strict=True)]
    outputs: list[dict[str, list[torch.Tensor]]] = [{}, {}]
    for side, name in enumerate(("ours", "theirs")):
        model = wide(here / name).float()
        watched = {"embed": model.model.embed_tokens, "norm": model.model.norm}
        watched |= {f"layer.{i}": part.mlp.down_proj for i, part in enumerate(model.model.layers)}
        for group, module in {**watched, "lm_head": model.lm_head}.items():
            kept = outputs[side].setdefault(group, [])
            module.register_forward_hook(lambda _, __, out, kept=kept: kept.append(out[0]))
        with torch.no_grad():
            for own in ids:
                model(input_ids=torch.tensor([own]))
    made = measure(here, "mutual_information", selection=SampleSelection(raw=True, answers=False))
    assert made.against == open_checkpoint(here / "theirs").fingerprint
    assert list(made.tensors) == ["embed", "layer.0", "layer.1", "lm_head", "norm"]
    for group, tensor in made.tensors.items():
        pairs = zip(outputs[0][group], outputs[1][group], strict=True)
        naive = torch.tensor([naive_information(x, y) for x, y in pairs])
        assert torch.allclose(tensor, naive, atol=0.02), group
        assert tensor.min() > 0.1


@pytest.mark.parametrize("kind", ["activations", "gram", "mutual_information"])
def test_batches_and_padding_do_not_count(here: Path, kind: Kind) -> None:
    alone = measure(here, kind, "alone", options=CalibrationOptions(batch_tokens=1))
    together = measure(here, kind, "together", options=CalibrationOptions(batch_tokens=10_000))
    for name, tensor in alone.tensors.items():
        exact = kind != "mutual_information"
        assert torch.allclose(
            tensor, together.tensors[name], rtol=1e-4 if exact else 1e-2, atol=1e-8
        )


def test_samples_of_similar_length_share_a_batch() -> None:
    assert batches([3, 9, 4, 3, 20], 12) == [(4,), (1,), (2, 0, 3)]
    assert batches([5, 5, 5], 10) == [(0, 1), (2,)]


class Killed(Exception):
    """What stands for a signal in these tests."""


@pytest.mark.parametrize(
    "kind", ["activations", "gram", "mutual_information", "sensitivity", "fisher"]
)
def test_a_calibration_that_was_stopped_goes_on_to_the_same_bytes(
    here: Path, kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "SAVING", float("inf"))
    asked: dict[str, Any] = {"selection": RAW}
    if kind == "mutual_information":
        asked["against"] = here / "theirs"
    starts: list[int] = []

    def go(path: Path, kill_at: int | None) -> None:
        measurement = prepare(here / "ours", str(here / "rows.jsonl"), kind, **asked)
        starts.clear()

        def progress(done: int, total: int, note: str = "") -> None:
            starts.append(done)
            if done == kill_at:
                raise Killed

        calibrate(measurement, path, progress=progress)

    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    go(whole, None)
    with pytest.raises(Killed):
        go(resumed, 2)
    assert not resumed.exists()
    go(resumed, None)
    assert starts[0] == 2
    assert resumed.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {whole.name, resumed.name}


def test_one_layer_at_a_time_is_in_memory(here: Path, tmp_path: Path) -> None:
    measurement = prepare(here / "ours", str(here / "rows.jsonl"), "activations", selection=RAW)
    (skeleton,) = measurement.skeletons
    held: list[list[int]] = []

    class Look(InputStatistics):
        def end(self, skeletons: Any, stage: int, states: Any) -> None:
            super().end(skeletons, stage, states)
            parts = [skeleton.part(i) for i in range(skeleton.layers + 2)]
            held.append([i for i, p in enumerate(parts) if not next(p.parameters()).is_meta])

    made = make_batches(measurement.samples.items, [(0, 1, 2, 3)], skeleton.device)
    with WorkFolder(tmp_path / "made", "digest") as work:
        run_forward([skeleton], made, Look("activations"), work, silent)
        work.clear()
    assert held == [[0], [1], [2], [3]]
    assert all(p.is_meta for p in skeleton.model.parameters())


def test_two_calibrations_cannot_write_one_file(here: Path, tmp_path: Path) -> None:
    measurement = prepare(here / "ours", str(here / "rows.jsonl"), "gram", selection=RAW)
    with (
        WorkFolder(tmp_path / "made", "digest") as work,
        pytest.raises(CalibrationError, match="Another"),
    ):
        calibrate(measurement, tmp_path / "made")
    assert not work.folder.exists()


def test_what_does_not_fit_this_machine_is_refused_with_numbers(here: Path, tmp_path: Path) -> None:
    measurement = prepare(here / "ours", str(here / "rows.jsonl"), "gram", selection=RAW)
    assert 4e8 < measurement.cost.memory < 1e9
    assert 0 < measurement.cost.seconds < 60
    large = replace(measurement, cost=Cost(10**16, 0, 1.0))
    with pytest.raises(CalibrationError, match=r"about 10000000\.0 GB of memory, and cpu has"):
        calibrate(large, tmp_path / "made")
    large = replace(measurement, cost=Cost(0, 10**16, 1.0))
    with pytest.raises(CalibrationError, match=r"about 10000000\.0 GB of disk"):
        calibrate(large, tmp_path / "made")
    with pytest.raises(CalibrationError, match="is a folder"):
        calibrate(measurement, tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose first problem has three right answers, one of them cut; whose last has none."""
    folder = tmp_path / "run"
    results = [
        result("a=1 a=?", 9, True, repeat=0, text="long: 1"),
        result("a=1 a=?", 3, True, repeat=1, text="1"),
        result("a=1 a=?", 1, True, repeat=2, text="cut", truncated=True),
        result("b=2 b=?", 5, True, text="2"),
        result("c=3 c=?", 2, False, text="4"),
    ]
    results = [replace(one, problem=one.id) for one in results]
    experiment = Experiment("m", "d", (), Sampling(), "replay", "float32", "t", "g")
    with RunWriter(folder, experiment, {}) as writer:
        writer.append(results)
        writer.finish()
    return folder


@pytest.mark.parametrize(
    ("pick", "texts"),
    [
        ("shortest-correct", ({"1"}, {"2"})),
        ("longest-correct", ({"long: 1"}, {"2"})),
        (None, ({"1", "long: 1"}, {"2"})),
    ],
)
def test_a_set_is_made_of_a_runs_right_answers(
    here: Path, run: Path, pick: Any, texts: tuple[set[str], set[str]]
) -> None:
    choice = SampleSelection(raw=True, pick=pick)
    samples = prepare(here / "ours", str(run), "activations", selection=choice).samples
    tokenizer = load_tokenizer(open_checkpoint(here / "ours"))
    end = tokenizer.eos_token
    told = [tokenizer.decode(item.ids[item.start :]).removesuffix(end) for item in samples.items]
    asked = [tokenizer.decode(item.ids[: item.start]) for item in samples.items]
    assert asked == ["a=1 a=?", "b=2 b=?"]
    assert all(text in known for text, known in zip(told, texts, strict=True))
    with pytest.raises(CalibrationError, match="answers to 2 problems, and 3 are needed"):
        prepare(here / "ours", str(run), "activations", selection=SampleSelection(limit=3))


def test_the_work_of_another_calibration_is_not_taken_over(here: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        if done == 2:
            raise Killed

    path, rows = tmp_path / "made.safetensors", str(here / "rows.jsonl")
    with pytest.raises(Killed):
        calibrate(prepare(here / "ours", rows, "gram", selection=RAW), path, progress=stop)
    calibrate(prepare(here / "ours", rows, "activations", selection=RAW), path)
    assert read_calibration(path).kind == "activations"


def test_labels_sampled_from_the_model_depend_on_the_seed_alone(here: Path) -> None:
    one, two = (measure(here, "fisher", name, reduce="tensor") for name in ("one", "two"))
    other = measure(
        here, "fisher", "other", reduce="tensor", selection=SampleSelection(raw=True, seed=1)
    )
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(one.tensors[name], two.tensors[name])
    assert not torch.equal(one.tensors[name], other.tensors[name])


def test_fisher_can_do_without_data(here: Path) -> None:
    made = prepare(here / "ours", "random", "fisher", reduce="tensor")
    calibrate(made, here / "random.safetensors")
    read = read_calibration(here / "random.safetensors")
    assert (read.samples, read.tokens, read.data_name) == (8, 512, "random")
    assert all(float(tensor) > 0 for tensor in read.tensors.values())


def test_a_tied_head_is_left_out(here: Path) -> None:
    tied = qwen2(here / "tied", tie_word_embeddings=True)
    assert "lm_head.weight" not in measure(here, "activations", model=tied).tensors
    assert "lm_head.weight" not in measure(here, "fisher", model=tied).tensors


def test_experts_are_measured_one_by_one(here: Path) -> None:
    folder = qwen3_moe(here / "moe")
    ids, _ = tokens(folder)
    model = wide(folder)
    seen = naive_inputs(model, ids)
    reads: dict[str, list[torch.Tensor]] = {}
    for prefix, module in model.named_modules():
        if not prefix.endswith(".experts"):
            continue

        def see(module: Any, args: Any, prefix: str = prefix) -> None:
            for row, chosen in zip(args[0], args[1], strict=True):
                for expert in chosen.tolist():
                    gate, up = (module.gate_up_proj[expert] @ row).chunk(2)
                    down = module.act_fn(gate) * up
                    for name, value in (("gate_proj", row), ("up_proj", row), ("down_proj", down)):
                        reads.setdefault(f"{prefix}.{expert}.{name}.weight", []).append(value)

        module.register_forward_pre_hook(see)
    with torch.no_grad():
        for own in ids:
            model(input_ids=torch.tensor([own]))
    made = measure(here, "activations", model=folder)
    for name, tensor in made.tensors.items():
        if ".experts." in name and name in reads:
            assert close(tensor, torch.stack(reads[name]).abs().mean(dim=0)), name
        elif ".experts." not in name:
            assert close(tensor, torch.cat(seen[name]).abs().mean(dim=0)), name
    experts = [name for name in made.tensors if ".experts." in name]
    assert len(experts) == 2 * 8 * 3
    assert set(experts) <= open_checkpoint(folder).specs.keys()


def test_experts_never_routed_to_are_named(
    here: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [{"text": "a=5"}])
    measurement = prepare(qwen3_moe(here / "idle"), data, "activations")
    assert measurement.samples.tokens == 3  # two experts of eight for each: two at least are idle
    with caplog.at_level(logging.WARNING):
        made = calibrate(measurement, tmp_path / "made.safetensors")
    idle = {name.rsplit(".", 2)[0] for name, tensor in made.tensors.items() if not tensor.any()}
    assert len(idle) >= 4
    assert f"{len(idle)} experts were never routed to: {min(idle)}" in caplog.text


def test_gradients_of_experts_have_the_checkpoints_names(here: Path) -> None:
    folder = qwen3_moe(here / "graded")
    found = naive_gradients(wide(folder), *tokens(folder))
    made = measure(here, "sensitivity", model=folder)
    held = load_file(folder / "model.safetensors")
    assert made.tensors.keys() == {name for name in held if ".layers." in name}
    for name in ("gate_up_proj", "down_proj"):
        fused = f"model.layers.1.mlp.experts.{name}"
        weight = dict(wide(folder).named_parameters())[fused].detach()
        naive = sum((weight * each[fused]).abs().sum() for each in found)
        split = ("gate_proj", "up_proj") if name == "gate_up_proj" else ("down_proj",)
        parts = [
            made.tensors[f"model.layers.1.mlp.experts.{e}.{p}.weight"]
            for e in range(8)
            for p in split
        ]
        assert close(torch.stack(parts).double().sum(), torch.as_tensor(naive))


def test_a_mixtral_is_measured_under_its_names_on_disk(here: Path) -> None:
    config = MixtralConfig(**SIZES, num_local_experts=3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        folder = save(MixtralForCausalLM(config), here / "mixtral")
    disk = {name for name in load_file(folder / "model.safetensors") if ".layers." in name}
    assert any(".block_sparse_moe.experts.2.w3.weight" in name for name in disk)
    made = measure(here, "sensitivity", model=folder).tensors
    assert made.keys() == disk
    found = naive_gradients(wide(folder), *tokens(folder))
    name = "model.layers.1.mlp.experts.gate_up_proj"
    weight = dict(wide(folder).named_parameters())[name].detach()
    naive = sum((weight * each[name]).abs().sum() for each in found)
    parts = [v for n, v in made.items() if ".layers.1." in n and (".w1." in n or ".w3." in n)]
    assert close(torch.stack(parts).double().sum(), torch.as_tensor(naive))
    grams = measure(here, "gram", model=folder).tensors.keys()
    assert grams - {"lm_head.weight"} == {name for name in disk if "norm" not in name}


def test_dead_channels_are_recorded_as_zero_and_told(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = qwen2(here / "dead")
    held = load_file(folder / "model.safetensors")
    held["model.layers.1.post_attention_layernorm.weight"][3] = 0
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    with caplog.at_level(logging.WARNING):
        made = measure(here, "activations", model=folder)
    assert float(made.tensors["model.layers.1.mlp.up_proj.weight"][3]) == 0
    assert "model.layers.1.mlp.gate_proj.weight (1)" in caplog.text


def test_answers_that_are_not_finite_end_in_the_tensors_name(here: Path) -> None:
    folder = qwen2(here / "broken")
    held = load_file(folder / "model.safetensors")
    held["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CalibrationError, match=r"leaves layer\.1 is not finite for sample"):
        measure(here, "activations", model=folder)
    with pytest.raises(CalibrationError, match=r"gradient of '.*' of .*broken.* is not finite for"):
        measure(here, "sensitivity", model=folder)
    assert not (here / ".made.safetensors.partial").exists()


def test_rows_too_long_are_cut_at_their_end_and_counted(here: Path) -> None:
    measurement = prepare(
        here / "ours",
        str(here / "rows.jsonl"),
        "activations",
        selection=SampleSelection(raw=True, max_tokens=20),
    )
    ids, _ = tokens(here / "ours")
    assert measurement.samples.cut == sum(len(own) > 20 for own in ids)
    assert [list(item.ids) for item in measurement.samples.items] == [own[:20] for own in ids]
    assert "were cut at 20 tokens" in " ".join(measurement.notes)


def test_questions_go_through_the_chat_template_unless_raw(here: Path, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a=1 a=?"}, {"role": "assistant", "content": "1"}]
    data = write_rows(
        tmp_path / "rows.jsonl",
        [{"messages": turns}, {"problem": "a=1 a=?", "response": "1"}, {"text": "a=1 a=?"}],
    )
    told, asked, bare = prepare(here / "ours", data, "activations").samples.items
    tokenizer = load_tokenizer(open_checkpoint(here / "ours"))
    text = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert tokenizer.decode(told.ids) == f"{text}1{tokenizer.eos_token}"
    assert told.ids == asked.ids
    assert told.start == asked.start == len(tokenizer.encode(text, add_special_tokens=False))
    assert tokenizer.decode(bare.ids) == "a=1 a=?"


@pytest.mark.parametrize(
    ("kind", "asked", "told"),
    [
        ("activation", {}, "--stats activation: Did you mean 'activations'"),
        ("mutual_information", {"against": None}, "give the second with --against"),
        ("gram", {"against": "theirs"}, "--against is for mutual_information; gram measures one"),
        ("gram", {"reduce": "tensor"}, "--reduce is for fisher"),
        ("gram", {"selection": SampleSelection(limit=0)}, "--limit must be at least 1"),
        ("gram", {"selection": SampleSelection(limit=5)}, "--limit 5: .* has only 4 rows"),
        (
            "gram",
            {"selection": SampleSelection(pick="correct")},
            "--pick correct: .* is no run's folder",
        ),
        ("mutual_information", {"selection": SampleSelection(limit=1)}, "needs at least 2 samples"),
        ("sensitivity", {"selection": SampleSelection(answers=False)}, "line 1 has no answer"),
        (
            "sensitivity",
            {"selection": SampleSelection(raw=True, max_tokens=4)},
            "has no answer within",
        ),
        ("gram", {"options": CalibrationOptions(device="gpu")}, "--device gpu: Did you mean 'cpu'"),
        (
            "gram",
            {"options": CalibrationOptions(dtype="float8")},
            "--dtype float8: Did you mean 'float32'",
        ),
        (
            "gram",
            {"options": CalibrationOptions(batch_tokens=0)},
            "--batch-tokens must be at least 1",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    here: Path, kind: Any, asked: dict[str, Any], told: str
) -> None:
    if kind == "mutual_information":
        asked = {"against": here / "theirs", **asked}
    with pytest.raises(CalibrationError, match=told):
        prepare(here / "ours", str(here / "rows.jsonl"), kind, **asked)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "has no rows"),
        ([{"promt": "a"}], "line 1 has none of 'problem', .* Did you mean 'prompt'"),
        ([{"problem": "a"}, {"problem": ""}], "line 2 needs 'problem'"),
        ([{"messages": [{"role": "user"}]}], "line 1: 'messages' must be a list of"),
        ([{"messages": [{"role": "assistant", "content": "a"}]}], "no question before the answer"),
    ],
)
def test_rows_that_cannot_be_meant_are_refused(
    here: Path, rows: Any, told: str, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises((CalibrationError, TaskError), match=told):
        prepare(here / "ours", data, "activations")


def test_data_and_models_that_are_not_there_or_do_not_fit_are_refused(
    here: Path, tmp_path: Path
) -> None:
    rows = str(here / "rows.jsonl")
    with pytest.raises(CalibrationError, match="There are no data at"):
        prepare(here / "ours", str(tmp_path / "none.jsonl"), "gram")
    with pytest.raises(CalibrationError, match="--data random is for fisher"):
        prepare(here / "ours", "random", "gram")
    small = qwen2(tmp_path / "small", vocab_size=40)
    with pytest.raises(CalibrationError, match="its embedding has only 40 rows"):
        prepare(small, rows, "gram")
    with pytest.raises(BackendError, match="has no tokenizer"):
        prepare(without_tokenizer(here / "ours", tmp_path / "bare"), rows, "gram")
    deep = qwen2(tmp_path / "deep", num_hidden_layers=3)
    with pytest.raises(CalibrationError, match=r"has 2 layers, .*deep has 3"):
        prepare(here / "ours", rows, "mutual_information", against=deep)


def test_models_of_different_tokenizers_are_not_compared(here: Path, tmp_path: Path) -> None:
    other = qwen2(tmp_path / "other")
    held = json.loads((other / "tokenizer.json").read_text())
    words = held["model"]["vocab"]
    words["3"], words["7"] = words["7"], words["3"]
    (other / "tokenizer.json").write_text(json.dumps(held))
    data = write_rows(tmp_path / "rows.jsonl", [{"text": "a=5 b=a+1"}] * 2)
    prepare(here / "ours", data, "mutual_information", against=other)
    data = write_rows(tmp_path / "rows.jsonl", [{"text": "a=5 b=a+3"}] * 2)
    with pytest.raises(
        CalibrationError, match=r"is '3' to .*ours and '7' to .*other: the models cannot"
    ):
        prepare(here / "ours", data, "mutual_information", against=other)
