"""The main job on the lab pair, smaller than `make demo`: fewer problems, a wider margin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import laconic
from laconic.lab.demo import candidates, demo
from laconic.runs.run import read_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_the_demo_finds_a_shorter_merge_that_is_not_worse(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def watch(done: int, total: int, note: str = "") -> None:
        seen.append((done, total))

    made = demo(tmp_path / "demo", dev=30, test=60, workers=2, margin=0.3, progress=watch)
    assert len(candidates()) >= 8
    assert made.found.chosen in candidates()
    assert seen[-1][0] == seen[-1][1]
    (verdict,) = (p for p in made.test.pairs if p.name == made.found.chosen)
    assert verdict.not_worse.verdict == "yes"
    assert verdict.length_change.high < -0.3
    assert verdict.n == 60

    merged = laconic.open_checkpoint(tmp_path / "demo" / "merged")
    assert (
        merged.fingerprint
        == read_run(tmp_path / "demo" / "test" / verdict.name).experiment.model_digest
    )
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert {row["task"] for row in report["runs"]} == {"lab", "lab-dev"}
    assert (tmp_path / "demo" / "report.html").exists()
    assert (tmp_path / "demo" / "report.png").exists()
    text = made.to_text()
    assert "not worse" in text
    assert str(tmp_path / "demo" / "merged") in text

    asked = {r.problem for r in read_run(tmp_path / "demo" / "dev" / "system2").results}
    proved = {r.problem for r in read_run(tmp_path / "demo" / "test" / "system2").results}
    assert not asked & proved
