"""The search: where it looks, whom it drops, what it spends, how it goes on, what it proves."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest

from laconic.backends.contract.backend import BACKENDS
from laconic.errors import LaconicError, RecipeError, RunError, TaskError
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe
from laconic.registry import Plugin
from laconic.runs.run import Generation, Sample, read_head, read_run
from laconic.searching import crew
from laconic.searching.explore import search
from laconic.searching.goal import read_constraint
from laconic.searching.interval_search import MeasuredPoint, next_point
from laconic.searching.sampler import Guide, open_study
from laconic.searching.space import Range, read_space, words
from laconic.searching.study import Study, read_study
from laconic.searching.summary import summary_text

if TYPE_CHECKING:
    from laconic.backends.contract.call import Call
    from laconic.runs.experiment import Sampling
    from tests.conftest import MakeCheckpoint

PROBLEMS = 160
BATCH = 8
SCALE = {"low": 0.0, "high": 1.0, "step": 0.05}


def lucky(sample: Sample) -> float:
    """How hard a problem is, in [0, 1): the same for every model."""
    return int(sha256(sample.id.encode()).hexdigest()[:8], 16) / 2**32


@dataclass
class Scripted:
    """An engine whose answers follow from the recipe: accuracy has a knee, length grows.

    Attributes:
        made: Completions, all engines together.
        dies: After how many of them the process is as good as killed.
    """

    model: str
    made: list[Sample]
    dies: int | None = None
    fingerprint: str = ""
    dtype: str = "none"
    device: str = "none"
    template: str = "none"
    window: int | None = None

    def __post_init__(self) -> None:
        self.versions: dict[str, str] = {}
        self.fingerprint = Path(self.model).name
        self.at = {"base": 0.0, "system2": 1.0}.get(Path(self.model).name)
        if self.at is None:
            params = read_head(Path(self.model))["recipe"]["params"]
            self.at = params["scale"] * params.get("density", 1.0)

    def render(self, sample: Sample) -> str:
        return sample.problem

    def prompt_length(self, sample: Sample) -> int:
        return 1

    def generate(
        self, calls: Sequence[Call], sampling: Sampling
    ) -> Iterator[list[tuple[Call, Generation]]]:
        for start in range(0, len(calls), BATCH):
            batch = calls[start : start + BATCH]
            self.made += [call.sample for call in batch]
            if self.dies is not None and len(self.made) > self.dies:
                raise KeyboardInterrupt
            yield [(call, self.answer(call.sample)) for call in batch]

    def answer(self, sample: Sample) -> Generation:
        assert self.at is not None
        right = lucky(sample) < min(0.5 + self.at, 0.96)
        length = round((50 + 250 * self.at**2) * (0.5 + lucky(sample)))
        thinks = self.at >= 0.4
        text = f"\\boxed{{{sample.gold if right else -1}}}"
        return Generation(text, length, length // 2 if thinks else 0, thinks, "stop")

    def close(self) -> None: ...


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The backend ``scripted``; what is in the dictionary changes how it behaves."""
    told: dict[str, Any] = {"made": [], "dies": None}

    def scripted(model: str) -> Scripted:
        return Scripted(model, told["made"], told["dies"])

    assert "replay" in BACKENDS
    monkeypatch.setitem(BACKENDS._members, "scripted", Plugin("scripted", "backend", scripted))
    return told


Run = Callable[..., Study]


