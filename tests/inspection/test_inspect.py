"""Inspections against sums worked out tensor by tensor in float64, and the verdicts from them."""

from __future__ import annotations

import json
import math
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.name_map import component_of
from laconic.errors import CheckpointError, LaconicError
from laconic.inspection import files, sums
from laconic.inspection.inspect import Inspection, inspect
from laconic.inspection.record import record, to_json
from laconic.inspection.text import bands, labels, to_text
from tests.conftest import tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tests.conftest import MakeCheckpoint

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
State = dict[str, "Tensor"]


def moved(start: State, seed: int, share: float = 0.02, keep: float = 0.3) -> State:
    """A fine-tune of some weights: noise on all but a share of the values."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: value
        + (
            torch.randn(value.shape, generator=draw)
            * share
            * value.float().std()
            * (torch.rand(value.shape, generator=draw) >= keep)
        ).to(value.dtype)
        for name, value in start.items()
    }


def flat(state: State, names: list[str] | None = None) -> Tensor:
    return torch.cat([state[n].double().flatten() for n in names or sorted(state)])


def joined(found: Inspection) -> str:
    return " ".join((*found.base_verdict.sentences, *found.warnings, *found.notes))


@pytest.fixture
def states() -> tuple[State, State, State]:
    base = tensors(0)
    return base, moved(base, 1), moved(base, 2, share=0.1)


@pytest.mark.parametrize("block", [7, 64, 1 << 16])
@pytest.mark.parametrize("types", ["bbb", "fbh"])
def test_every_figure_is_that_of_whole_tensors_in_float64(
    states: tuple[State, State, State],
    make_checkpoint: MakeCheckpoint,
    monkeypatch: pytest.MonkeyPatch,
    block: int,
    types: str,
) -> None:
    kinds = {"b": torch.bfloat16, "f": torch.float32, "h": torch.float16}
    held = [
        {n: v.to(kinds[kind]) for n, v in state.items()}
        for kind, state in zip(types, states, strict=True)
    ]
    folders = [make_checkpoint(f"m{i}", state) for i, state in enumerate(held)]
    monkeypatch.setattr(sums, "BLOCK", block)
    monkeypatch.setattr(sums, "PIECE", 3 * block)
    found = inspect(folders[0], folders[1:])
    groups = {None: sorted(held[0]), "mlp": [n for n in held[0] if "mlp" in n]}
    for part, names in groups.items():
        base, one, two = (flat(state, names) for state in held)
        got = found.whole if part is None else found.parts[part]
        s, t = one - base, two - base
        assert got.elements == base.numel()
        assert got.norm(0) == pytest.approx(float(base.norm()), rel=1e-12)
        assert got.norm(2) == pytest.approx(float(two.norm()), rel=1e-12)
        assert got.distance(1) == pytest.approx(float(s.norm()), rel=1e-12)
        assert got.distance(1, 2) == pytest.approx(float((one - two).norm()), rel=1e-9)
        assert got.relative(1, 2) == pytest.approx(float((one - two).norm() / two.norm()), rel=1e-9)
        assert got.cosine(1, 2) == pytest.approx(float(s @ t / s.norm() / t.norm()), rel=1e-9)
        wanted = float((base - two) @ (one - two) / (base - two).norm() / (one - two).norm())
        assert got.cosine(0, 1, base=2) == pytest.approx(wanted, rel=1e-9)
        assert got.projection(2, 1) == pytest.approx(float(s @ t / (s @ s)), rel=1e-9)
        assert got.unchanged(1) == pytest.approx(float((s == 0).double().mean()), abs=1e-15)
        both = (s != 0) & (t != 0)
        assert int(got.changed[0, 1]) == int(both.sum())
        assert got.conflicts(1, 2) == int((s * t < 0).sum()) / int(both.sum())


def test_one_model_counts_as_several_do(
    states: tuple[State, State, State], make_checkpoint: MakeCheckpoint
) -> None:
    folders = [make_checkpoint(f"m{i}", state) for i, state in enumerate(states)]
    alone, together = inspect(folders[0], folders[1:2]), inspect(folders[0], folders[1:])
    assert alone.whole.unchanged(1) == together.whole.unchanged(1)
    assert alone.whole.distance(1) == pytest.approx(together.whole.distance(1), rel=1e-12)


def test_layers_and_parts_add_up_to_the_whole(
    states: tuple[State, State, State], make_checkpoint: MakeCheckpoint
) -> None:
    found = inspect(make_checkpoint("a", states[0]), [make_checkpoint("b", states[1], shards=3)])
    assert found.layers == 2
    assert sum(part.elements for part in found.parts.values()) == found.whole.elements
    inside = [found.layer(i).distance(1) ** 2 for i in range(2)]
    assert found.layer(0, 1).distance(1) ** 2 == pytest.approx(sum(inside), rel=1e-12)
    assert found.layer(1, part="norm").elements == 0


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.embed_tokens.weight", "embedding"),
        ("lm_head.weight", "head"),
        ("model.layers.3.self_attn.q_norm.weight", "norm"),
        ("model.layers.3.self_attn.k_proj.bias", "attention"),
        ("model.layers.3.mlp.experts.7.up_proj.weight", "mlp"),
        ("model.layers.3.post_attention_layernorm.weight", "norm"),
        ("model.norm.weight", "norm"),
        ("transformer.h.0.ln_1.weight", "norm"),
        ("visual.patch.proj.weight", "other"),
    ],
)
def test_tensors_belong_to_parts(name: str, part: str) -> None:
    assert component_of(name) == part


def test_a_fine_tune_fits_its_base(
    states: tuple[State, State, State], make_checkpoint: MakeCheckpoint
) -> None:
    folders = [make_checkpoint(f"m{i}", state) for i, state in enumerate(states)]
    found = inspect(folders[0], folders[1:])
    assert found.base_verdict.fit == "fits"
    assert found.base_verdict.best == str(folders[0])
    assert all(model.fits and not model.reason for model in found.compatibility)


def test_a_base_taken_for_a_model_is_found(
    states: tuple[State, State, State], make_checkpoint: MakeCheckpoint
) -> None:
    base, one, two = (make_checkpoint(n, s) for n, s in zip("abc", states, strict=True))
    found = inspect(two, [base, one])
    assert (found.base_verdict.fit, found.base_verdict.best) == ("another", str(base))
    assert "was trained on from there" in joined(found)


def test_the_middle_of_a_chain_is_the_base(make_checkpoint: MakeCheckpoint) -> None:
    start = tensors(0)
    middle = moved(start, 1, share=0.2)
    end = moved(middle, 2, share=0.1)
    a, b, c = (make_checkpoint(n, s) for n, s in zip("abc", (start, middle, end), strict=True))
    found = inspect(a, [b, c])
    assert (found.base_verdict.fit, found.base_verdict.best) == ("another", str(b))


def test_models_trained_alike_are_not_taken_for_one_anothers_base(
    make_checkpoint: MakeCheckpoint,
) -> None:
    start = {n: v.float() for n, v in tensors(0).items()}
    common = moved(start, 1, share=0.1, keep=0.0)
    alike = [
        {n: start[n] + 0.5 * (common[n] - start[n]) + (own[n] - start[n]) for n in start}
        for own in (moved(start, seed, share=0.02, keep=0.0) for seed in (2, 3))
    ]
    steps = [{n: start[n] + 2 * (v - start[n]) for n, v in alike[0].items()}, alike[1]]
    folders = [make_checkpoint(f"m{i}", s) for i, s in enumerate((start, *steps))]
    found = inspect(folders[0], folders[1:])
    assert found.whole.distance(1, 2) < found.whole.distance(1)
    assert found.base_verdict.fit == "fits"
    assert "trained in a similar way" in joined(found)


def test_an_unrelated_base_is_named_whatever_the_norms_share(
    make_checkpoint: MakeCheckpoint,
) -> None:
    ones = {"model.norm.weight": torch.full((8,), 30.0, dtype=torch.bfloat16)}
    base = make_checkpoint("base", {**tensors(0), **ones})
    found = inspect(base, [make_checkpoint("alien", {**tensors(7), **ones})])
    assert found.base_verdict.fit == "unrelated"
    assert found.base_verdict.best is None
    assert "was not trained from" in joined(found)
    assert math.isclose(found.matrices.relative(1) or 0, math.sqrt(2), rel_tol=0.15)


def test_a_candidate_that_is_nearer_is_named(
    states: tuple[State, State, State], make_checkpoint: MakeCheckpoint
) -> None:
    alien, base, model = (
        make_checkpoint(n, s) for n, s in (("alien", 9), ("base", 0), ("model", states[1]))
    )
    found = inspect(alien, [model], candidates=[base])
    assert (found.base_verdict.fit, found.base_verdict.best) == ("another", str(base))
    found = inspect(base, [model], candidates=[alien])
    assert (found.base_verdict.fit, found.base_verdict.best) == ("fits", str(base))


def test_two_strangers_as_candidates_are_both_refused(make_checkpoint: MakeCheckpoint) -> None:
    names = [make_checkpoint(name, seed) for name, seed in (("a", 0), ("b", 7), ("c", 9))]
    for order in (names, [names[2], names[1], names[0]]):
        found = inspect(order[0], [order[1]], candidates=[order[2]])
        assert (found.base_verdict.fit, found.base_verdict.best) == ("unrelated", None)


def test_a_candidate_alone_to_compare_with_says_nothing(make_checkpoint: MakeCheckpoint) -> None:
    base, same = make_checkpoint("a", 0), make_checkpoint("c", 0)
    other = make_checkpoint("b", {"x": torch.ones(3)})
    found = inspect(base, [other], candidates=[same])
    assert found.base_verdict.fit == "unknown"
    assert "Base: cannot be told." in to_text(found)


def test_a_far_base_is_doubted(make_checkpoint: MakeCheckpoint) -> None:
    base = make_checkpoint("base", 0)
    far = make_checkpoint("far", moved(tensors(0), 1, share=0.8, keep=0.0))
    assert inspect(base, [far]).base_verdict.fit == "far"


def test_signs_of_swapped_arguments_are_said(make_checkpoint: MakeCheckpoint) -> None:
    early, late = make_checkpoint("early", 0), make_checkpoint("late", moved(tensors(0), 1))
    (late / "README.md").write_text("---\nbase_model: org/early\n---\nText.\n")
    (early / "chat_template.jinja").unlink()
    told = joined(inspect(late, [early]))
    assert "may be swapped" in told
    assert "its card names org/early as its base" in told
    assert "has a chat template and" in told
    assert "may be swapped" not in joined(inspect(early, [late]))


def test_a_card_that_names_another_base_is_said(make_checkpoint: MakeCheckpoint) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", moved(tensors(0), 1))
    (model / "README.md").write_text("---\nbase_model:\n- org/mathematical\n---\n")
    assert "names org/mathematical as its base" in joined(inspect(base, [model]))


@pytest.mark.parametrize("card", ["---\n: [\n---\n", "---", "no front matter", "---\n- a\n---\n"])
def test_a_strange_card_says_nothing(card: str, make_checkpoint: MakeCheckpoint) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", moved(tensors(0), 1))
    (model / "README.md").write_text(card)
    assert "The card of" not in joined(inspect(base, [model]))


def test_rows_are_compared_by_token_string(make_checkpoint: MakeCheckpoint) -> None:
    base = tensors(0)
    order = [*range(5, 12), *range(5)]
    rows = torch.cat([base[EMBED][order], torch.ones(2, 8, dtype=torch.bfloat16)])
    words = {f"w{old}": new for new, old in enumerate(order)} | {"<x>": 12, "<y>": 13}
    a = make_checkpoint("a", base)
    b = make_checkpoint("b", {**base, EMBED: rows}, config={"vocab_size": 14}, vocabulary=words)
    found = inspect(a, [b])
    assert found.parts["embedding"].elements == 12 * 8
    assert found.whole.unchanged(1) == 1
    assert found.compatibility[0].fits
    assert "--tokenizer" in found.compatibility[0].reason
    back = inspect(b, [a])
    assert back.parts["embedding"].elements == 12 * 8
    assert back.whole.distance(1) == 0


def test_rows_of_unknown_tokens_are_left_out_by_name(make_checkpoint: MakeCheckpoint) -> None:
    base = tensors(0)
    a = make_checkpoint("a", base)
    rows = torch.cat([base[EMBED], base[EMBED][:2]])
    b = make_checkpoint("b", {**base, EMBED: rows}, config={"vocab_size": 14})
    (b / "tokenizer.json").unlink()
    found = inspect(a, [b])
    assert "[12, 8]" in found.common_tensors.left_out[EMBED]
    assert "embedding" not in found.parts
    assert found.parts["mlp"].elements == 2 * 128


def test_a_tied_head_is_the_embedding(make_checkpoint: MakeCheckpoint) -> None:
    base = tensors(0)
    head = base[EMBED] + 1
    a = make_checkpoint("a", base)
    b = make_checkpoint("b", {**base, HEAD: head}, config={"tie_word_embeddings": False})
    found = inspect(a, [b])
    wanted = float((head.double() - base[EMBED].double()).norm())
    assert found.parts["head"].distance(1) == pytest.approx(wanted, rel=1e-12)
    assert found.parts["embedding"].unchanged(1) == 1
    assert "head is" in joined(found)
    swapped = inspect(b, [a])
    assert "its head is untied" in joined(swapped)


def test_checkpoints_of_other_shapes_are_no_siblings(make_checkpoint: MakeCheckpoint) -> None:
    wide = {n: torch.cat([v, v]) for n, v in tensors(0).items()}
    config = {"hidden_size": 16, "vocab_size": 24}
    found = inspect(make_checkpoint("a", 0), [make_checkpoint("b", wide, config=config)])
    assert not found.compatibility[0].fits
    assert "hidden_size" in found.compatibility[0].reason
    assert found.base_verdict.fit == "unknown"
    assert "left out of the numbers" in joined(found)
    assert "Compatible: no." in to_text(found)
    assert record(found)["whole"]["models"] == []


def test_a_missing_and_an_integer_tensor_are_left_out_by_name(
    make_checkpoint: MakeCheckpoint,
) -> None:
    lost, steps = "model.layers.1.mlp.up_proj.weight", "model.steps"
    base = {**tensors(0), steps: torch.arange(3)}
    less = {n: v for n, v in base.items() if n != lost}
    found = inspect(make_checkpoint("a", base), [make_checkpoint("b", less)])
    assert "not in" in found.common_tensors.left_out[lost]
    assert "I64" in found.common_tensors.left_out[steps]
    assert not found.compatibility[0].fits
    assert lost in found.compatibility[0].reason


def test_what_is_no_number_is_named_and_left_out(make_checkpoint: MakeCheckpoint) -> None:
    bad = tensors(0)
    name = "model.layers.0.mlp.up_proj.weight"
    bad[name][3, 1:3] = torch.nan
    bad[name][5, 1] = torch.inf
    base, model = make_checkpoint("base", 0), make_checkpoint("bad", bad)
    found = inspect(base, [model])
    (broken,) = found.broken
    assert (broken.checkpoint, broken.tensor, broken.nan, broken.infinite) == (1, name, 2, 1)
    assert f"'{name}' of {model} contains 2 NaN and 1 infinite values" in joined(found)
    assert name not in found.sums
    assert found.whole.distance(1) == 0
    assert json.loads(to_json(found))["not_numbers"][0]["checkpoint"] == str(model)


def test_a_model_equal_to_its_base_and_twins_are_said(
    states: tuple[State, State, State], make_checkpoint: MakeCheckpoint
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", states[1])
    told = joined(inspect(base, [base]))
    assert "equals the base in every tensor" in told
    told = joined(inspect(base, [model, model]))
    assert "nearly the same (cosine 1.000)" in told


def test_an_adapter_is_a_model(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    base, adapter = make_checkpoint("base", 0), tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    low, high = torch.randn(2, 8), torch.randn(16, 2)
    module = "base_model.model.model.layers.1.mlp.up_proj"
    save_file(
        {f"{module}.lora_A.weight": low, f"{module}.lora_B.weight": high},
        adapter / "adapter_model.safetensors",
    )
    found = inspect(base, [f"{base}+{adapter}"])
    wanted = float((2 * high.double() @ low.double()).norm())
    assert found.layer(1, part="mlp").distance(1) == pytest.approx(wanted, rel=1e-5)
    assert found.layer(0).unchanged(1) == 1
    assert found.parts["attention"].distance(1) == 0


def test_differences_beside_the_weights_are_listed(make_checkpoint: MakeCheckpoint) -> None:
    a = make_checkpoint("a", 0)
    b = make_checkpoint("b", 0, config={"max_position_embeddings": 128, "rope": {"beta": [1, 2]}})
    (b / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 4], "top_p": 0.9}))
    found = {(d.where, d.key): d.values for d in inspect(a, [b]).differences}
    assert found["config", "max_position_embeddings"] == ("64", "128")
    assert found["config", "rope.beta"] == ("-", "[1, 2]")
    assert found["generation", "top_p"] == ("-", "0.9")
    assert found["tokenizer", "stop token"] == ("3 w3", "3 w3, 4 w4")
    assert found["tokenizer", "chat template"][0] != found["tokenizer", "chat template"][1]
    assert ("config", "hidden_size") not in found


def keys_of(value: Any) -> Any:
    """The shape of a JSON value: its keys, and those of the first entry of lists."""
    if isinstance(value, dict):
        return {key: keys_of(inner) for key, inner in value.items()}
    return [keys_of(value[0])] if isinstance(value, list) and value else type(value).__name__


def test_the_json_keeps_its_keys(
    states: tuple[State, State, State], make_checkpoint: MakeCheckpoint
) -> None:
    folders = [make_checkpoint(f"m{i}", state) for i, state in enumerate(states)]
    held = json.loads(to_json(inspect(folders[0], folders[1:])))
    assert held["schema"] == 1
    assert set(held) == {
        *("schema", "base", "models", "candidates", "siblings", "choice", "warnings", "notes"),
        *("differences", "compared", "not_numbers", "whole", "parts", "layers", "tensors"),
    }
    figures = {
        "values": "int",
        "base_norm": "float",
        "models": [
            {
                "model": "str",
                "norm": "float",
                "vector_norm": "float",
                "relative": "float",
                "alignment": "float",
                "unchanged": "float",
            }
        ],
        "pairs": [
            {"models": ["str"], "cosine": "float", "both_change": "int", "conflicts": "float"}
        ],
    }
    assert keys_of(held["whole"]) == figures
    assert keys_of(held["layers"][0]["parts"]["mlp"]) == figures
    tensor = held["tensors"]["model.layers.1.mlp.up_proj.weight"]
    assert (tensor["part"], tensor["layer"]) == ("mlp", 1)
    assert keys_of(held["choice"]) == {
        "fit": "str",
        "best": "str",
        "sentences": ["str"],
        "rule": "str",
        "distances": [{"from": "str", "to": "str", "relative": "float", "alignment": "float"}],
    }


def test_many_layers_are_shown_in_bands() -> None:
    assert bands(3, every=False) == [(0, 0), (1, 1), (2, 2)]
    shown = bands(28, every=False)
    assert len(shown) == 8
    assert [x for first, last in shown for x in range(first, last + 1)] == list(range(28))
    assert len(bands(28, every=True)) == 28


def test_names_are_short_while_they_stay_different() -> None:
    assert labels(["a/one", "b/two", "lab:base"]) == ["one", "two", "lab:base"]
    assert labels(["a/one", "b/one", "c/d+e/f"]) == ["a/one", "b/one", "d+f"]


def test_memory_does_not_grow_with_a_tensor(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    large = torch.zeros(400_000, 8, dtype=torch.bfloat16)
    folders = [make_checkpoint(n, {**tensors(i), name: large}) for i, n in enumerate("ab")]
    made: list[int] = []
    empty = torch.empty

    def counted(*sizes: int, dtype: torch.dtype | None = None) -> Tensor:
        room = empty(*sizes, dtype=dtype)
        made.append(room.nbytes)
        return room

    members = [open_checkpoint(folder) for folder in folders]
    monkeypatch.setattr(torch, "empty", counted)
    tracemalloc.start()
    inspect(members[0], members[1:])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(made) == 2 * 8 * sums.BLOCK
    assert peak < large.numel() / 2


def test_files_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    for arguments, words in (
        ({"picture": tmp_path / "a.jpg"}, r"\.png or \.svg"),
        ({"json": tmp_path}, "is a folder"),
        ({"json": tmp_path / "none" / "a.json"}, "there is no folder"),
    ):
        with pytest.raises(LaconicError, match=words):
            files.check(**arguments)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_picture_is_written_whole(
    kind: str,
    states: tuple[State, State, State],
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
) -> None:
    folders = [make_checkpoint(f"m{i}", state) for i, state in enumerate(states)]
    found = inspect(folders[0], folders[1:])
    (path,) = files.write(found, picture=tmp_path / f"a.{kind}")
    start = path.read_bytes()[:100]
    assert start.startswith(b"\x89PNG") or b"<?xml" in start
    first = path.read_bytes()
    if kind == "png":
        files.write(found, picture=path)
        assert path.read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [f"a.{kind}"]


def test_the_picture_of_nothing_is_drawn(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    found = inspect(make_checkpoint("a", 0), [make_checkpoint("b", {"x": torch.ones(3)})])
    (path,) = files.write(found, picture=tmp_path / "a.png")
    assert path.stat().st_size > 1000


def test_a_damaged_model_is_an_error(make_checkpoint: MakeCheckpoint) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 0)
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match="damaged"):
        inspect(base, [model])
