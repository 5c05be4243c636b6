"""The contract of tasks, with default parameters; one that reads rows is given its example."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from laconic.tasks.contract.dataset import read_rows
from laconic.tasks.contract.task import TASKS, load_task

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.registry import Plugin


@pytest.fixture
def problems(plugin: Plugin[Any], tmp_path: Path) -> Path | None:
    """A file of the example row of a task that reads rows; None for one that makes its own."""
    dataset = plugin.traits["dataset"]
    if dataset is None:
        return None
    path = tmp_path / f"{plugin.name}.jsonl"
    path.write_text(json.dumps(dict(dataset.example)) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("plugin", TASKS.all(), ids=lambda p: p.name)
def test_a_task_yields_the_same_answerable_samples_every_time(
    plugin: Plugin[Any], problems: Path | None
) -> None:
    parameters = plugin.bind({}, where="contract")
    first, second = (
        list(
            islice(
                plugin.function(*map(read_rows, [problems] if problems else []), **parameters), 50
            )
        )
        for _ in range(2)
    )
    assert first == second
    assert first
    assert len({sample.key for sample in first}) == len(first)
    assert all(sample.problem and sample.gold and sample.repeat == 0 for sample in first)
    assert len({sample.task for sample in first}) == 1


@pytest.mark.parametrize("plugin", TASKS.all(), ids=lambda p: p.name)
def test_a_limit_takes_the_first_samples(plugin: Plugin[Any], problems: Path | None) -> None:
    whole, part = (load_task(plugin.name, limit=n, data=problems) for n in (20, 5))
    assert part.samples == whole.samples[:5]


@pytest.mark.parametrize("plugin", TASKS.all(), ids=lambda p: p.name)
def test_a_task_explains_itself(plugin: Plugin[Any]) -> None:
    assert plugin.summary.endswith(".")
    assert [p.name for p in plugin.parameters if not p.help] == []