@pytest.fixture
def run(make_checkpoint: MakeCheckpoint, tmp_path: Path, script: dict[str, Any]) -> Run:
    """Search over the scripted engine, with changes to what is asked."""
    for seed, name in enumerate(("base", "system2")):
        make_checkpoint(name, seed)
    lines = [{"id": i, "problem": f"What is {i}?", "answer": str(i)} for i in range(PROBLEMS)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def go(folder: str = "study", **changes: Any) -> Study:
        recipe = {
            "base": str(tmp_path / "base"),
            "models": [str(tmp_path / "system2")],
            "method": "task_arithmetic",
            "params": {"scale": changes.pop("scale", SCALE)},
            **changes.pop("recipe", {}),
        }
        asked = {"tasks": [str(tmp_path / "sums.jsonl")], "backend": "scripted", **changes}
        return search(recipe, tmp_path / folder, **asked)

    return go


def test_ranges_are_found_wherever_a_number_stands() -> None:
    ends = {"low": 0.2, "high": 0.8}
    space = read_space(
        {
            "base": "lab:base",
            "models": [{"model": "lab:system2", "weight": {"low": 0.5, "high": 1}}],
            "method": "ties",
            "params": {"density": ends, "scale": [{"match": "ffn", "value": ends}, {"value": 1.0}]},
            "before": [{"dare": {"density": ends}}],
            "overrides": [{"match": "attention", "params": {"density": ends}}],
        }
    )
    names = [one.name for one in space.ranges]
    assert names == [
        "models.0.weight",
        "density",
        "scale.0.value",
        "before.0.density",
        "overrides.0.density",
    ]
    recipe = space.at({name: 0.25 + i / 8 for i, name in enumerate(names)})
    assert recipe.models[0].weight == 0.25
    assert recipe.params == {
        "density": 0.375, "scale": [{"match": "ffn", "value": 0.5}, {"value": 1.0}]
    }  # fmt: skip
    assert recipe.before[0].params == {"density": 0.625}
    assert recipe.overrides[0].params == {"density": 0.75}
    space.check()


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"scale": 0.5}, "no range"),
        ({"scale": {"low": 1, "high": 0.5}}, "scale: low must be below high, got 1 and 0.5"),
        ({"scale": {"low": 0.5}}, "scale: the range has no 'high'"),
        ({"scale": {"low": 0, "high": 1, "setp": 0.1}}, "Did you mean 'step'"),
        ({"scale": {"low": 0, "high": "x"}}, "high must be a number, got 'x'"),
        ({"scale": {"low": 0, "high": 1, "step": 2}}, "at most 1, got 2"),
    ],
)
def test_ranges_that_cannot_be_meant_are_refused(params: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        read_space({"base": "a", "models": ["b"], "method": "ties", "params": params})


def test_a_range_outside_of_the_numbers_is_refused() -> None:
    with pytest.raises(RecipeError, match="seed cannot be a range"):
        read_space({"models": ["a"], "method": "ties", "seed": {"low": 0, "high": 3}})


def test_a_corner_that_breaks_a_rule_of_the_method_is_refused_before_anything_is_measured(
    run: Run, script: dict[str, Any], tmp_path: Path
) -> None:
    recipe = {"method": "ties", "params": {"density": {"low": 0.0, "high": 0.5}, "scale": 1.0}}
    with pytest.raises(RecipeError, match=r"reach density=0, where: .*density must be"):
        run(recipe=recipe)
    whole = {"method": "lore", "params": {"iterations": {"low": 1, "high": 4}}}
    with pytest.raises(RecipeError, match=r"reach iterations=.*must be a whole number"):
        run(recipe=whole)
    assert not script["made"]
    assert not (tmp_path / "study").exists()


def test_steps_stay_within_the_range_and_whole_numbers_whole() -> None:
    line = Range("x", ("params", "x"), 0.0, 1.0, 0.35)
    assert [line.nearest(v) for v in (0.1, 0.6, 1.0)] == [0.0, 0.7, 0.7]
    ranks = Range("rank", ("params", "rank"), 2, 9, 3)
    assert [ranks.nearest(v) for v in (2.0, 6.6, 9.0)] == [2, 8, 8]
    assert isinstance(ranks.nearest(6.6), int)
    assert words({"scale": 0.1 + 0.2}) == "scale=0.3"


def walk(interval: Range, point: Callable[[float], MeasuredPoint], most: int = 100) -> list[float]:
    """The places in the order that the line search takes them."""
    points: list[MeasuredPoint] = []
    while len(points) < most and (place := next_point(interval, points)) is not None:
        points.append(point(place))
    return [one.at for one in points]


def test_the_line_is_searched_coarsely_then_where_thinking_begins() -> None:
    line = Range("scale", ("params", "scale"), 0.0, 1.0)
    places = walk(line, lambda x: MeasuredPoint(x, 0.9, 100.0, thinking=float(x > 0.66)), most=9)
    assert places[:3] == [0.5, 0.25, 0.75]
    assert [x for x in places if 0.5 < x < 0.75] == [0.625, 0.6875, 0.65625]


def test_the_line_is_refined_at_the_constraint_and_where_the_front_turns() -> None:
    line = Range("scale", ("params", "scale"), 0.0, 1.0, 0.01)
    limit = walk(line, lambda x: MeasuredPoint(x, 0.9, 100.0, excess=0.33 - x), most=8)
    assert [x for x in limit if 0.25 < x < 0.5] == [0.38, 0.32, 0.35]
    knee = walk(line, lambda x: MeasuredPoint(x, min(0.9, 2 * x), 100 * x), most=4)
    assert knee[3] == 0.38


def test_the_line_leaves_what_was_dropped_for_last() -> None:
    line = Range("scale", ("params", "scale"), 0.0, 1.0)
    places = walk(line, lambda x: MeasuredPoint(x, 0.9, 100 * x, dropped=x > 0.6), most=12)
    assert places[3:6] == [0.0, 0.125, 0.375]
    assert len([x for x in places if x > 0.75]) <= 1


def test_the_line_ends_when_every_step_is_known_and_waits_for_nobody() -> None:
    line = Range("scale", ("params", "scale"), 0.0, 1.0, 0.1)
    assert sorted(walk(line, MeasuredPoint)) == [round(i / 10, 1) for i in range(11)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("accuracy>=system2-0.01", "accuracy>=system2-0.01"),
        ("accuracy >= system1", "accuracy>=system1"),
        ("accuracy>=0.8", "accuracy>=0.8"),
        ("length<=system2*0.5", "length<=system2*0.5"),
        ("length<=900", "length<=900"),
    ],
)
def test_constraints_are_read(text: str, told: str) -> None:
    assert str(read_constraint(text)) == told


