"""Rows matched by token string, against a loop over dictionaries that does the same naively."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from laconic.checkpoints import computed_tensors
from laconic.checkpoints.checkpoint import Checkpoint
from laconic.checkpoints.computed_tensors import float32, rounded
from laconic.checkpoints.layout import EMBED, HEAD
from laconic.checkpoints.vocabulary import of, unify

#: Few strings, so that vocabularies overlap; an id without one is padding.
WORDS = st.sampled_from([None, *"abcdefgh"])
WIDTH = 3


@st.composite
def families(draw: st.DrawFn) -> list[dict[int, str]]:
    """Two to four vocabularies over a few ids: distinct strings, some ids without one."""
    made = []
    for _ in range(draw(st.integers(2, 4))):
        words = draw(st.lists(WORDS, min_size=1, max_size=9))
        seen: set[str] = set()
        kept: dict[int, str] = {}
        for i, word in enumerate(words):
            if word is not None and word not in seen:
                kept[i] = word
                seen.add(word)
        made.append(kept or {0: "a"})
    return made


def row_of(matrix: Tensor, strings: dict[int, str], key: str | int) -> Tensor | None:
    """The row that stands for a token string, or for padding at a position."""
    for i in range(len(matrix)):
        if strings.get(i, i) == key:
            return matrix[i].float()
    return None


def naive(
    matrices: list[Tensor], family: list[dict[int, str]], target: int, *, base: bool
) -> list[Tensor]:
    """The rule of the documentation, one row at a time."""
    keys = [family[target].get(i, i) for i in range(len(matrices[target]))]
    result = []
    for matrix, strings in zip(matrices, family, strict=True):
        rows = []
        for key in keys:
            own = row_of(matrix, strings, key)
            found = [row_of(m, s, key) for m, s in zip(matrices, family, strict=True)]
            owners = [row for row in found if row is not None]
            if own is not None:
                rows.append(own)
            elif base and found[0] is not None:
                rows.append(found[0])
            else:
                rows.append(torch.stack(owners).mean(dim=0))
        result.append(torch.stack(rows))
    return result


def write(folder: Path, strings: dict[int, str], padding: int, seed: int, head: bool) -> Checkpoint:
    folder.mkdir()
    rows = max(strings) + 1 + padding
    draw = torch.Generator().manual_seed(seed)
    held = {EMBED: torch.randn(rows, WIDTH, generator=draw)}
    if head:
        held[HEAD] = torch.randn(rows, WIDTH, generator=draw)
    save_file(held, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    vocabulary = {word: i for i, word in strings.items()}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    return Checkpoint(folder)


@given(
    families(),
    st.lists(st.integers(0, 3), min_size=4, max_size=4),
    st.integers(0, 3),
    st.booleans(),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.sampled_from([1, 6, 1 << 20]),
)
def test_rows_are_matched_as_a_loop_over_dictionaries_would(
    family: list[dict[int, str]],
    padding: list[int],
    target: int,
    base: bool,
    heads: list[bool],
    block: int,
) -> None:
    target %= len(family)
    with tempfile.TemporaryDirectory() as parent:
        members = [
            write(Path(parent) / str(i), strings, padding[i], i, heads[i])
            for i, strings in enumerate(family)
        ]
        unblocked, computed_tensors.BLOCK = computed_tensors.BLOCK, block  # type: ignore[misc]  # any size is right
        try:
            unified = unify(of(members[target]), members, base=base)
            embeds = [m.read(EMBED) for m in members]
            heads_held = [m.read(HEAD if HEAD in m.specs else EMBED) for m in members]
            for name, matrices in {EMBED: embeds, HEAD: heads_held}.items():
                wanted = naive(matrices, family, target, base=base)
                for made, expected in zip(unified, wanted, strict=True):
                    got = made.read(name if name in made.specs else EMBED)
                    assert torch.allclose(got, expected, atol=1e-6)
                    assert got.shape == made.specs[name if name in made.specs else EMBED].shape
        finally:
            computed_tensors.BLOCK = unblocked  # type: ignore[misc]
        assert [m.tied for m in unified] == [m.tied for m in members]


@given(st.lists(st.floats(width=32, allow_nan=True), min_size=1, max_size=20))
def test_rounding_to_bfloat16_is_torchs(values: list[float]) -> None:
    exact = np.array(values, np.float32)
    made = rounded(exact, "BF16")
    wanted = torch.from_numpy(exact).bfloat16()
    ours = torch.from_numpy(made).view(torch.bfloat16)
    assert torch.equal(ours.isnan(), wanted.isnan())
    finite = ~wanted.isnan()
    assert torch.equal(ours[finite], wanted[finite])
    back = float32(made, "BF16")
    assert np.array_equal(back, wanted.float().numpy(), equal_nan=True)
