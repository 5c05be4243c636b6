"""Statistics that a recipe names: matched by fingerprint, and told of with the next command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from laconic.calibration.record import Calibration, Kind, merge_of
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.errors import CalibrationError, LaconicError, RecipeError
from laconic.merging.engine.options import ExecutionOptions
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe

if TYPE_CHECKING:
    from tests.conftest import MakeCheckpoint


@pytest.fixture
def pair(make_checkpoint: MakeCheckpoint) -> tuple[Path, Path]:
    return make_checkpoint("one", 1), make_checkpoint("two", 2)


def calibrated(
    measured: Path, kind: Kind, *, against: Path | None = None, lacking: str = "", **facts: Any
) -> str:
    """A file of made-up statistics of a model, beside its folder."""
    checkpoint = open_checkpoint(measured)
    draw = torch.Generator().manual_seed(len(measured.name))
    tensors = {}
    for name, spec in checkpoint.specs.items():
        shape = {"activations": spec.shape[-1:], "sensitivity": (), "fisher": spec.shape}.get(kind)
        if shape is not None and ("layers" in name or kind != "sensitivity") and name != lacking:
            tensors[name] = torch.rand(shape, generator=draw)
    if kind == "mutual_information":
        tensors = {
            p: torch.rand(12, generator=draw) for p in ("embed", "layer.0", "layer.1", "norm")
        }
    values: dict[str, Any] = {
        "kind": kind,
        "model": checkpoint.fingerprint,
        "model_name": str(measured),
        "data": "d1",
        "data_name": "d.jsonl",
        "samples": 100,
        "tokens": 1000,
        "tensors": tensors,
    }
    if against:
        values |= {"against": open_checkpoint(against).fingerprint, "against_name": str(against)}
    path = measured.with_name(f"{measured.name}-{kind}.safetensors")
    Calibration(**values | facts).write(path)
    return str(path)


def recipe(pair: tuple[Path, Path], **values: Any) -> Recipe:
    one, two = map(str, pair)
    return Recipe(**{"base": one, "models": [two], "method": "task_arithmetic", **values})


def aim(stats: object, **params: Any) -> Mapping[str, Any]:
    return {"after": [{"aim": {"stats": stats, **params}}]}


def command(model: Path, kind: str) -> str:
    return f"laconic calibrate {model} --data FILE --stats {kind} -o "


def test_files_find_their_checkpoints_by_fingerprint_and_not_by_order(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    files = [calibrated(model, "sensitivity") for model in pair]
    made = [
        merge(recipe(pair, method="sens", params={"stats": stats}), tmp_path / name)
        for name, stats in (("a", files), ("b", files[::-1]))
    ]
    for name in made[0].specs:
        assert torch.equal(made[0].read(name), made[1].read(name))
    record = json.loads((tmp_path / "a" / "run.json").read_text())
    assert [one["file"] for one in record["statistics"]] == files
    assert {one["kind"] for one in record["statistics"]} == {"sensitivity"}


def test_a_plan_tells_its_statistics_and_its_digest_heeds_them(pair: tuple[Path, Path]) -> None:
    path = calibrated(pair[0], "activations")
    first = plan(recipe(pair, **aim(path)))
    assert first.describe()["statistics"] == [
        f"{path}: activations of {pair[0]}, 100 samples of d.jsonl, 1000 tokens"
    ]
    again = plan(recipe(pair, notes=["a note"], **aim(path)))
    calibrated(pair[0], "activations", tokens=2000)
    assert plan(recipe(pair, **aim(path))).digest != first.digest == again.digest


def test_named_files_are_needed_and_the_error_ends_with_the_command(
    pair: tuple[Path, Path],
) -> None:
    with pytest.raises(
        CalibrationError, match=r"activations of the base .*after\.0\.stats"
    ) as told:
        plan(recipe(pair, after=["aim"]))
    assert command(pair[0], "activations") in str(told.value)
    assert str(told.value).endswith("-o stats/one-activations.safetensors")
    with pytest.raises(CalibrationError, match=r"--set 'stats=") as both:
        plan(recipe(pair, method="sens"))
    assert all(command(model, "sensitivity") in str(both.value) for model in pair)


def test_a_missing_file_is_told_with_the_command_that_makes_it(pair: tuple[Path, Path]) -> None:
    with pytest.raises(CalibrationError, match="is missing") as told:
        plan(recipe(pair, **aim("no/such.safetensors")))
    assert str(told.value).endswith(command(pair[0], "activations") + "no/such.safetensors")


def test_a_file_that_is_no_calibration_is_not_to_be_written_over(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("{}")
    with pytest.raises(CalibrationError, match="no calibration") as told:
        plan(recipe(pair, **aim(str(data))))
    assert str(told.value).endswith("-o stats/one-activations.safetensors")


def test_statistics_of_another_model_are_refused(pair: tuple[Path, Path]) -> None:
    path = calibrated(pair[1], "activations")
    with pytest.raises(CalibrationError, match="statistics of the base") as told:
        plan(recipe(pair, **aim(path)))
    assert command(pair[0], "activations") in str(told.value)


def test_statistics_of_another_kind_are_refused(pair: tuple[Path, Path]) -> None:
    path = calibrated(pair[0], "sensitivity")
    with pytest.raises(
        CalibrationError, match=r"holds the sensitivity of .* aim reads activations"
    ):
        plan(recipe(pair, **aim(path)))


def test_a_model_that_changed_since_it_was_measured_is_told_as_such(
    pair: tuple[Path, Path],
) -> None:
    path = calibrated(pair[0], "activations", model="0123456789abcdef")
    with pytest.raises(CalibrationError, match="has changed since"):
        plan(recipe(pair, **aim(path)))


def test_one_file_too_few_and_one_too_many_are_told(pair: tuple[Path, Path]) -> None:
    one, two = (calibrated(model, "sensitivity") for model in pair)
    with pytest.raises(CalibrationError, match="also reads sensitivity of the model") as told:
        plan(recipe(pair, method="sens", params={"stats": one}))
    assert command(pair[1], "sensitivity") in str(told.value)
    twin = Path(one).with_name("twin.safetensors")
    twin.write_bytes(Path(one).read_bytes())
    with pytest.raises(CalibrationError, match=r"twin.safetensors both hold .* Leave one out"):
        plan(recipe(pair, method="sens", params={"stats": [one, two, str(twin)]}))


def test_a_tensor_that_is_lacking_or_misshapen_is_named(pair: tuple[Path, Path]) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    path = calibrated(pair[0], "activations", lacking=name)
    with pytest.raises(CalibrationError, match=f"'{name}'. Measure again: laconic calibrate"):
        plan(recipe(pair, **aim(path)))
    path = calibrated(pair[0], "activations", tensors={name: torch.ones(3)})
    with pytest.raises(CalibrationError, match=r"the shape \[3\], .* needs \[8\]"):
        plan(recipe(pair, **aim(path)))


def test_few_samples_and_different_data_are_noted(pair: tuple[Path, Path]) -> None:
    one = calibrated(pair[0], "sensitivity", samples=3)
    two = calibrated(pair[1], "sensitivity", data="d2", data_name="slow.jsonl")
    notes = plan(recipe(pair, method="sens", params={"stats": [one, two]})).notes
    assert any("3 samples; fewer than 10" in note for note in notes)
    assert any("different data" in note and "slow.jsonl" in note for note in notes)


@pytest.mark.parametrize("stats", [3, {"a": "b"}, [1], [""]])
def test_stats_that_are_no_files_are_refused(pair: tuple[Path, Path], stats: object) -> None:
    with pytest.raises(RecipeError, match="must be a file of 'laconic calibrate'"):
        plan(recipe(pair, **aim(stats)))


def test_stats_of_a_step_that_reads_none_or_of_an_override_are_refused(
    pair: tuple[Path, Path],
) -> None:
    with pytest.raises(RecipeError, match="has no 'stats'"):
        plan(recipe(pair, params={"stats": "x"}))
    files = [calibrated(model, "sensitivity") for model in pair]
    override = [{"match": "*.mlp.*", "params": {"stats": files[0]}}]
    with pytest.raises(RecipeError, match="stats are those of the whole merge"):
        plan(recipe(pair, method="sens", params={"stats": files}, overrides=override))


def test_overrides_change_the_other_parameters(pair: tuple[Path, Path], tmp_path: Path) -> None:
    files = [calibrated(model, "sensitivity") for model in pair]
    override = [{"match": "*.mlp.*", "params": {"scale": 0.0, "rescale_base": False}}]
    said = recipe(pair, method="sens", params={"stats": files}, overrides=override)
    made, base = merge(said, tmp_path / "out"), open_checkpoint(pair[0])
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(made.read(name), base.read(name))
    other = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(made.read(other), base.read(other))


def test_without_a_base_there_are_no_statistics_of_it(pair: tuple[Path, Path]) -> None:
    path = calibrated(pair[0], "activations")
    said = {"base": None, "method": "average", **aim(path)}
    with pytest.raises(CalibrationError, match="the recipe names no base"):
        plan(recipe(pair, **said))


def test_acm_is_two_steps_and_says_so(pair: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = pair
    with pytest.raises(CalibrationError, match="without acm") as told:
        plan(recipe(pair, params={"scale": 0.5}, after=["acm"]))
    steps = str(told.value).split("after.0.stats=FILE): ")[1].split(" && ")
    assert steps[0] == (
        f"laconic merge --base {one} --model {two} --method task_arithmetic --set scale=0.5 "
        "-o step1"
    )
    assert steps[1].startswith("laconic calibrate step1 --data FILE --stats mutual_information")
    assert f"--against {one}" in steps[1]
    merge(recipe(pair, params={"scale": 0.5}), tmp_path / "step1")
    step = tmp_path / "step1"
    path = calibrated(step, "mutual_information", against=one, settings=merge_of(step))
    said = {"after": [{"acm": {"stats": path}}]}
    merge(recipe(pair, params={"scale": 0.5}, **said), tmp_path / "out")
    with pytest.raises(CalibrationError, match="what the recipe gives without acm"):
        plan(recipe(pair, params={"scale": 0.6}, **said))


@pytest.mark.parametrize(
    "options", [ExecutionOptions(block=7, threads=1), ExecutionOptions(block=64, threads=2)]
)
def test_blocks_and_threads_change_no_byte(
    pair: tuple[Path, Path], tmp_path: Path, options: ExecutionOptions
) -> None:
    path, fisher = calibrated(pair[0], "activations"), calibrated(pair[0], "fisher")
    after = [{"aim": {"stats": path}}, {"fisher_layer": {"stats": fisher, "first": 0.1}}]
    said = recipe(pair, method="ties", after=after)
    plain = merge(said, tmp_path / "plain")
    other = merge(said, tmp_path / "other", options=options)
    for name in plain.specs:
        assert torch.equal(plain.read(name), other.read(name))


def test_statistics_that_change_during_a_merge_stop_it(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    path = calibrated(pair[0], "activations")

    def rewrite(done: int, total: int, note: str = "") -> None:
        if done == 1:
            calibrated(pair[0], "activations", tokens=7)

    with pytest.raises(LaconicError, match="was changed or removed"):
        merge(recipe(pair, **aim(path)), tmp_path / "out", progress=rewrite)
    assert not (tmp_path / "out").exists()


def test_small_statistics_are_looked_at_beforehand(pair: tuple[Path, Path]) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    path = calibrated(pair[0], "activations", tensors={name: torch.full((8,), float("inf"))})
    with pytest.raises(CalibrationError, match=f"NaN or Inf for '{name}'. Measure again: laconic"):
        plan(recipe(pair, **aim(path)))


def test_statistics_that_are_not_finite_are_blamed(pair: tuple[Path, Path], tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    files = [calibrated(model, "fisher") for model in pair]
    held = {n: torch.ones(s.shape) for n, s in open_checkpoint(pair[1]).specs.items()}
    held[name] = torch.full((8, 8), float("nan"))
    files[1] = calibrated(pair[1], "fisher", tensors=held)
    models = list(map(str, pair))
    said = recipe(pair, models=models, method="fisher", params={"stats": files}, system2=models[1])
    with pytest.raises(
        LaconicError,
        match=f"the fisher statistics of '{name}' are not finite. .* laconic calibrate",
    ):
        merge(said, tmp_path / "out")