@pytest.mark.parametrize(
    "text",
    [
        "accuracy<=0.5", "length>=5", "accuracy>=system3", "accuracy>=system2*2", "speed>=1",
        "accuracy>=1.2.3", "accuracy>=80", "length<=system2-5", "",
    ],
)  # fmt: skip
def test_constraints_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(RunError, match="--constraint"):
        read_constraint(text)


def test_a_search_finds_the_knee_and_proves_it_on_problems_it_never_saw(
    run: Run, tmp_path: Path
) -> None:
    study = run(constraint="accuracy>=system2-0.01", trials=12)
    winner = study.facts["winner"]
    assert 0.4 <= winner["parameters"]["scale"] <= 0.5  # beyond 0.46 only lengths grow
    proof = winner["proof"]
    assert proof["answered"] == proof["problems"] == PROBLEMS // 2
    assert abs(proof["accuracy_diff"]["value"]) <= 0.03
    assert proof["length_change"]["value"] < -0.5
    assert proof["length_change"]["high"] < -0.4
    seen = {r.id for f in (tmp_path / "study/trials").iterdir() for r in read_run(f).results}
    held = {r.id for r in read_run(tmp_path / "study/proof/winner").results}
    assert not seen & held
    assert len(seen | held) == PROBLEMS
    recipe = study.shortest(min_accuracy=0.9)
    assert 0.35 <= recipe.params["scale"] <= 0.5
    chosen = Recipe.from_yaml(tmp_path / "study/recipe.yaml")
    assert chosen.params == winner["parameters"]
    merge(chosen, tmp_path / "merged")
    with pytest.raises(RunError, match=r"reached an accuracy of 0.99; scale=.* has 0.9"):
        study.shortest(min_accuracy=0.99)
    assert study.most_accurate(max_length=90).params["scale"] <= 0.4


def test_every_trial_is_a_run_and_a_line(run: Run, tmp_path: Path) -> None:
    study = run(trials=8)
    assert study.facts["complete"]
    assert [trial.number for trial in study.trials] == list(range(len(study.trials)))
    dropped = [trial for trial in study.trials if trial.state == "dropped"]
    assert dropped
    spent = study.facts["tokens"]["references"]
    for trial in study.trials:
        held = read_run(tmp_path / "study" / trial.run)
        assert held.complete == (trial.state == "complete")
        assert len(held.results) == trial.measured.n
        assert trial.tokens == sum(result.length for result in held.results)
        spent += trial.tokens
        assert trial.spent == spent
        assert bool(trial.reason) == (trial in dropped)
    assert study.facts["tokens"]["search"] == spent - study.facts["tokens"]["references"]
    lengths = [trial.measured.length.value for trial in study.front]
    assert lengths == sorted(lengths)
    told = summary_text(study)
    assert f"{len(dropped)} dropped early" in told
    assert "held-out answers:" in told


