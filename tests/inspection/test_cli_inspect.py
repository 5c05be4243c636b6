"""laconic inspect as a user meets it: real processes, the lab's models, right and wrong input."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from laconic.lab import write_variants
from tests.support.command import laconic
from tests.test_docs import blocks

if TYPE_CHECKING:
    from pathlib import Path


def test_the_lab_family_is_inspected(tmp_path: Path) -> None:
    told = laconic(
        *("inspect", "lab:base", "lab:system1", "lab:system2"),
        *("--json", "pair.json", "--picture", "pair.png"),
        cwd=tmp_path,
    )
    assert "Compatible: yes." in told.stdout
    assert "Base: lab:base fits." in told.stdout
    assert "Wrote pair.json." in told.stderr
    held = json.loads((tmp_path / "pair.json").read_text())
    assert held["choice"]["fit"] == "fits"
    assert 0.07 < held["whole"]["models"][1]["relative"] < 0.08
    assert (tmp_path / "pair.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_page_shows_what_the_command_prints(tmp_path: Path) -> None:
    family, swapped = blocks("docs/inspect.md", "text")
    told = laconic("inspect", "lab:base", "lab:system1", "lab:system2", cwd=tmp_path)
    assert told.stdout.strip() == family.strip()
    told = laconic("inspect", "lab:system2", "lab:base", "lab:system1", cwd=tmp_path)
    assert told.stdout.startswith(swapped.strip())


def test_json_alone_is_printed_and_swapped_roles_are_found(tmp_path: Path) -> None:
    told = laconic("inspect", "lab:system2", "lab:base", "lab:system1", "--json", "-", cwd=tmp_path)
    held = json.loads(told.stdout)
    assert (held["choice"]["fit"], held["choice"]["best"]) == ("another", "lab:base")


@pytest.mark.slow
def test_the_other_shapes_of_the_lab_are_inspected(tmp_path: Path) -> None:
    write_variants(tmp_path / "v")
    plain = laconic("inspect", "lab:base", "lab:system2", "--json", "-", cwd=tmp_path)
    whole = json.loads(plain.stdout)["whole"]["models"][0]["vector_norm"]
    for name in ("system2-sharded", "system2-other-vocabulary"):
        told = laconic("inspect", "lab:base", f"v/{name}", "--json", "-", cwd=tmp_path)
        held = json.loads(told.stdout)
        assert held["whole"]["models"][0]["vector_norm"] == pytest.approx(whole, rel=1e-12)
        assert held["siblings"][0]["fits"]
    told = laconic("inspect", "v/base-short-window", "v/system2-llama", cwd=tmp_path)
    assert "Compatible: no." in told.stdout
    assert "model_type" in told.stdout
    told = laconic("inspect", "v/base-short-window", "v/system2-untied", "--layers", cwd=tmp_path)
    assert "The context window is 256" in told.stdout
    assert "The output head is tied" in told.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "lab:base"], "There is no folder nowhere"),
        (["lab:base", "lab:sistem2"], "Did you mean 'lab:system2'?"),
        (["lab:base", "lab:system2", "--candidate", "nowhere"], "There is no folder nowhere"),
        (["lab:base", "lab:system2", "--picture", "a.jpeg"], ".png or .svg"),
        (["lab:base", "lab:system2", "--json", "none/a.json"], "there is no folder none"),
        (["lab:base"], "Missing argument"),
    ],
)
def test_wrong_input_ends_in_a_sentence(arguments: list[str], words: str, tmp_path: Path) -> None:
    told = laconic("inspect", *arguments, cwd=tmp_path, code=2)
    assert words in " ".join(told.stderr.split())
    assert told.stdout == ""
    assert not list(tmp_path.iterdir())
