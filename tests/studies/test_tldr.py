"""The study of training: its arms, what it refuses, the page it writes, and all of it in little."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from studies.__main__ import app
from studies.family import Family
from studies.tldr.arms import ARMS, DAMPED, MATCHED, Arm, Scale, StudyFolders, merges, recipe
from studies.tldr.page import DUELS, goal, write_tldr_page
from studies.tldr.study import TldrFindings, study_tldr
from studies.tldr.work import COST, Training
from typer.testing import CliRunner

from laconic.errors import LaconicError
from laconic.merging.plan import plan
from laconic.runs.experiment import Experiment, Sampling, TaskRecord
from laconic.runs.run import Run
from laconic.training.train import TrainRecipe
from tests.support.results import result

SHARED = ("dev", "steps", "every", "batch", "schedule", "select", "seed", "bounds", "rate")


def recipes(seed: int, folders: StudyFolders) -> dict[str, TrainRecipe]:
    shares = {"short": 0.7, "long": 0.3}
    return {
        arm.name: recipe(arm, seed, Scale(), folders, shares if arm.like else None) for arm in ARMS
    }


def weights(made: TrainRecipe) -> dict[str, float]:
    assert made.pools is not None
    return dict(made.pools.weights)


def test_all_arms_of_a_seed_are_trained_alike_but_for_their_mixture(tmp_path: Path) -> None:
    folders = StudyFolders(tmp_path)
    made = recipes(1, folders)
    assert len({one.digest for one in made.values()}) == len(ARMS)
    plain = [one.to_dict() for one in made.values()]
    for key in SHARED[:-1]:
        assert len({json.dumps(one[key], sort_keys=True) for one in plain}) == 1
    assert len({one["rate"] for one in plain if one["objective"] == "sft"}) == 1
    other = recipes(2, folders)
    for name, one in made.items():
        assert weights(one) == weights(other[name])
        assert one.to_dict()["pools"]["folder"] != other[name].to_dict()["pools"]["folder"]
        assert one.dev.task != other[name].dev.task
        assert one.seed != other[name].seed
    assert made[MATCHED].unit == "tokens"
    assert weights(made[MATCHED]) == {"short": 0.7, "long": 0.3}


def test_every_name_that_an_arm_or_a_duel_refers_to_is_an_arm() -> None:
    names = [arm.name for arm in ARMS]
    assert len(set(names)) == len(names)
    assert {arm.like for arm in ARMS if arm.like} <= {arm.name for arm in ARMS if not arm.like}
    assert {name for duel in DUELS for name in duel} <= set(names)
    for merge in merges(Family.at()).values():
        plan(merge)


def training(folder: Path, *, step: int = 4, lacking: str = "", length: float = 100) -> Training:
    """A training of two evaluations as its folder would hold it."""
    shares = ({"short": 0.2, "long": 0.8}, {"short": 0.8, "long": 0.2})
    records = [
        {
            "step": 2 * i + 2,
            "tokens": (1000, 4000)[i],
            "token_shares": shares[i],
            "measured": {"accuracy": 0.9, "length": length},
        }
        for i in range(2)
    ]
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "mixture.jsonl").write_text(lines)
    best = {"step": step, "accuracy": 0.9, "length": length}
    (folder / "run.json").write_text(json.dumps({"result": {"best": best, "lacking": lacking}}))
    (folder / COST).write_text(json.dumps({"cpu_seconds": 12.0}))
    return Training.read(folder)


def test_the_realised_share_of_tokens_weighs_each_evaluation_by_its_tokens(tmp_path: Path) -> None:
    # 1,000 tokens at 0.2 and 3,000 at 0.8: (200 + 2,400) / 4,000.
    assert training(tmp_path / "one").shares == pytest.approx({"short": 0.65, "long": 0.35})


def run(name: str, lengths: int, wrong: int, problems: int = 400) -> Run:
    """A run in which the first so many problems are wrong."""
    results = tuple(
        result(f"p{i}", lengths + i % 3, i >= wrong, task="lab", level=i % 5 + 1)
        for i in range(problems)
    )
    record = TaskRecord("lab", "lab", "digest", problems, 896)
    made = Experiment(name, "digest", (record,), Sampling(), "transformers", "float32", "", "")
    return Run(name, made, results, folder=None, complete=True)


@pytest.fixture
def found(tmp_path: Path) -> TldrFindings:
    """Two seeds of a good arm, of one that lost accuracy, and of one that is hardly shorter."""
    arms = (Arm(DAMPED, "tldr"), Arm(MATCHED, "static", like=DAMPED), Arm("constrained", "static"))
    kinds = {DAMPED: (100, 20), MATCHED: (100, 60), "constrained": (280, 20)}
    keys = [(arm.name, seed) for arm in arms for seed in (0, 1)]
    return TldrFindings(
        scale=Scale(),
        seeds=(0, 1),
        arms=arms,
        trainings={
            (name, seed): training(
                tmp_path / f"{name}-{seed}", lacking="too wrong" if name == MATCHED else ""
            )
            for name, seed in keys
        },
        data_seconds={0: 50.0, 1: None},
        test={
            "system1": run("system1", 60, 120),
            "system2": run("system2", 300, 20),
            "merge, scale 0.5": run("merge", 120, 22),
        },
        trained={(name, seed): run(name, *kinds[name]) for name, seed in keys},
        last={(name, seed): run(name, 90, 30) for name, seed in keys},
    )


@pytest.mark.slow
def test_the_page_tells_which_arms_met_the_goal(found: TldrFindings, tmp_path: Path) -> None:
    assert goal(found) == (
        "At least 45 % shorter than System 2 and not worse by 2 points, all seeds together: "
        f"{DAMPED}. Not worse, but less short: constrained."
    )
    text = write_tldr_page(found, tmp_path).read_text(encoding="utf-8")
    assert f"| {DAMPED} | 95.0 (" in text
    assert "| 2 of 2 |" in text
    assert "| 0 of 2 |" in text
    assert f"| {MATCHED} | 1 | 4\\* | 65 |" in text
    assert f"| {DAMPED} | {MATCHED} | +10.0 (" in text
    assert f"| {DAMPED} | {MATCHED} | +0.0 (" in text.partition("Without the choice")[2]
    assert "A training took 12 CPU seconds (mean of 6, 12 to 12)" in text
    for picture in ("front", "ways"):
        assert (tmp_path / f"tldr-{picture}.png").read_bytes().startswith(b"\x89PNG")
        assert f"(tldr-{picture}.png)" in text


def test_seeds_count_as_repeats_of_the_same_problems(found: TldrFindings) -> None:
    pooled = found.pooled(DAMPED)
    assert len({r.key for r in pooled}) == len(pooled) == 800
    worse = replace(found, trained={**found.trained, (DAMPED, 1): run(DAMPED, 100, 100)})
    right = sum(r.correct for r in worse.pooled(DAMPED)) / 800
    assert right == pytest.approx((380 + 300) / 800)


def test_a_folder_of_another_study_or_scale_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(LaconicError, match="holds no study"):
        study_tldr(tmp_path / "full")
    (tmp_path / "study.json").write_text(json.dumps({"study": "tldr", "dev": 50, "test": 1000}))
    with pytest.raises(LaconicError, match="dev 50, not 200"):
        study_tldr(tmp_path)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("tldr", "o", "--family", "a=b"), "--family belongs to the study merging"),
        (("merging", "o", "--seeds", "2"), "--seeds belongs to the study tldr"),
        (("tldr", "o", "--seeds", "0"), "seeds"),
        (("tldrr", "o"), "tldrr"),
    ],
)
def test_wrong_options_end_in_a_sentence(
    options: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, list(options))
    said = done.output + str(done.exception or "")
    assert done.exit_code != 0
    assert told in said
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_the_study_in_little_goes_on_where_it_stood(tmp_path: Path) -> None:
    scale = Scale(dev=5, test=10, short=20, long=8, steps=4, every=2, rows=3)
    arms = tuple(arm for arm in ARMS if arm.name in (DAMPED, MATCHED))
    seen: list[tuple[int, int]] = []

    def watch(done: int, total: int, note: str = "") -> None:
        seen.append((done, total))

    first = study_tldr(tmp_path / "s", scale=scale, seeds=(0,), arms=arms[:1])
    made = Path(first.trainings[DAMPED, 0].folder / "best" / "model.safetensors")
    before = made.stat().st_mtime_ns
    whole = study_tldr(tmp_path / "s", scale=scale, seeds=(0,), arms=arms, progress=watch)
    assert made.stat().st_mtime_ns == before
    assert seen[-1][0] == seen[-1][1]
    short = whole.trainings[DAMPED, 0].shares["short"]
    held = TrainRecipe.from_yaml(whole.trainings[MATCHED, 0].folder / "recipe.yaml")
    assert weights(held)["short"] == pytest.approx(short, abs=1e-3)
    assert {len(run.results) for run in whole.trained.values()} == {10}
    assert write_tldr_page(whole, tmp_path / "s").exists()
