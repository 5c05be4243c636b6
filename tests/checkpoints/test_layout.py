"""Heads, ties and depth of many architectures, by the names that checkpoints have on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from laconic.checkpoints.checkpoint import Checkpoint
from laconic.checkpoints.header import TensorSpec
from laconic.checkpoints.layout import (
    Depth,
    find_depth,
    find_layout,
    tie_flags,
    with_rows,
    with_tie,
)
from laconic.errors import CheckpointError, RecipeError
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from tests.conftest import MakeCheckpoint, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from torch import Tensor

TEXT: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def neox(*, tied: bool) -> Any:
    return transformers.GPTNeoXConfig(
        **{k: v for k, v in TEXT.items() if k != "num_key_value_heads"}, tie_word_embeddings=tied
    )


def llava(*, tied: bool) -> Any:
    return transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**TEXT, tie_word_embeddings=tied).to_dict(),
        vision_config=transformers.CLIPVisionConfig(**VISION).to_dict(),
        image_token_index=3,
        tie_word_embeddings=tied,
    )


def mistral3(*, tied: bool) -> Any:
    return transformers.Mistral3Config(
        text_config=transformers.MistralConfig(**TEXT, tie_word_embeddings=tied).to_dict(),
        vision_config=transformers.PixtralVisionConfig(**VISION).to_dict(),
        image_token_index=3,
        tie_word_embeddings=tied,
    )


def gpt2(*, tied: bool) -> Any:
    return transformers.GPT2Config(
        vocab_size=32, n_embd=16, n_layer=2, n_head=2, n_positions=64, tie_word_embeddings=tied,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


#: A class, its config, and the names of embedding, head and layers on disk.
MODELS: dict[str, tuple[str, Callable[..., Any], str, str, str]] = {
    "GPT-NeoX": (
        "GPTNeoXForCausalLM",
        neox,
        "gpt_neox.embed_in.weight",
        "embed_out.weight",
        "gpt_neox.layers",
    ),
    "LLaVA": (
        "LlavaForConditionalGeneration",
        llava,
        "language_model.model.embed_tokens.weight",
        "language_model.lm_head.weight",
        "language_model.model.layers",
    ),
    "Mistral 3": (
        "Mistral3ForConditionalGeneration",
        mistral3,
        "language_model.model.embed_tokens.weight",
        "language_model.lm_head.weight",
        "language_model.model.layers",
    ),
    "GPT-2": (
        "GPT2LMHeadModel",
        gpt2,
        "transformer.wte.weight",
        "lm_head.weight",
        "transformer.h",
    ),
}


def save(folder: Path, row: str, seed: int, *, tied: bool) -> Path:
    """A checkpoint as transformers saves it, by the names on the Hub, drawn from a seed."""
    kind, config, *_ = MODELS[row]
    torch.manual_seed(seed)
    model = getattr(transformers, kind)(config(tied=tied))
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)
    model.tie_weights()
    model.save_pretrained(folder)
    return folder


def logits(row: str, folder: Path) -> Tensor:
    made = getattr(transformers, MODELS[row][0]).from_pretrained(folder).eval()
    with torch.no_grad():
        found: Tensor = made(input_ids=torch.tensor([[4, 9, 20]])).logits
    return found


def by_hand(row: str, base: Path, model: Path, out: Path, *, tied: bool) -> Path:
    """Half of the way, in the class's own parameters and without laconic."""
    kind, config, *_ = MODELS[row]
    made = getattr(transformers, kind)
    ends = [made.from_pretrained(folder) for folder in (base, model)]
    mean = made(config(tied=tied))
    for name, parameter in mean.named_parameters():
        first, second = (end.get_parameter(name).data for end in ends)
        parameter.data = (first + second) / 2
    mean.save_pretrained(out)
    return out


def half(base: Path, model: Path, **said: Any) -> Recipe:
    params = {"params": {"scale": 0.5}, "method": "task_arithmetic", **said}
    return Recipe([str(model)], base=str(base), **params)