def test_a_candidate_that_only_costs_more_is_dropped_after_few_problems(run: Run) -> None:
    study = run(trials=5)
    last = {trial.parameters["scale"]: trial for trial in study.trials}
    assert last[0.75].state == "dropped"
    assert "to the front" in last[0.75].reason
    assert last[0.75].measured.n < PROBLEMS // 2


def test_the_budget_is_kept_to_within_one_batch(run: Run, script: dict[str, Any]) -> None:
    budget = 100_000
    study = run(trials=12, budget=budget)
    tokens = study.facts["tokens"]
    assert tokens["references"] + tokens["search"] > budget / 3
    assert sum(tokens.values()) <= budget + BATCH * 450
    assert study.trials[-1].state == "budget"
    assert len(study.trials) < 12
    told = list(study.folder.rglob("results.jsonl"))
    assert sum(r.length for f in told for r in read_run(f.parent).results) == sum(tokens.values())


def test_a_budget_that_leaves_nothing_to_search_with_is_an_error(run: Run) -> None:
    with pytest.raises(RunError, match=r"budget of 100 tokens ended while system2 was measured"):
        run(budget=100)
    with pytest.raises(RunError, match=r"leaves nothing to search with"):
        run(budget=40_000)


@pytest.mark.slow
def test_a_killed_search_goes_on_and_asks_nothing_twice(
    run: Run, script: dict[str, Any], tmp_path: Path
) -> None:
    whole = run("whole", trials=4)
    total = len(script["made"])
    script["made"].clear()
    script["dies"] = total // 2
    with pytest.raises(KeyboardInterrupt):
        run("killed", trials=4)
    script["dies"] = None
    study = run("killed", trials=4)
    assert len(script["made"]) - total <= BATCH
    assert study.facts["winner"] == whole.facts["winner"]
    assert study.facts["tokens"] == whole.facts["tokens"]
    before = len(script["made"])
    again = run("killed", trials=4)
    assert len(script["made"]) == before
    assert again.facts["tokens"] == study.facts["tokens"]
    assert len(run("killed", trials=5).trials) == 5


@pytest.mark.slow
def test_several_parameters_are_searched_without_trying_a_place_twice(run: Run) -> None:
    recipe = {
        "method": "ties",
        "params": {
            "density": {"low": 0.25, "high": 1.0, "step": 0.25},
            "scale": {"low": 0.25, "high": 1.0, "step": 0.25},
        },
    }
    study = run(recipe=recipe, trials=6)
    assert len({trial.name for trial in study.trials}) == len(study.trials) == 6
    assert study.trials[0].name == "density=0.75,scale=0.75"
    fewer = run("tiny", recipe={**recipe, "params": {
        "density": {"low": 0.5, "high": 1.0, "step": 0.5},
        "scale": {"low": 0.5, "high": 1.0, "step": 0.5},
    }}, trials=9)  # fmt: skip
    assert len(fewer.trials) == 4


def test_trials_left_by_a_dead_worker_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "SETTLE", 0.0)
    space = read_space(
        {"base": "a", "models": ["b"], "method": "task_arithmetic", "params": {"scale": SCALE}}
    )
    guide = Guide(space, 0)
    trials = open_study(str(tmp_path / "journal.log"), "s", guide)
    left = trials.ask(guide.ranges)
    crew.retry(trials, tmp_path, guide)
    again = trials.ask(guide.ranges)
    assert again.number != left.number
    assert again.params == left.params
    states = [trial.state.name for trial in trials.get_trials()]
    assert states == ["FAIL", "RUNNING"]


#: Joins a search with an engine that never ends its first batch.
JOIN = """
import json, sys, time
from laconic.backends.contract.backend import BACKENDS
from laconic.registry import Plugin
from laconic.searching.explore import search
from tests.searching.test_explore import Scripted

class Stalled(Scripted):
    def generate(self, calls, sampling):
        yield next(super().generate(calls, sampling))
        print("asked", flush=True)
        time.sleep(600)

assert "replay" in BACKENDS
BACKENDS._members["scripted"] = Plugin("scripted", "backend", lambda model: Stalled(model, []))
search(**json.loads(sys.argv[1]), join=True)
"""


