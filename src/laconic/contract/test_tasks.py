"""The contract of tasks, with default parameters."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from laconic.task import TASKS, load_task

if TYPE_CHECKING:
    from laconic.registry import Plugin


@pytest.mark.parametrize("plugin", TASKS.all(), ids=lambda p: p.name)
def test_a_task_yields_the_same_answerable_samples_every_time(plugin: Plugin[Any]) -> None:
    parameters = plugin.bind({}, where="contract")
    first, second = (list(islice(plugin.function(**parameters), 50)) for _ in range(2))
    assert first == second
    assert first
    assert len({sample.key for sample in first}) == len(first)
    assert all(sample.problem and sample.gold and sample.repeat == 0 for sample in first)
    assert len({sample.task for sample in first}) == 1


@pytest.mark.parametrize("plugin", TASKS.all(), ids=lambda p: p.name)
def test_a_limit_takes_the_first_samples(plugin: Plugin[Any]) -> None:
    whole, part = load_task(plugin.name, limit=20), load_task(plugin.name, limit=5)
    assert part.samples == whole.samples[:5]


@pytest.mark.parametrize("plugin", TASKS.all(), ids=lambda p: p.name)
def test_a_task_explains_itself(plugin: Plugin[Any]) -> None:
    assert plugin.summary.endswith(".")
    assert [p.name for p in plugin.parameters if not p.help] == []