@pytest.mark.parametrize("row", MODELS)
@pytest.mark.parametrize("ties", [(False, False), (True, True), (True, False), (False, True)])
def test_a_merge_of_any_architecture_computes_what_a_merge_by_hand_does(
    tmp_path: Path, row: str, ties: tuple[bool, bool]
) -> None:
    base = save(tmp_path / "base", row, 0, tied=ties[0])
    model = save(tmp_path / "model", row, 1, tied=ties[1])
    *_, embedding, head, layers = MODELS[row]
    assert Checkpoint(model).layout.embedding == embedding
    assert Checkpoint(model).layout.head == head
    assert Checkpoint(model).layout.depth == Depth(layers, 2)
    merged = merge(half(base, model), tmp_path / "out")
    tied = all(ties)
    assert (head in merged.specs) is not tied
    assert merged.tied is tied
    assert tie_flags(merged.config) == {tied}
    hand = by_hand(row, base, model, tmp_path / "hand", tied=tied)
    assert torch.allclose(logits(row, merged.folder), logits(row, hand), atol=1e-5)


@pytest.mark.parametrize("row", ["GPT-NeoX", "LLaVA"])
def test_a_tied_model_stored_as_its_head_alone_gets_its_embedding_back(
    tmp_path: Path, row: str
) -> None:
    *_, embedding, head, _ = MODELS[row]
    folders = [save(tmp_path / name, row, i, tied=True) for i, name in enumerate(("base", "model"))]
    plain = logits(row, merge(half(*folders), tmp_path / "plain").folder)
    held = load_file(folders[1] / "model.safetensors")
    held[head] = held.pop(embedding)
    save_file(held, folders[1] / "model.safetensors", metadata={"format": "pt"})
    planned = plan(half(*folders))
    assert any(f"'{head}': it is read, and written, as '{embedding}'" in n for n in planned.notes)
    merged = merge(half(*folders), tmp_path / "out")
    assert embedding in merged.specs
    assert head not in merged.specs
    assert torch.equal(logits(row, merged.folder), plain)


def internlm(name: str, make: MakeCheckpoint, seed: int, *, tied: bool) -> Path:
    """A checkpoint of a class that transformers does not have, by the names of InternLM2."""
    names = {"model.embed_tokens.weight": "model.tok_embeddings.weight"}
    held = {names.get(n, n): t for n, t in tensors(seed).items()}
    if not tied:
        held["output.weight"] = held["model.tok_embeddings.weight"] + 1
    kind = {"model_type": "internlm2", "architectures": ["InternLM2ForCausalLM"]}
    return make(name, held, config={**kind, "tie_word_embeddings": tied})


