"""What a training refuses before it begins, how a checkpoint is chosen, what a run would cost."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from laconic.errors import DataError, LaconicError, RecipeError, TrainError
from laconic.registry import parse_value
from laconic.runs.run import Sample
from laconic.tasks.contract.prompts import BOXED, PROMPTS, put
from laconic.training.bounds import Measurement
from laconic.training.controllers.contract import load_controller
from laconic.training.cost import Rates, preview, to_text
from laconic.training.data.mixture import MixturePlan, split_pools
from laconic.training.data.prompt_check import prompt_warnings
from laconic.training.data.sampler import MixtureSampler
from laconic.training.distributed import refuse_launch
from laconic.training.evaluators import ask_apart
from laconic.training.mixture_state import MixtureState
from laconic.training.prepare import PreparedTraining, prepare
from laconic.training.presets.load import PRESETS, read_launch
from laconic.training.recipe import EvaluatorSection, SelectSection, TrainRecipe, set_value
from laconic.training.run_folder import RunFolder
from laconic.training.selection import Candidate, lacking, ranked, reached_plateau, should_stop
from tests.support.trainings import recipe_values, rows, write_pools

SYSTEM2 = Candidate(step=0, accuracy=0.9, length=300, truncated=0.01, thinking=1.0)


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pools(tmp_path_factory.mktemp("recipe") / "pools")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rates": 1e-5}, r"a training recipe has no key 'rates'\. Did you mean 'rate'"),
        ({"select": {"margn": 0}}, r"'select' has no key 'margn'\. Did you mean 'margin'"),
        ({"batch": {"per_device": 0}}, r"batch\.per_device is 0: input should be greater"),
        ({"rate": "fast"}, r"rate is 'fast': input should be a valid number"),
        ({"schedule": "cosin"}, r"schedule is 'cosin': input should be 'constant', 'linear'"),
        ({"every": 9}, r"every is 9, but there are only 8 steps"),
        ({"bounds": {}}, r"lacks 'bounds\.system1'"),
        ({"bounds": {"system1": {"accuracy": 2, "length": 5, "n": 9}}}, r"bounds\.system1"),
        ({"dev": {"task": "lab", "heldout": 1}}, r"dev\.heldout is 1"),
    ],
)
def test_a_recipe_says_what_is_wrong_with_it(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        TrainRecipe.from_dict(recipe_values(Path("pools"), **changes))


def test_a_recipe_survives_yaml_and_numbers_without_a_point(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(recipe_values(Path("pools"))).replace("5.0e-05", "5e-5")
    )
    read = TrainRecipe.from_yaml(tmp_path / "recipe.yaml")
    assert read.rate == 5e-5
    again = TrainRecipe.from_dict(yaml.safe_load(yaml.safe_dump(read.to_dict())))
    assert again == read
    assert again.digest == read.digest
    how = {**read.to_dict(), "workers": 3}
    what = {**read.to_dict(), "seed": 3}
    assert TrainRecipe.from_dict(how).digest == read.digest
    assert TrainRecipe.from_dict(what).digest != read.digest


def test_set_reaches_into_sections() -> None:
    values = recipe_values(Path("pools"))
    set_value(values, "select.margin", 0.1)
    set_value(values, "steps", 9)
    assert (values["select"]["margin"], values["steps"]) == (0.1, 9)
    with pytest.raises(RecipeError, match="'steps' is 9, and has no keys"):
        set_value(values, "steps.more", 1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch": {"per_device": 31}}, r"Pool 'long' has 30 rows, fewer than one step takes \(31"),
        ({"max_length": 300}, r"Pool 'long': \d+ of 30 rows are longer than max_length \(300 tok"),
        ({"max_length": 2000}, r"the window of lab:system2 holds 1024 tokens"),
        ({"controller": "tdlr"}, r"No controller 'tdlr'\. Did you mean 'tldr'"),
        ({"controller": {"tldr": {}, "static": {}}}, r"controller names 2 controllers"),
        ({"controller": "tldr"}, r"tldr needs bounds: measure System 1 and System 2"),
        ({"controller": {"schedule": {"points": [[0, 1.0]]}}}, r"schedule"),
        ({"controller": {"tldr": {"eta": -1}}}, r"tldr\.eta must be"),
        ({"lora": {"targets": ["lm_head"]}}, r"'lm_head' is the head of lab:system2"),
        ({"lora": {"targets": ["q_proj", "qproj"]}}, r"no module of .* Did you mean 'q_proj'"),
        ({"lora": {"targets": "q_proj"}}, r"'q_proj' names no module .* Write a list of names"),
        ({"lora": {"targets": ["embed_tokens"]}}, r"embedding of lab:system2, to which its head"),
        ({"lora": {"targets": ["norm"]}}, r"'norm' is a \w+RMSNorm of lab:system2, and adapters"),
        ({"lora": {"targets": ["mlp"]}}, r"'mlp' is a \w+MLP of .* go on matrices: down_proj, gat"),
        ({"dev": {"task": "lab", "limit": 1}}, r"leaves 1 to steer by and 0 held out"),
        ({"evaluator": {"backend": "vllm"}}, r"vllm cannot hold the model in training"),
        (
            {"dev": {"task": "lab_planted", "limit": 4}, "evaluator": {"where": "apart"}},
            r"needs a prefill, a raw prompt or two calls, which evaluator\.where: apart",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    pools: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(LaconicError, match=sentence):
        prepare(TrainRecipe.from_dict(recipe_values(pools, **changes)), 1)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"], r".*\.v_proj"])
def test_modules_that_the_model_has_take_adapters(pools: Path, targets: object) -> None:
    assert prepare(TrainRecipe.from_dict(recipe_values(pools, lora={"targets": targets})), 1)


def test_equal_recipes_give_one_order_of_pools_whatever_the_order_of_keys(pools: Path) -> None:
    def job(**weights: float) -> PreparedTraining:
        values = recipe_values(pools)
        values["pools"]["weights"] = weights
        return prepare(TrainRecipe.from_dict(values), 1)

    sorted_, written = job(long=0.2, short=0.8), job(short=0.8, long=0.2)
    assert [pool.name for pool in sorted_.plan.pools] == ["short", "long"]
    assert sorted_.rows.weights == written.rows.weights == (0.8, 0.2)
    assert sorted_.rows.table.equals(written.rows.table)


def test_the_lines_for_a_schedule_without_names_have_the_recipes_order(pools: Path) -> None:
    values = recipe_values(pools, controller={"schedule": {"points": [[0, 0.8, 0.2]]}})
    values["pools"]["weights"] = {"long": 0.2, "short": 0.8}
    with pytest.raises(TrainError, match=r"points: \[\[0, \{long: 0.8, short: 0.2\}\]\]"):
        prepare(TrainRecipe.from_dict(values), 1)


@pytest.mark.slow
def test_rows_in_other_words_than_dev_asks_in_are_told(pools: Path) -> None:
    dev = {"task": "lab:split=dev", "limit": 8, "prompt": "boxed"}
    job = prepare(TrainRecipe.from_dict(recipe_values(pools, dev=dev)), 1)
    assert len(job.warnings) == 2
    assert job.warnings[0].startswith("40 of 40 questions of pool 'short' are not in the words")
    facts = preview(job.recipe, processes=1, rates=Rates())
    assert "warning: 30 of 30 questions of pool 'long'" in to_text(facts)
    assert prepare(TrainRecipe.from_dict(recipe_values(pools)), 1).warnings == ()
    boxed = f"2+3?\n{BOXED}"
    asked = {"mixed": ["2+3?", boxed], "same": [boxed]}
    assert [note[:39] for note in prompt_warnings(asked, "boxed")] == [
        "1 of 2 questions of pool 'mixed' are no"
    ]
    assert len(prompt_warnings(asked, "{problem}")) == 2
    assert prompt_warnings({"own": ["Q: 2+3? A:"]}, "Q: {problem} A:") == ()
    for name, one in PROMPTS.items():
        made = put(one, Sample("t", "1", "2+3?", "5")).problem
        assert prompt_warnings({"pool": [made]}, name) == ()


def test_a_launch_that_is_not_what_it_says_is_refused() -> None:
    alone = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_USE_CPU": "True"}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    ranked = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    for allowed in ({}, alone, meeting, alone | meeting | ranked, meeting | ranked):
        refuse_launch(allowed)
    with pytest.raises(TrainError, match=r"asked for several processes and started one.*torchrun"):
        refuse_launch(alone | meeting)


def test_values_of_the_command_line_may_be_yaml() -> None:
    for text, value in (
        ("{rank: 4, targets: [q_proj]}", {"rank": 4, "targets": ["q_proj"]}),
        ("[q_proj, v_proj]", ["q_proj", "v_proj"]),
        ('{"rank": 4}', {"rank": 4}),
        ("1e-5", 1e-5),
        ("{problem}", "{problem}"),
        ("{problem}\nBriefly: yes.", "{problem}\nBriefly: yes."),
        ("[unfinished", "[unfinished"),
        ("tldr:eta=1", "tldr:eta=1"),
    ):
        assert parse_value(text) == value
    values = {"lora": None}
    set_value(values, "lora.rank", 4)
    assert values == {"lora": {"rank": 4}}


def test_pools_that_do_not_fit_are_refused(pools: Path, tmp_path: Path) -> None:
    recipe = TrainRecipe.from_dict(recipe_values(pools))
    with pytest.raises(TrainError, match=r"fewer than one step takes \(32\)"):
        prepare(recipe, 8)

    def refuse(folder: Path, sentence: str, **section: Any) -> None:
        values = recipe_values(folder)
        values["pools"] |= section
        with pytest.raises(LaconicError, match=sentence):
            prepare(TrainRecipe.from_dict(values), 1)

    refuse(tmp_path, "has no manifest.json: it is no packed data")
    refuse(pools, "no pool 'shrt'. Did you mean 'short'", weights={"shrt": 1.0})
    refuse(pools, "The weights sum to 0.7, not 1", weights={"short": 0.5, "long": 0.2})
    refuse(pools, "no pool 'lng'. Did you mean 'long'", roles={"lng": "accuracy"})
    short = rows("base", 8, seed=0)
    refuse(write_pools(tmp_path / "empty", {"short": short, "long": []}), "Pool 'long' is empty")
    for what in ("tokenizer", "template"):
        other = write_pools(tmp_path / what, {"short": short}, **{what: "0" * 16})
        refuse(other, "was packed with the .* of lab:system2, and lab:system2 has another")
    task = tmp_path / "seen.jsonl"
    asked = {"problem": short[3]["question"].upper().replace("\n", "  "), "answer": "1"}
    task.write_text(json.dumps(asked) + "\n" + json.dumps({"problem": "?", "answer": "2"}) + "\n")
    values = recipe_values(write_pools(tmp_path / "few", {"short": short}))
    values["dev"] = {"task": str(task)}
    with pytest.raises(
        TrainError, match="Pool 'short' answers 1 of the dev problems, first '1' of"
    ):
        prepare(TrainRecipe.from_dict(values), 1)


@pytest.mark.slow
def test_the_dev_problems_are_split_once_and_for_all(pools: Path) -> None:
    changes = {"dev": {"task": "lab:split=dev", "limit": 30, "heldout": 0.6}}
    dev = prepare(TrainRecipe.from_dict(recipe_values(pools, **changes)), 1).dev
    assert dev.heldout is not None
    assert (len(dev.steer.samples), len(dev.heldout.samples)) == (12, 18)
    assert not {s.id for s in dev.steer.samples} & {s.id for s in dev.heldout.samples}
    again = prepare(TrainRecipe.from_dict(recipe_values(pools, **changes, seed=5)), 1).dev
    assert again.conditions == dev.conditions
    other = recipe_values(pools, **changes)
    other["sampling"] = {"max_tokens": 7}
    assert prepare(TrainRecipe.from_dict(other), 1).dev.conditions != dev.conditions


def test_the_shortest_checkpoint_that_is_good_enough_is_the_best() -> None:
    rule = SelectSection(margin=0.02, thinking=0.98)
    seen = [
        Candidate(1, 0.90, 290, 0.0, 1.0),
        Candidate(2, 0.88, 200, 0.0, 1.0),
        Candidate(3, 0.88, 210, 0.0, 1.0),
        Candidate(4, 0.87, 100, 0.0, 1.0),
        Candidate(5, 0.95, 150, 0.04, 1.0),
        Candidate(6, 0.95, 150, 0.0, 0.9),
    ]
    assert [one.step for one in ranked(seen, SYSTEM2, rule)] == [2, 3, 1, 5, 6, 4]
    told_ = {one.step: lacking(one, SYSTEM2, rule) for one in seen}
    assert told_[4] == "accuracy 0.870 is below 0.880"
    assert told_[5] == "4.0% cut off, more than 3.0%"
    assert told_[6] == "closes a thought in 90.0%, System 2 in 100.0%"
    assert {step for step, why in told_.items() if not why} == {1, 2, 3}
    late = SelectSection(first=3)
    assert ranked(seen, SYSTEM2, late)[0].step == 3
    patient, eager = SelectSection(patience=5), SelectSection(patience=4)
    assert should_stop(seen, SYSTEM2, patient) == ""
    assert (
        should_stop(seen, SYSTEM2, eager) == "no better checkpoint than step 2's in 4 evaluations"
    )


def test_training_stops_where_mixture_length_and_accuracy_stand_still() -> None:
    def to_text(
        lengths: list[float], accuracies: list[float], shares: list[float], first: float = 0.4
    ) -> str:
        records = [
            {
                "step": 2 * place,
                "before": {"short": first if place == 1 else share, "long": 1 - share},
                "after": {"short": share, "long": 1 - share},
                "measured": {"length": length, "accuracy": right, "accuracy_se": 0.02},
            }
            for place, (length, right, share) in enumerate(
                zip(lengths, accuracies, shares, strict=True), start=1
            )
        ]
        return reached_plateau(records, SelectSection(plateau=3))

    level, right, still = [400, 200, 201, 203, 199.9], [0.95, 0.9, 0.91, 0.9, 0.92], [0.5] * 5
    sentence = "mixture, length and accuracy stand still since step 4, 3 evaluations ago"
    assert to_text(level, right, still) == sentence
    assert to_text(level, right, still, first=0.5) == ""
    assert to_text(level[2:], right[2:], still[2:]) == ""
    assert to_text([*level[:4], 195], right, still) == ""
    assert to_text(level, [*right[:4], 0.93], still) == ""
    assert to_text(level, right, [0.5, 0.5, 0.507, 0.514, 0.521]) == ""
    assert reached_plateau([], SelectSection(plateau=None)) == ""


def test_fewer_loader_processes_never_redraw_what_was_drawn() -> None:
    plan = MixturePlan(split_pools(["short", "long"], [0, 1] * 8, [5] * 16), block=2, blocks=30)

    def steering(ahead: int) -> MixtureState:
        ends = {"short": 0.5, "long": 0.5}, {"short": 1.0, "long": 0.0}
        controller = load_controller("schedule", {"points": [[0, ends[0]], [30, ends[1]]]})
        state = controller.start({"short": 0.5, "long": 0.5})
        sampler = MixtureSampler(plan, state.weights)
        return MixtureState(controller, state, sampler, SYSTEM2, SelectSection(), ahead)

    first = steering(ahead=9)
    rows_ = iter(first.sampler)
    for _ in range(2 * 13):
        next(rows_)
    kept = json.loads(json.dumps(first.to_dict()))
    again = steering(ahead=1)
    again.restore(plan, kept)
    again.observe(Measurement(4, 9, 0.9, 0.1, 100.0, 5.0), SYSTEM2)
    assert again.records[0]["from_step"] == 13
    assert again.records[0]["tokens"] == 4 * 2 * 5
    with pytest.raises(TrainError, match="state is damaged"):
        again.restore(plan, {**kept, "candidates": 3})


@pytest.mark.slow
def test_an_evaluation_apart_that_fails_says_why(pools: Path, tmp_path: Path) -> None:
    dev = prepare(TrainRecipe.from_dict(recipe_values(pools)), 1).dev
    with pytest.raises(TrainError, match=r"The evaluation apart failed: .*no-such-model"):
        ask_apart(
            str(tmp_path / "no-such-model"),
            dev.steer,
            dev.sampling,
            evaluator=EvaluatorSection(where="apart"),
            output=tmp_path / "evals" / "step-000002",
        )


def test_a_dry_run_counts(pools: Path) -> None:
    recipe = TrainRecipe.from_dict(recipe_values(pools))
    facts = preview(recipe, processes=2, rates=Rates(1000, 500))
    assert (facts["rows_per_step"], facts["evaluations"]) == (8, 4)
    mean = facts["tokens_per_row"]
    assert facts["tokens_trained"] == pytest.approx(8 * 8 * mean, rel=1e-3)
    assert facts["tokens_generated"] == 6 * (4 * (4 + 1) + 4 * 2)
    assert facts["parameters"] == 817_152
    assert "at most 6 tokens, the budget" in to_text(facts)
    with pytest.raises(TrainError, match="rate of training is 0 tokens/s"):
        Rates(training=0)


@pytest.mark.parametrize("name", PRESETS.names())
def test_a_preset_is_a_recipe_with_its_papers_figures(name: str) -> None:
    preset = PRESETS.get(name)
    recipe = TrainRecipe.from_dict(preset.recipe)
    facts = preview(recipe, processes=8, rates=Rates(), preset=preset)
    if name == "lab":
        return
    assert facts["rows_per_step"] == {"tldr-7b": 8, "tldr-14b": 32}[name]
    assert facts["answers_per_evaluation"] == 512
    assert load_controller("tldr", {"preset": "paper"}).params["eta"] == 4
    accuracy, length = preset.figures["TL;DR"]["GSM8K"]
    assert (accuracy, length) == {"tldr-7b": (87.72, 254), "tldr-14b": (90.9, 240)}[name]


def test_launch_configurations_are_what_accelerate_reads(tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    for name, kind in (("fsdp2", "FSDP"), ("zero3", "DEEPSPEED")):
        path = tmp_path / f"{name}.yaml"
        path.write_text(read_launch(name))
        read = load_config_from_file(str(path))
        assert str(read.distributed_type).endswith(kind)
        assert read.num_processes == 8
    with pytest.raises(RecipeError, match=r"no launch configuration 'fsdp'\. Did you mean 'fsdp2'"):
        read_launch("fsdp")


def call(*words: str) -> int:
    from laconic.cli import main

    sys.argv = ["laconic", *words]
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_the_command_line_checks_counts_and_writes(
    pools: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe_values(pools)))
    assert call("train", "recipe.yaml", "-o", "short", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 8
    assert call("train", "recipe.yaml", "-o", "short", "--set", "stps=3") == 2
    assert "has no key 'stps'. Did you mean 'steps'?" in capsys.readouterr().err.replace("\n", " ")
    assert call("train", "-o", "short") == 2
    assert call("train", "--preset", "tldr-8b", "-o", "short", "--dry-run") == 2
    assert not Path("short").exists()
    assert call("train", "--write", "fsdp2", "-o", "fsdp2.yaml") == 0
    wanted = ("train", "--preset", "tldr-7b", "--write", "recipe", "-o", "paper.yaml")
    assert call(*wanted, "--set", "steps=256") == 0
    assert TrainRecipe.from_yaml("paper.yaml").steps == 256
    assert call(*wanted) == 2
    assert "paper.yaml exists" in capsys.readouterr().err


def test_what_training_takes_is_asked_for_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    for package in ("accelerate", "trl"):
        monkeypatch.setitem(sys.modules, package, None)
    assert call("train", "--preset", "lab", "-o", "short") == 2
    told_ = capsys.readouterr().err.replace("\n", " ")
    assert "accelerate, trl are not installed: pip install 'laconic[train]'" in told_
    assert not Path("short").exists()


def test_what_a_stopped_run_left_behind_is_taken_away(tmp_path: Path) -> None:
    places = RunFolder(tmp_path)
    for folder in (places.evaluation(2), places.evaluation(4), places.partial):
        folder.mkdir(parents=True)
    places.forget(2)
    assert [path.name for path in (tmp_path / "evals").iterdir()] == ["step-000002"]
    assert not places.partial.exists()
    for step in (2, 4, 6):
        places.checkpoint(step).mkdir(parents=True)
        for file in ("model.safetensors", "optimizer.pt", "rng_state.pth", "config.json"):
            (places.checkpoint(step) / file).touch()
    places.prune([2])
    assert places.steps() == [6]
    kept = sorted(path.name for path in places.candidate(2).iterdir())
    assert kept == ["config.json", "model.safetensors"]
    assert not places.candidate(4).exists()
    assert places.model(2) == places.candidate(2)
    assert (places.checkpoint(6) / "optimizer.pt").exists()
    with pytest.raises(DataError, match="is not the file that was packed"):
        _damaged(tmp_path)


def _damaged(folder: Path) -> None:
    pools = write_pools(folder / "pools", {"short": rows("base", 4, seed=0)})
    with (pools / "short.parquet").open("ab") as stream:
        stream.write(b"x")
    prepare(TrainRecipe.from_dict(recipe_values(pools)), 1)
