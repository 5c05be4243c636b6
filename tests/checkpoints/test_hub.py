"""Models of the Hub, from a real server on the loopback: looked at first, fetched last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.errors import CheckpointError
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from tests.support.hub_server import Hub, serve

if TYPE_CHECKING:
    from tests.conftest import MakeCheckpoint

#: Much larger than a header, so that what was served tells whether weights were.
ROWS = 20_000


def weights(seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    names = {"model.embed_tokens.weight": (ROWS, 8), "model.layers.0.mlp.up_proj.weight": (400, 8)}
    return {
        name: torch.randn(*shape, generator=draw).to(torch.bfloat16)
        for name, shape in names.items()
    }


CONFIG = {"vocab_size": ROWS, "num_hidden_layers": 1}


@pytest.fixture
def hub(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    models = {
        "org/base": make_checkpoint("base", weights(0), config=CONFIG),
        "org/model": make_checkpoint("model", weights(1), config=CONFIG, shards=2),
    }
    with serve(models) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield served


def recipe(**change: Any) -> Recipe:
    values = {"base": "org/base", "models": ["org/model@v1"], "method": "task_arithmetic"}
    return Recipe.from_dict({**values, **change})


def weight_bytes(hub: Hub) -> int:
    return sum(size for name, size in hub.served.items() if name.endswith(".safetensors"))


def test_a_plan_needs_headers_and_a_merge_fetches_once(hub: Hub, tmp_path: Path) -> None:
    planned = plan(recipe(), tmp_path / "out")
    total = sum(
        path.stat().st_size for m in hub.models.values() for path in m.glob("*.safetensors")
    )
    assert planned.budget.download == total > 600_000
    assert weight_bytes(hub) <= 3 * 100_000
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    hub.served.clear()
    merged = merge(recipe(), tmp_path / "out")
    assert total <= weight_bytes(hub) <= total + 3 * 100_000
    local = {"base": str(hub.models["org/base"]), "models": [str(hub.models["org/model"])]}
    same = merge(recipe(**local), tmp_path / "local")
    assert all(torch.equal(merged.read(name), same.read(name)) for name in same.specs)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["inputs"]["org/model@v1"]["commit"] == hub.commit("org/model")
    assert hub.commit("org/base") in (tmp_path / "out" / "README.md").read_text()
    hub.served.clear()
    assert plan(recipe()).budget.download == 0
    assert weight_bytes(hub) == 0


def test_a_bad_recipe_fetches_no_weights(hub: Hub, tmp_path: Path) -> None:
    config = hub.models["org/model"] / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "rope_theta": 1e6}))
    with pytest.raises(CheckpointError, match="rotate positions differently"):
        merge(recipe(), tmp_path / "out")
    assert weight_bytes(hub) <= 3 * 100_000
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    assert not (tmp_path / "out").exists()


def test_a_server_that_ignores_ranges_is_cut_off_after_the_header(
    make_checkpoint: MakeCheckpoint, hub: Hub
) -> None:
    big = {"model.embed_tokens.weight": torch.zeros(4_000_000, 8, dtype=torch.bfloat16)}
    config = {"vocab_size": 4_000_000, "num_hidden_layers": 0}
    hub.models["org/big"] = make_checkpoint("big", big, config=config)
    hub.ranges = False
    opened = open_checkpoint("org/big")
    assert opened.specs["model.embed_tokens.weight"].shape == (4_000_000, 8)
    assert sum(opened.missing.values()) > 64_000_000
    assert weight_bytes(hub) < 32_000_000


def test_a_header_longer_than_the_first_request_is_read_in_two(
    make_checkpoint: MakeCheckpoint, hub: Hub
) -> None:
    many = {f"model.layers.{i}.some.long.name.of.a.weight": torch.zeros(1) for i in range(2000)}
    hub.models["org/many"] = make_checkpoint("many", many)
    assert len(open_checkpoint("org/many").specs) == 2000


def test_what_was_fetched_serves_when_the_hub_is_away(hub: Hub, tmp_path: Path) -> None:
    merge(recipe(), tmp_path / "out")
    hub.status = 503
    again = merge(recipe(), tmp_path / "again")
    first = Path(tmp_path / "out" / "model.safetensors").read_bytes()
    assert (again.folder / "model.safetensors").read_bytes() == first


def test_weights_that_are_not_what_was_announced_are_refused(hub: Hub) -> None:
    opened = open_checkpoint("org/base")
    other = {"model.embed_tokens.weight": torch.zeros(ROWS + 1, 8)}
    save_file(other, hub.models["org/base"] / "model.safetensors")
    with pytest.raises(CheckpointError, match="is not the file that the Hub announced"):
        opened.fetch()


def damage(hub: Hub, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    match how:
        case "gated":
            hub.gated.add("org/model")
        case "forbidden":
            hub.status = 403
        case "no config":
            (hub.models["org/model"] / "config.json").unlink()
        case "pickle only":
            for path in hub.models["org/model"].glob("model*"):
                path.unlink()
            (hub.models["org/model"] / "pytorch_model.bin").write_bytes(b"x")
        case "shard missing":
            next(hub.models["org/model"].glob("*00001-of*")).unlink()
        case "truncated":
            shard = next(hub.models["org/model"].glob("*00001-of*"))
            os.truncate(shard, shard.stat().st_size - 1)
        case "server error":
            hub.status = 500
        case "timeout":
            monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.3)
            hub.stall = 1.5
        case "refused connection":
            monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("how", "model", "message"),
    [
        ("", "org/modle", "no model 'org/modle' that you may read"),
        ("", "org/model@v9", "no revision 'v9'"),
        ("gated", "org/model", "org/model is gated: accept its terms"),
        ("forbidden", "org/model", "answered 403 for org/model. Log in"),
        ("no config", "org/model", "it has no config.json"),
        ("pickle only", "org/model", "pytorch_model.bin only"),
        ("shard missing", "org/model", "is missing"),
        ("truncated", "org/model", "of org/model is damaged: it has"),
        ("server error", "org/model", "answered 500 for org/model. Try again later"),
        ("timeout", "org/model", "cannot be reached: timed out"),
        ("refused connection", "org/model", "cannot be reached: "),
    ],
)
def test_what_the_hub_cannot_give_ends_in_one_clear_sentence(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    model: str,
    message: str,
) -> None:
    damage(hub, how, monkeypatch)
    changed = recipe(base=str(hub.models["org/base"]), models=[model])
    with pytest.raises(CheckpointError) as caught:
        merge(changed, tmp_path / "out")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_the_command_line_heeds_the_environments_endpoint(hub: Hub, tmp_path: Path) -> None:
    flags = ["--base", "org/base", "--model", "org/model", "--method", "ties"]
    told = subprocess.run(
        [sys.executable, "-m", "laconic", "merge", *flags, "--dry-run", "--json", "-o", "out"],
        cwd=tmp_path,
        env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert told.stderr == ""
    planned = json.loads(told.stdout)
    assert planned["commits"]["org/model"] == hub.commit("org/model")
    assert planned["bytes_download"] > 600_000
    assert weight_bytes(hub) <= 3 * 100_000


@pytest.mark.slow
def test_an_adapter_of_the_hub_is_fetched_to_be_checked_but_its_base_is_not(
    hub: Hub, tmp_path: Path
) -> None:
    folder = hub.models["org/adapter"] = tmp_path / "adapter"
    folder.mkdir()
    head = "base_model.model.model.layers.0.mlp.up_proj"
    factors = {
        f"{head}.lora_A.weight": torch.ones(2, 8),
        f"{head}.lora_B.weight": torch.ones(400, 2),
    }
    save_file(factors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "org/base"}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    planned = plan(recipe(models=["org/base+org/adapter"]), tmp_path / "out")
    base = hub.models["org/base"] / "model.safetensors"
    assert planned.budget.download == base.stat().st_size
    assert hub.served["model.safetensors"] <= 2 * 100_000
    whole = {"params": {"scale": 1.0}, "dtype": "float32"}
    merged = merge(recipe(models=["org/base+org/adapter"], **whole), tmp_path / "out")
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.allclose(merged.read(name), weights(0)[name].float() + 4, atol=1e-5)
    with pytest.raises(CheckpointError, match="no model 'org/nowhere' that you may read"):
        plan(recipe(models=["org/base+org/nowhere"]))
