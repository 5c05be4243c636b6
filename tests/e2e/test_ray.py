"""Merges divided over the workers of a real Ray cluster of two processors on this machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from laconic.engine import Means
from laconic.errors import CheckpointError, RecipeError, WorkerError
from laconic.merge import merge
from laconic.recipe import Recipe
from tests.conftest import MakeCheckpoint

ray: Any = pytest.importorskip("ray", reason="Ray is not installed: pip install 'laconic[ray]'")

#: Bytes of an output file: six of them, of several tensors each.
SHARD = 120_000
MODEL = {"density": 0.3, "scope": "model"}
RECIPES: dict[str, dict[str, Any]] = {
    "ties": {"method": "ties", "params": {"density": 0.3}},
    "ties over the model": {"method": "ties", "params": MODEL},
    "exactly k over the model": {"method": "ties", "params": {**MODEL, "ties": "exact"}},
    "two rounds": {"method": "ties", "params": MODEL, "before": [{"trim": MODEL}]},
    "dare": {"method": "task_arithmetic", "before": [{"dare": {"density": 0.5}}]},
    "slerp": {"method": "slerp", "params": {"t": 0.4}},
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster that this process is part of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        context = ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error"
        )
        try:
            yield context.address_info["address"]
        finally:
            ray.shutdown()


@pytest.fixture
def pair(make_checkpoint: MakeCheckpoint) -> tuple[str, str]:
    """Two checkpoints of 40 tensors each."""
    draw = torch.Generator().manual_seed(0)
    shapes = {f"model.layers.{i % 2}.w{i}.weight": (101, 83) for i in range(40)}
    base, model = (
        make_checkpoint(
            name, {n: torch.randn(s, generator=draw).bfloat16() for n, s in shapes.items()}
        )
        for name in ("base", "model")
    )
    return str(base), str(model)


def recipe(pair: tuple[str, str], **values: Any) -> Recipe:
    return Recipe([pair[1]], base=pair[0], **values)


def digests(folder: Path) -> dict[str, str]:
    """Of every file that the merge decides; run.json and the card hold the command."""
    return {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.iterdir()
        if p.name not in {"run.json", "README.md"}
    }


@pytest.mark.parametrize("values", RECIPES.values(), ids=RECIPES)
def test_workers_give_the_bytes_of_one_process(
    cluster: str, pair: tuple[str, str], tmp_path: Path, values: dict[str, Any]
) -> None:
    seen: list[tuple[int, int]] = []
    merge(recipe(pair, **values), tmp_path / "plain", shard_bytes=SHARD)
    merge(
        recipe(pair, **values),
        tmp_path / "split",
        shard_bytes=SHARD,
        means=Means(ray=cluster),
        progress=lambda done, total, note="": seen.append((done, total)),
    )
    assert len(list((tmp_path / "split").glob("*.safetensors"))) > 5
    assert digests(tmp_path / "split") == digests(tmp_path / "plain")
    assert seen[-1] == (40, 40)
