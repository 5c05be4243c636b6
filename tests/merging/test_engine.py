"""Kernels or formulas, blocks, threads, shards: the engine gives one and the same bytes."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import save_file

from laconic.errors import CheckpointError
from laconic.merging.engine.options import ExecutionOptions
from laconic.merging.engine.thresholds import SAMPLE
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe
from laconic.methods.contract.group import ADJUSTMENTS, TRANSFORMS
from laconic.methods.contract.group import METHODS as REGISTRY
from laconic.methods.contract.kernels.compiling import TILE
from laconic.methods.contract.ranking import kept
from tests.conftest import CONFIG

TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
#: Exact ties, both zeros, the smallest numbers of each type, and numbers that barely fit.
SPECIAL = [0.0, -0.0, 0.5, -0.5, 0.5, 1e-45, -1e-40, 6e-8, 1.0, -3.0, 65_000.0, 3e38, -3e38]
VALUES = st.one_of(st.floats(-4, 4, width=32), st.sampled_from(SPECIAL))
STEPS: list[Any] = [
    "dare",
    {"dare": {"density": 0.4, "rescale": False}},
    {"trim": {"density": 0.6}},
    {"trim": {"density": 0.5, "ties": "exact"}},
    {"trim": {"density": 0.7, "scope": "model"}},
    {"della": {"density": 0.6}},
    {"della": {"density": 0.5, "rescale": "norm"}},
    {"breadcrumbs": {"density": 0.5, "outliers": 0.1}},
    {"sparsify": {"density": 0.4, "rescale": True}},
    {"sparsify": {"density": 0.6, "model": 0}},
    {"sparsify": {"by": "chance", "density": 0.5, "rescale": True, "model": 0}},
]
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("average", {}),
    ("weighted_sum", {"scale": 0.9, "normalise": True}),
    ("elect", {"scale": 0.8, "normalise": True}),
    ("task_arithmetic", {"scale": 0.7}),
    ("ties", {"density": 0.4, "scale": 1.1}),
    ("ties", {"density": 0.5, "ties": "exact"}),
    ("ties", {"density": 0.3, "scope": "model"}),
    ("ties", {"density": 0.3, "scope": "model", "ties": "exact"}),
    ("ties", {"density": 1.0}),
    ("slerp", {"t": 0.3}),
    ("nuslerp", {}),
    ("nuslerp", {"along": "row"}),
    ("model_stock", {}),
    ("sce", {}),
    ("sce", {"density": 0.5}),
]
#: A plug-in that declares a kernel is tested, even if nobody has written it into these lists.
STEPS += [
    p.name
    for p in TRANSFORMS.all()
    if p.traits.kernel and not any(p.name in step for step in STEPS)
]
METHODS += [
    (p.name, p.bind({}, where="test"))
    for p in REGISTRY.all()
    if p.traits.kernel and p.name not in dict(METHODS)
]
AFTER = [p.name for p in ADJUSTMENTS.all() if p.traits.kernel]


def save(folder: Path, values: list[np.ndarray], dtype: str) -> str:
    """A checkpoint of these tensors, rounded to a type."""
    folder.mkdir()
    held = {
        f"model.layers.{i}.w": torch.from_numpy(v).to(TYPES[dtype]) for i, v in enumerate(values)
    }
    save_file(held, folder / "model.safetensors")
    config = {**CONFIG, "num_hidden_layers": len(values)}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def merged(recipe: Recipe, **kwargs: Any) -> dict[str, bytes] | str:
    """The bytes of every tensor, or that there are none."""
    with tempfile.TemporaryDirectory() as parent:
        try:
            checkpoint = merge(recipe, Path(parent) / "out", **kwargs)
        except CheckpointError as error:
            # Which of two broken values is seen first is a matter of the blocks.
            return "not finite" if re.search("finite|NaN or Inf", str(error)) else str(error)
        return {name: checkpoint.stored(name).tobytes() for name in checkpoint.specs}


@st.composite
def merges(draw: st.DrawFn) -> tuple[list[list[np.ndarray]], list[str], dict[str, Any]]:
    """Tensors of two or three checkpoints, their types, and a recipe without its checkpoints."""
    name, params = draw(st.sampled_from(METHODS))
    traits = REGISTRY.get(name).traits
    based = traits.base == "needed" or draw(st.booleans())
    least, most = traits.models
    count = traits.members or draw(st.integers(max(2, least + based), most + based if most else 3))
    sizes = draw(st.lists(st.integers(1, 70), min_size=1, max_size=2))
    held = [
        [draw(arrays.arrays(np.float32, n, elements=VALUES)) for n in sizes] for _ in range(count)
    ]
    mixed = draw(st.booleans())
    types = [draw(st.sampled_from(sorted(TYPES))) for _ in range(count if mixed else 1)]
    weights = draw(st.lists(st.sampled_from([0.3, 1.0, 2.0]), min_size=count, max_size=count))
    recipe: dict[str, Any] = {"method": name, "params": params, "based": based}
    recipe["weights"] = weights if traits.weighted else [1.0] * count
    recipe["before"] = draw(st.lists(st.sampled_from(STEPS), max_size=2)) if based else []
    adjustments = st.sampled_from([{"lines": {"first": 0.3}}, *AFTER])
    recipe["after"] = [draw(adjustments)] if based and draw(st.booleans()) else []
    recipe["dtype"] = draw(st.sampled_from([None, *sorted(TYPES)]))
    return held, types * (count if len(types) == 1 else 1), recipe


def make(
    parent: Path, held: list[list[np.ndarray]], types: list[str], made: dict[str, Any]
) -> Recipe:
    folders = [
        save(parent / f"m{i}", values, dtype)
        for i, (values, dtype) in enumerate(zip(held, types, strict=True))
    ]
    weights, based = made.pop("weights"), made.pop("based")
    models = [{"model": f, "weight": w} for f, w in zip(folders, weights, strict=True)]
    base = models.pop(0)["model"] if based else None
    return Recipe(models=models, base=base, system2=folders[-1], seed=3, **made)


@pytest.mark.slow
@settings(max_examples=120)
@given(merges(), st.integers(1, 80))
def test_kernels_blocks_and_threads_change_no_byte(
    drawn: tuple[list[list[np.ndarray]], list[str], dict[str, Any]], block: int
) -> None:
    with tempfile.TemporaryDirectory() as parent, np.errstate(over="ignore"):
        recipe = make(Path(parent), *drawn)
        plain = merged(recipe, options=ExecutionOptions(kernels=False, threads=1))
        assert merged(recipe, options=ExecutionOptions(threads=1)) == plain
        assert (
            merged(recipe, options=ExecutionOptions(threads=3, block=block), shard_bytes=100)
            == plain
        )
        assert (
            merged(recipe, options=ExecutionOptions(kernels=False, threads=2, block=block)) == plain
        )


def large(folder: Path, made: tuple[str, dict[str, Any]], size: int) -> Recipe:
    """A merge of one tensor of normally distributed values, after DARE."""
    draw = np.random.default_rng(0)
    base = draw.standard_normal(size, np.float32)
    # Far enough apart that SLERP takes the circle and not the straight line.
    models = [base + draw.standard_normal(size, np.float32) for _ in range(2)]
    base_folder, *others = [
        save(folder / str(i), [v], "bfloat16") for i, v in enumerate((base, *models))
    ]
    before = [] if made[0] == "slerp" else ["dare"]
    chosen = others[: 2 if made[0] in {"model_stock", "nuslerp", "sce"} else 1]
    return Recipe(
        chosen, made[0], base=base_folder, params=made[1], before=before, system2=others[0]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "made", METHODS, ids=lambda m: f"{m[0]}-{'-'.join(map(str, m[1].values()))}"
)
@pytest.mark.parametrize("kernels", [True, False])
def test_a_tensor_of_many_blocks_has_the_bytes_of_one(
    tmp_path: Path, made: tuple[str, dict[str, Any]], kernels: bool
) -> None:
    recipe = large(tmp_path, made, 200_003)
    whole = merged(recipe, options=ExecutionOptions(kernels=not kernels, block=1 << 20))
    for block, threads in ((4096, 3), (70_001, 1), (65_536, 2)):
        options = ExecutionOptions(kernels=kernels, block=block, threads=threads)
        assert merged(recipe, options=options) == whole


@pytest.mark.parametrize("misleading", [False, True])
@pytest.mark.parametrize("kernels", [True, False])
def test_a_threshold_that_a_sample_led_to_is_that_of_a_sort(
    tmp_path: Path, kernels: bool, misleading: bool
) -> None:
    draw = np.random.default_rng(0)
    base = draw.standard_normal(2 * SAMPLE + TILE + 3, np.float32)
    vector = draw.standard_normal(len(base), np.float32)
    if misleading:
        vector *= np.arange(len(base)) // TILE % 2
    folders = [save(tmp_path / n, [v], "float32") for n, v in (("a", base), ("b", base + vector))]
    recipe = Recipe([folders[1]], "ties", base=folders[0], params={"density": 0.2})
    size = np.abs(base + vector - base)
    limit = np.sort(size)[-kept(len(base), 0.2)]
    expected = base + (base + vector - base) * (size >= limit)
    got = merged(recipe, options=ExecutionOptions(kernels=kernels, threads=2))
    assert got == {"model.layers.0.w": expected.tobytes()}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none here")
@pytest.mark.parametrize(
    "made", METHODS, ids=lambda m: f"{m[0]}-{'-'.join(map(str, m[1].values()))}"
)
def test_a_gpu_gives_the_bytes_of_the_cpu(tmp_path: Path, made: tuple[str, dict[str, Any]]) -> None:
    recipe = large(tmp_path, made, 3_000_001)
    assert merged(recipe, options=ExecutionOptions(device="cuda")) == merged(recipe)
