"""The contract of transforms, methods and adjustments, and of every chain of the three."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS, Method, TensorGroup
from laconic.methods.contract.ranking import EVERY, Trim, TrimLimit
from laconic.methods.contract.step_statistics import StepStatistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from laconic.methods.contract.traits import Stats
    from laconic.registry import Plugin

CHAINS = list(
    itertools.product((None, *TRANSFORMS.all()), METHODS.all(), (None, *ADJUSTMENTS.all()))
)
SHAPES = [(6, 10), (7,), (1,)]
NAME = "model.layers.{}.mlp.up_proj.weight"
LAYERS = 4


def make_group(plugin: Plugin[Method], shape: tuple[int, ...], seed: int = 0) -> TensorGroup:
    """Random vectors for as many models as a method takes, over a random base."""
    draw = torch.Generator().manual_seed(seed)
    members, most = plugin.traits.members, plugin.traits.models[1]
    models = members - 1 if members else most or 2
    vectors = torch.randn(models, *shape, generator=draw)
    return TensorGroup(
        name=NAME.format(1),
        base=torch.randn(shape, generator=draw),
        vectors=vectors,
        weights=(1.0,) * models,
        layer=1,
        layers=LAYERS,
        norms={layer: 1.0 + layer for layer in range(LAYERS)},
        limits={
            Trim(0.2, "model"): tuple(TrimLimit(float(v.abs().median()), EVERY) for v in vectors)
        },
    )


def make_stats(plugin: Plugin[Any], group: TensorGroup) -> Stats:
    """Random statistics of the kinds that a step reads, for each of the checkpoints it names."""
    models = len(group.vectors)
    counts = {"base": 1, "merged": 1, "models": models, "members": models + 1}
    sizes = {NAME.format(layer): group.base.numel() for layer in range(LAYERS)}
    return {
        kind: tuple(
            StepStatistics(_tensors(kind, group.base, i), sizes) for i in range(counts[whose])
        )
        for kind, whose in plugin.traits.stats.items()
    }


def _tensors(kind: str, base: Tensor, seed: int) -> dict[str, Tensor]:
    """Statistics of one checkpoint, as calibration would write them."""
    draw = torch.Generator().manual_seed(seed)
    names = [NAME.format(layer) for layer in range(LAYERS)]
    if kind == "mutual_information":
        parts = ["embed", *(f"layer.{layer}" for layer in range(LAYERS)), "norm", "lm_head"]
        return {part: torch.rand(12, generator=draw) for part in parts}
    if kind == "gram":
        inputs = torch.randn(30, base.shape[-1], generator=draw)
        return {name: inputs.T @ inputs / 30 for name in names if base.ndim == 2}
    shape = {"activations": base.shape[-1:], "sensitivity": (), "fisher": base.shape}[kind]
    return {name: torch.rand(tuple(shape), generator=draw) for name in names}


def run_chain(
    chain: tuple[Plugin[Any] | None, ...], group: TensorGroup, *, zero: bool = False
) -> Tensor:
    """The tensor that a transform, a method and an adjustment make of a group."""
    before, method, after = chain
    assert method is not None
    if before is not None:
        group = before.function(given(before, group), **defaults(before))
    params = defaults(method) | (dict(method.traits.zero_params) if zero else {})
    merged: Tensor = method.function(given(method, group), **params)
    if after is not None:
        merged = after.function(given(after, group), merged, **defaults(after))
    return merged


def given(plugin: Plugin[Any], group: TensorGroup) -> TensorGroup:
    """The group as the engine gives it to a step."""
    return replace(group, stats=make_stats(plugin, group))


@functools.cache
def _defaults(family: str, name: str) -> dict[str, Any]:
    registry = {r.family: r for r in (TRANSFORMS, METHODS, ADJUSTMENTS)}[family]
    return registry.get(name).bind({}, where="contract")


def defaults(plugin: Plugin[Any]) -> dict[str, Any]:
    """A plug-in's parameters where the user gives none."""
    return _defaults(plugin.family, plugin.name)


def named(chain: tuple[Plugin[Any] | None, ...]) -> str:
    """A readable name of a chain."""
    return "-".join(plugin.name if plugin else "none" for plugin in chain)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("chain", CHAINS, ids=named)
def test_a_chain_keeps_shape_and_type_and_stays_finite(
    chain: tuple[Plugin[Any], ...], shape: tuple[int, ...]
) -> None:
    merged = run_chain(chain, make_group(chain[1], shape))
    assert merged.shape == shape
    assert merged.dtype == torch.float32
    assert bool(torch.isfinite(merged).all())


@pytest.mark.parametrize("chain", CHAINS, ids=named)
def test_a_chain_changes_nothing_it_was_given(chain: tuple[Plugin[Any], ...]) -> None:
    group = make_group(chain[1], (6, 10))
    base, vectors = group.base.clone(), group.vectors.clone()
    run_chain(chain, group)
    assert torch.equal(group.base, base)
    assert torch.equal(group.vectors, vectors)


@pytest.mark.parametrize("chain", CHAINS, ids=named)
def test_a_chain_of_zero_vectors_gives_the_base(chain: tuple[Plugin[Any], ...]) -> None:
    group = make_group(chain[1], (6, 10))
    zero = replace(group, vectors=torch.zeros_like(group.vectors))
    assert torch.allclose(run_chain(chain, zero, zero=True), group.base, rtol=1e-6, atol=0)


@pytest.mark.parametrize("chain", CHAINS, ids=named)
def test_a_chain_gives_the_same_bytes_every_time(chain: tuple[Plugin[Any], ...]) -> None:
    first, second = (run_chain(chain, make_group(chain[1], (6, 10))) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "plugin", [*TRANSFORMS.all(), *METHODS.all(), *ADJUSTMENTS.all()], ids=lambda p: p.name
)
def test_a_plugin_explains_itself(plugin: Plugin[Callable[..., Any]]) -> None:
    assert plugin.summary.endswith(".")
    assert "Source:" in plugin.help
    assert [p.name for p in plugin.parameters if not p.help] == []


NO_OPS = [p for r in (TRANSFORMS, METHODS, ADJUSTMENTS) for p in r.all() if p.traits.no_op_at]


@pytest.mark.parametrize("plugin", NO_OPS, ids=lambda p: p.name)
def test_parameters_declared_as_no_op_change_nothing(plugin: Plugin[Any]) -> None:
    group = given(plugin, make_group(plugin, (6, 10)))
    params = plugin.bind(plugin.traits.no_op_at, where="contract")
    if plugin.family == "transform":
        assert torch.equal(plugin.function(group, **params).vectors, group.vectors)
    elif plugin.family == "method":
        torch.testing.assert_close(plugin.function(group, **params), group.base)
    else:
        merged = group.base + group.vectors[0]
        torch.testing.assert_close(plugin.function(group, merged, **params), merged)


@pytest.mark.parametrize("plugin", METHODS.all(), ids=lambda p: p.name)
def test_a_method_that_normalises_heeds_only_the_proportions_of_weights(
    plugin: Plugin[Any],
) -> None:
    if not plugin.traits.normalises:
        pytest.skip(f"{plugin.name} does not say that it normalises")
    group = given(plugin, make_group(plugin, (6, 10)))
    weights = tuple(0.25 + i for i in range(len(group.vectors)))
    params = plugin.bind({}, where="contract")
    one = plugin.function(replace(group, weights=weights), **params)
    two = plugin.function(replace(group, weights=tuple(2 * w for w in weights)), **params)
    torch.testing.assert_close(one, two)