def test_equal_models_of_an_unknown_class_keep_what_their_configs_say(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = (internlm(n, make_checkpoint, i, tied=False) for i, n in enumerate("ab"))
    planned = plan(half(base, model))
    assert planned.describe()["head"] == "not known"
    merged = merge(half(base, model), tmp_path / "out")
    assert merged.config["tie_word_embeddings"] is False
    assert "output.weight" in merged.specs


def test_a_recipe_names_the_head_that_transformers_does_not_know(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base = internlm("base", make_checkpoint, 0, tied=True)
    model = internlm("model", make_checkpoint, 1, tied=False)
    with pytest.raises(CheckpointError, match=r"add 'head: output\.weight' to the recipe"):
        plan(half(base, model))
    recipe = half(base, model, head="output.weight")
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    merged = merge(recipe, tmp_path / "out")
    tied = tensors(0)["model.embed_tokens.weight"].float()
    head = load_file(model / "model.safetensors")["output.weight"].float()
    wanted = (tied + 0.5 * (head - tied)).bfloat16()
    assert torch.equal(merged.read("output.weight"), wanted)
    assert merged.config["tie_word_embeddings"] is False


def test_a_head_that_no_checkpoint_has_is_refused(make_checkpoint: MakeCheckpoint) -> None:
    base, model = (internlm(n, make_checkpoint, i, tied=False) for i, n in enumerate("ab"))
    with pytest.raises(RecipeError, match=r"head: no checkpoint has a tensor 'outptu\.weight'"):
        plan(half(base, model, head="outptu.weight"))


def test_rows_of_an_unknown_class_are_matched_only_with_its_head_named(
    make_checkpoint: MakeCheckpoint,
) -> None:
    base, model = (internlm(n, make_checkpoint, i, tied=False) for i, n in enumerate("ab"))
    with pytest.raises(
        CheckpointError, match=r"It is not known which tensor of .* is the embedding"
    ):
        plan(half(base, model, tokenizer="base"))
    named = plan(half(base, model, tokenizer="base", head="output.weight"))
    assert named.rows == 12


#: Names, a config, and the layers that there are.
DEPTHS: dict[str, tuple[Iterable[str], Mapping[str, Any], Depth]] = {
    "vision blocks": (
        ["model.embed_tokens.weight", "model.layers.2.w", "visual.blocks.5.w"],
        {"num_hidden_layers": 3},
        Depth("model.layers", 3),
    ),
    "as many vision blocks as layers": (
        [
            "model.language_model.embed_tokens.weight",
            "model.language_model.layers.1.w",
            "model.visual.blocks.1.w",
        ],
        {"text_config": {"num_hidden_layers": 2}, "num_hidden_layers": 9},
        Depth("model.language_model.layers", 2),
    ),
    "a layer past the last, which predicts further tokens": (
        ["model.embed_tokens.weight", "model.layers.1.w", "model.layers.2.w"],
        {"num_hidden_layers": 2, "num_nextn_predict_layers": 1},
        Depth("model.layers", 2),
    ),
    "such layers beside": (
        ["model.embed_tokens.weight", "model.layers.1.w", "mtp.layers.0.w", "model.mtp.layers.2.w"],
        {"num_hidden_layers": 2},
        Depth("model.layers", 2),
    ),
    "experts within layers": (
        ["model.embed_tokens.weight", "model.layers.1.mlp.experts.7.w"],
        {"num_hidden_layers": 2},
        Depth("model.layers", 2),
    ),
    "no word of it in the config": (
        [
            "language_model.model.embed_tokens.weight",
            "language_model.model.layers.3.w",
            "vision_tower.encoder.layers.8.w",
        ],
        {},
        Depth("language_model.model.layers", 4),
    ),
    "fewer than the config says": (
        ["model.layers.1.w"],
        {"num_hidden_layers": 3},
        Depth("model.layers", 2),
    ),
    "no layers": (["model.embed_tokens.weight"], {"num_hidden_layers": 3}, Depth("", 0)),
}  # fmt: skip


@pytest.mark.parametrize("row", DEPTHS)
def test_the_depth_is_that_of_the_text_model(row: str) -> None:
    names, config, wanted = DEPTHS[row]
    layout = find_layout(config, {name: TensorSpec(name, "BF16", (2, 2)) for name in names})
    assert layout.depth == wanted
    assert find_depth(names, config, layout.embedding) == wanted


def test_a_layer_is_of_the_text_model_or_none() -> None:
    depth = Depth("model.layers", 2)
    assert depth.of("model.layers.1.mlp.experts.7.w") == 1
    for name in ("model.layers.2.w", "visual.blocks.1.w", "mtp.layers.0.w", "model.norm.weight"):
        assert depth.of(name) is None
    names = ["model.layers.0.w", "model.layers.2.w", "visual.blocks.1.w", "visual.blocks.3.w"]
    assert depth.outside(names) == {"model.layers": 1, "visual.blocks": 2}


def vision(make: MakeCheckpoint, name: str, seed: int) -> Path:
    """Two text layers, four vision blocks, and a layer that predicts further tokens."""
    draw = torch.Generator().manual_seed(seed)
    towers = [f"visual.blocks.{i}.mlp.up_proj.weight" for i in range(4)]
    extra = {n: torch.randn(4, 4, generator=draw) for n in [*towers, "mtp.layers.0.mlp.up.weight"]}
    held = {n: t.float() for n, t in tensors(seed).items()}
    return make(name, {**held, **extra}, config={"dtype": "float32"})


def moved(base: Path, model: Path, merged: Checkpoint) -> dict[str, float]:
    """The share of the way that each tensor went, from the base to the model."""
    ends = [load_file(folder / "model.safetensors") for folder in (base, model)]

    def share(name: str) -> float:
        way, whole = merged.read(name) - ends[0][name], ends[1][name] - ends[0][name]
        return round(float(way.norm() / whole.norm()), 4)

    return {name: share(name) for name in ends[0]}


def test_gradients_lines_and_overrides_count_the_text_models_layers_only(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = (vision(make_checkpoint, name, i) for i, name in enumerate("ab"))
    text = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(2)]
    tower, further = "visual.blocks.{}.mlp.up_proj.weight", "mtp.layers.0.mlp.up.weight"
    slope = merge(half(base, model, params={"scale": [0.25, 1.0]}), tmp_path / "slope")
    shares = moved(base, model, slope)
    assert [shares[name] for name in text] == [0.25, 1.0]
    assert {shares[tower.format(i)] for i in range(4)} | {shares[further]} == {0.25}
    lines = {"after": [{"lines": {"first": 0.25, "last": 0.75}}], "params": {"scale": 1.0}}
    shares = moved(base, model, merge(half(base, model, **lines), tmp_path / "lines"))
    assert [shares[name] for name in text] == [0.25, 0.75]
    assert shares["model.embed_tokens.weight"] == 0.25
    assert shares[tower.format(3)] == shares[further] == shares["model.norm.weight"] == 0.75
    only = {"overrides": [{"layers": [0, 0], "params": {"scale": 0.0}}], "params": {"scale": 1.0}}
    shares = moved(base, model, merge(half(base, model, **only), tmp_path / "only"))
    assert [shares[name] for name in text] == [0.0, 1.0]
    assert shares[tower.format(0)] == shares[further] == 1.0
    (note,) = [n for n in slope_notes(tmp_path / "slope") if "visual.blocks" in n]
    assert "Layers are the 2 of 'model.layers'" in note
    assert "4 of 'visual.blocks'" in note


def slope_notes(folder: Path) -> list[str]:
    notes: list[str] = json.loads((folder / "run.json").read_text())["notes"]
    return notes


def test_a_slice_of_all_text_layers_is_the_whole_model(make_checkpoint: MakeCheckpoint) -> None:
    base, model = (vision(make_checkpoint, name, i) for i, name in enumerate("ab"))
    sources = [{"model": str(folder), "layer_range": [0, 2]} for folder in (base, model)]
    values = {
        "merge_method": "slerp",
        "base_model": str(base),
        "slices": [{"sources": sources}],
        "parameters": {"t": 0.5},
    }
    assert plan(Recipe.from_dict(values)).system2.layers == 2


def test_tie_flags_stay_as_the_models_have_them(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    mixed = {"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}}
    head = {"lm_head.weight": torch.ones(12, 8, dtype=torch.bfloat16)}
    base, model = (
        make_checkpoint(n, {**tensors(i), **head}, config=mixed) for i, n in enumerate("ab")
    )
    merged = merge(half(base, model), tmp_path / "out")
    assert merged.config["tie_word_embeddings"] is True
    assert merged.config["text_config"]["tie_word_embeddings"] is False
    assert tie_flags(with_tie(mixed, tied=False)) == {False}
    assert with_tie({"text_config": {}}, tied=True) == {
        "text_config": {},
        "tie_word_embeddings": True,
    }


@pytest.mark.parametrize("tied", ["base", "model", "both"])
def test_rows_of_a_vision_language_model_are_matched_by_token_string(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, tied: str
) -> None:
    embedding, rows = "model.language_model.embed_tokens.weight", {"base": 12, "model": 14}
    held: dict[str, dict[str, Tensor]] = {}
    for seed, (name, count) in enumerate(rows.items()):
        weights = {
            n.replace("model.", "model.language_model.", 1): t for n, t in tensors(seed).items()
        }
        weights[embedding] = torch.full((count, 8), float(seed), dtype=torch.bfloat16)
        if tied not in (name, "both"):
            weights["lm_head.weight"] = weights[embedding] + 2
        said = {"vocab_size": count, "num_hidden_layers": 2, "tie_word_embeddings": tied == name}
        words = {f"w{i}": i for i in range(count)}
        config = {"text_config": said, "vocab_size": count, "tie_word_embeddings": tied == name}
        if tied == "both":
            said["tie_word_embeddings"] = config["tie_word_embeddings"] = True
        make_checkpoint(name, weights, config=config, vocabulary=words)
        held[name] = weights
    recipe = half(tmp_path / "base", tmp_path / "model", tokenizer="system2")
    merged = merge(recipe, tmp_path / "out")
    assert merged.specs[embedding].shape == (14, 8)
    assert merged.config["vocab_size"] == merged.config["text_config"]["vocab_size"] == 14
    assert torch.equal(merged.read(embedding)[:12], torch.full((12, 8), 0.5, dtype=torch.bfloat16))
    assert ("lm_head.weight" in merged.specs) is (tied != "both")
    if tied != "both":
        heads = [w.get("lm_head.weight", w[embedding])[:12].float() for w in held.values()]
        wanted = (heads[0] + 0.5 * (heads[1] - heads[0])).bfloat16()
        assert torch.equal(merged.read("lm_head.weight")[:12], wanted)


def test_rows_are_written_where_the_text_models_rows_stand() -> None:
    config = {
        "vocab_size": 12,
        "text_config": {"vocab_size": 12},
        "vision_config": {"vocab_size": 5},
    }
    made = with_rows(config, 16)
    assert made["vocab_size"] == made["text_config"]["vocab_size"] == 16
    assert made["vision_config"]["vocab_size"] == 5
    assert with_rows({"hidden_size": 8}, 16) == {"hidden_size": 8}


def test_a_plain_merge_asks_no_other_library(make_checkpoint: MakeCheckpoint) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    code = (
        "import sys\nfrom laconic import Recipe, plan\n"
        f"plan(Recipe([{str(model)!r}], 'task_arithmetic', base={str(base)!r}))\n"
        "assert not {'transformers', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


HEADLESS: dict[str, dict[str, Any]] = {
    "Qwen2ForSequenceClassification": TEXT,
    "LlamaForTokenClassification": TEXT,
    "LlamaForQuestionAnswering": TEXT,
    "Qwen2Model": TEXT,
    "GPTNeoXForSequenceClassification": {
        k: v for k, v in TEXT.items() if k != "num_key_value_heads"
    },
    "AlbertForSequenceClassification": {**TEXT, "embedding_size": 8},
}


@pytest.mark.parametrize("kind", HEADLESS)
@pytest.mark.parametrize("tied", [False, True])
def test_models_without_an_output_head_merge_whatever_their_flag_says(
    tmp_path: Path, kind: str, tied: bool
) -> None:
    made = getattr(transformers, kind)
    ends = []
    for seed, name in enumerate(("base", "model")):
        torch.manual_seed(seed)
        ends.append(made(made.config_class(**HEADLESS[kind], tie_word_embeddings=tied)))
        ends[-1].save_pretrained(tmp_path / name)
    assert Checkpoint(tmp_path / "model").layout.head is None
    merged = merge(half(tmp_path / "base", tmp_path / "model"), tmp_path / "out")
    assert merged.config["tie_word_embeddings"] is tied
    loaded, told = made.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    first, second = (end.state_dict() for end in ends)
    for name, found in loaded.named_parameters():
        assert torch.allclose(found, (first[name] + second[name]) / 2, atol=1e-6), name


def test_an_untied_language_model_without_its_head_is_still_refused(
    make_checkpoint: MakeCheckpoint,
) -> None:
    said = {"tie_word_embeddings": False, "architectures": ["Qwen2ForCausalLM"]}
    base, model = (make_checkpoint(n, i, config=said) for i, n in enumerate("ab"))
    with pytest.raises(CheckpointError, match=r"has no 'lm_head\.weight', yet its config says"):
        plan(half(base, model))


def drawn(shapes: Mapping[str, int]) -> dict[str, TensorSpec]:
    """Specs of a small checkpoint: so many blocks at each stack, and an embedding."""
    names = [f"{stack}.{i}.proj.weight" for stack, blocks in shapes.items() for i in range(blocks)]
    names.append("model.embed_tokens.weight")
    return {name: TensorSpec(name, "BF16", (8, 8)) for name in names}


@pytest.mark.parametrize("said", [None, 2])
@pytest.mark.parametrize(
    ("stacks", "layers"),
    [
        ({"model.layers": 2, "visual.blocks": 5}, "model.layers"),
        ({"model.layers": 2, "model.visual.blocks": 5}, "model.layers"),
        ({"model.layers": 2, "model.mtp_layers": 5}, "model.layers"),
        ({"model.layers": 2, "mtp.layers": 5, "audio_tower.layers": 5}, "model.layers"),
        (
            {"language_model.model.layers": 2, "model.vision.layers": 2},
            "language_model.model.layers",
        ),
    ],
)
def test_no_tensor_is_both_in_a_layer_and_in_a_part_that_a_sibling_may_lack(
    stacks: dict[str, int], layers: str, said: int | None
) -> None:
    specs = drawn(stacks)
    layout = find_layout({"num_hidden_layers": said} if said else {}, specs)
    assert layout.depth == Depth(layers, 2)
    in_layers = {name for name in specs if layout.depth.of(name) is not None}
    assert set(layout.parts) == set(specs) - in_layers - {"model.embed_tokens.weight"}
    assert set(layout.depth.outside(specs)) == set(stacks) - {layers}


def test_a_layer_that_predicts_ahead_is_none_of_the_text_models_even_where_no_config_counts() -> (
    None
):
    specs = drawn({"model.layers": 3})
    ahead = TensorSpec("model.layers.2.eh_proj.weight", "BF16", (8, 8))
    layout = find_layout({}, specs | {ahead.name: ahead})
    assert layout.depth == Depth("model.layers", 2)
    assert set(layout.parts) == {"model.layers.2.proj.weight", ahead.name}
