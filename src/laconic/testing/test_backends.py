"""The contract of backends, on the lab's System 1, with default parameters."""

from __future__ import annotations

import importlib.util
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from laconic.backends.contract.backend import BACKENDS, Backend
from laconic.backends.contract.call import Call
from laconic.runs.experiment import Sampling
from laconic.tasks.contract.task import load_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from laconic.registry import Plugin
    from laconic.runs.run import Generation, Key, Sample

MODEL = "lab:system1"


@pytest.fixture
def options(plugin: Plugin[Any]) -> dict[str, Any]:
    """What a backend's parameters are given; override it for one that has required parameters."""
    if plugin.name == "vllm" and not _has_vllm():
        pytest.skip("vllm needs its library and a GPU")
    if any(parameter.required for parameter in plugin.parameters):
        pytest.skip(f"{plugin.name} has required parameters: override the fixture 'options'")
    return {}


def _has_vllm() -> bool:
    import torch

    return importlib.util.find_spec("vllm") is not None and torch.cuda.is_available()


def complete(
    plugin: Plugin[Any],
    samples: Sequence[Sample],
    sampling: Sampling,
    options: Mapping[str, Any],
) -> dict[Key, Generation]:
    """What a backend generates for some samples, each exactly once."""
    engine: Backend = plugin.function(MODEL, **plugin.bind(options, where="contract"))
    with closing(engine):
        calls = list(map(Call, samples))
        served = [pair for batch in engine.generate(calls, sampling) for pair in batch]
    found = {call.key: generation for call, generation in served}
    assert len(found) == len(served)
    return found


@pytest.mark.parametrize("plugin", BACKENDS.all(), ids=lambda p: p.name)
def test_every_sample_is_completed_once_within_the_budget(
    plugin: Plugin[Any], options: dict[str, Any]
) -> None:
    samples = load_task("lab", limit=6).samples
    found = complete(plugin, samples, Sampling(max_tokens=40), options)
    assert found.keys() == {sample.key for sample in samples}
    for generation in found.values():
        assert 1 <= generation.length <= 40
        assert 0 <= generation.thinking_length <= generation.length
        assert generation.finish == "stop" or generation.length == 40
        assert generation.text
    assert {g.finish for g in found.values()} == {"stop", "length"}


@pytest.mark.parametrize("plugin", BACKENDS.all(), ids=lambda p: p.name)
def test_repeats_differ_and_come_again_with_their_seed(
    plugin: Plugin[Any], options: dict[str, Any]
) -> None:
    (sample,) = load_task("lab:size=5", limit=5).samples[4:]
    samples = [replace(sample, repeat=i) for i in range(8)]
    sampling = Sampling(max_tokens=80, temperature=2.0, repeats=8, seed=3)
    first, second = (complete(plugin, samples, sampling, options) for _ in range(2))
    assert first == second
    assert len({generation.text for generation in first.values()}) > 1


@pytest.mark.parametrize("plugin", BACKENDS.all(), ids=lambda p: p.name)
def test_a_backend_explains_itself(plugin: Plugin[Any]) -> None:
    assert plugin.summary.endswith(".")
    assert [p.name for p in plugin.parameters if not p.help] == []