@pytest.mark.slow
def test_a_search_asks_again_what_a_killed_helper_was_measuring(run: Run, tmp_path: Path) -> None:
    run(trials=2)
    path = tmp_path / "study" / "study.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "state": "searching", "complete": False, "trials": 4}))
    job = {
        "recipe": facts["recipe"],
        "output": str(tmp_path / "study"),
        "tasks": [str(tmp_path / "sums.jsonl")],
        "backend": "scripted",
    }
    root = Path(__file__).parents[2]
    helper = subprocess.Popen(
        [sys.executable, "-c", JOIN, json.dumps(job)], stdout=subprocess.PIPE, text=True, cwd=root
    )
    try:
        assert helper.stdout is not None
        assert helper.stdout.readline() == "asked\n"
        (measured,) = set((tmp_path / "study" / "trials").iterdir()) - {
            tmp_path / "study" / trial["run"]
            for trial in map(json.loads, (path.parent / "trials.jsonl").read_text().splitlines())
        }
        killer = threading.Timer(3, helper.kill)
        killer.start()
        study = run(trials=4)
        killer.join()
    finally:
        helper.kill()
        helper.communicate()
    assert helper.returncode == -signal.SIGKILL
    assert study.facts["complete"]
    assert len(study.trials) == 4
    assert measured.name in {trial.name for trial in study.trials}
    assert not list((tmp_path / "study" / ".workers").iterdir())


def test_damage_to_a_search_is_put_right_from_what_is_whole(
    run: Run, script: dict[str, Any], tmp_path: Path
) -> None:
    whole = run(trials=4)
    made = len(script["made"])
    folder = tmp_path / "study"
    lines = (folder / "trials.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "trials.jsonl").write_bytes(lines[0] + bytes(50) + b"\n" + b"".join(lines[2:]))
    for name in ("study.json", f"trials/{whole.trials[2].name}/run.json"):
        (folder / name).write_bytes(bytes(100))
    (folder / "references" / "system2" / "run.json").write_bytes(b"")
    with pytest.raises(RunError, match=r"study\.json is damaged.*Run the search's command again"):
        read_study(folder)
    study = run(trials=4)
    assert len(script["made"]) == made
    assert study.facts["winner"] == whole.facts["winner"]
    assert study.facts["tokens"] == whole.facts["tokens"]
    assert {trial.name for trial in study.trials} == {trial.name for trial in whole.trials}
    (folder / "study.json").write_bytes(b"")
    with pytest.raises(RunError, match=r"study\.json is damaged.*has no trials of it"):
        run(trials=4, scale={"low": 0.1, "high": 0.9})


@pytest.mark.slow
def test_workers_share_one_list_of_trials(run: Run, tmp_path: Path) -> None:
    lines = [{"id": str(i), "text": f"\\boxed{{{i}}}", "length": 10} for i in range(PROBLEMS)]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, lines)))
    storage = str(tmp_path / "shared" / "trials.log")
    study = run(
        trials=5, workers=2, storage=storage, backend=f"replay:path={tmp_path / 'answers.jsonl'}"
    )
    assert len(study.trials) == 5
    assert len({trial.name for trial in study.trials}) == 5
    held = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))
    assert optuna.get_all_study_names(held) == [study.facts["digest"]]


def test_a_folder_of_another_search_and_bad_counts_are_refused(run: Run, tmp_path: Path) -> None:
    run(trials=1)
    with pytest.raises(RunError, match="another recipe"):
        run(trials=1, scale={"low": 0.1, "high": 0.9})
    with pytest.raises(RunError, match="is not trying candidates now"):
        run(trials=1, join=True)
    with pytest.raises(RunError, match="workers must be at least 1"):
        run(workers=0)
    with pytest.raises(RunError, match="is no search's folder"):
        run("..")
    with pytest.raises(RunError, match=r"--storage nosuch://x cannot be used"):
        run("other", trials=1, storage="nosuch://x")
    with pytest.raises(RunError, match=r"has no study.json"):
        read_study(tmp_path)


def test_problems_of_the_proof_must_be_others(run: Run, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="must not prove it"):
        run(prove_on=[str(tmp_path / "sums.jsonl")])
    with pytest.raises(LaconicError, match="too few problems"):
        run(limit=1)
    shutil.copy(tmp_path / "sums.jsonl", tmp_path / "more.jsonl")
