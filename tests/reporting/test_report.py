"""Reports from simulated run folders: finding, comparing, warning, and every format."""

from __future__ import annotations

import csv
import json
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laconic.errors import RunError
from laconic.reporting.charts.contract import task_charts
from laconic.reporting.families import role_of
from laconic.reporting.report import (
    RunComparison,
    compare,
    join,
    load,
    render,
    report,
    to_html,
    to_json,
    to_markdown,
    to_svg,
    to_text,
    write,
)
from laconic.reporting.run_folders import short_names
from laconic.reporting.tables.details import detail_tables
from laconic.reporting.tables.main import (
    condition_table,
    incomparable_table,
    main_table,
    main_tables,
    overall_table,
    pair_table,
)
from laconic.reporting.tables.table import Cell, Column, Table
from laconic.reporting.wording import headlines, percent, shorter, signed, some, tokens
from laconic.reporting.writers.csv import to_csv
from laconic.reporting.writers.latex import to_latex
from laconic.reporting.writers.stills.draw import draw_fronts, figures, picture
from laconic.reporting.writers.stills.labels import place
from laconic.reporting.writers.terminal import set_lines
from laconic.runs.experiment import Experiment, Sampling, TaskRecord
from laconic.runs.run import Result, Run
from laconic.runs.writer import RunWriter
from laconic.stats import Estimate

HOSTILE = "<script>alert('1')</script> | `x` $a$ \x1b[31m\n\"&--> ]]> \N{HIRAGANA LETTER A}"


def simulate(
    name: str,
    accuracy: float = 0.8,
    length: float = 500,
    *,
    task: str = "lab",
    n: int = 300,
    repeats: int = 1,
    budget: int = 2048,
    thinks: float = 0.95,
    levels: int = 5,
    first: int | None = None,
) -> Run:
    """A run whose problems get harder and longer alike for every model."""
    rng = np.random.default_rng([7, *name.encode("utf-8", "replace")])
    hardness = np.random.default_rng(1).normal(size=n)
    level = np.argsort(np.argsort(hardness)) * levels // n + 1
    ease = 1.3 * np.log(accuracy / (1 - accuracy))
    results = []
    for i in range(n):
        for repeat in range(repeats):
            spread = 0.35 * hardness[i] + 0.35 * rng.normal() - 0.12
            wanted = max(int(length * np.exp(spread)), 1)
            cut = wanted >= budget
            right = not cut and rng.random() < 1 / (1 + np.exp(1.6 * hardness[i] - ease))
            thought = not cut and rng.random() < thinks
            results.append(
                Result(
                    task=task,
                    id=f"q{i}",
                    repeat=repeat,
                    level=int(level[i]) if levels else None,
                    problem=f"problem {i}",
                    gold=str(i),
                    text="...",
                    length=min(wanted, budget),
                    thinking_length=int(0.7 * wanted) if thought else 0,
                    thinks=bool(thought),
                    truncated=cut,
                    answer=None if cut else "1",
                    outcome="correct" if right else "truncated_no_answer" if cut else "wrong",
                    correct=bool(right),
                    reflections=int(rng.poisson(2)),
                )
            )
    experiment = Experiment(
        model=name,
        model_digest="0123",
        tasks=(TaskRecord(task, task, "abcdef0123456789", n, budget),),
        sampling=Sampling(None, 0.6 if repeats > 1 else 0.0, 0.95, repeats),
        backend="replay",
        dtype="bfloat16",
        template="stock",
        grader="exact 1",
    )
    provenance = {"device": "cpu", "versions": {"laconic": "0.1.0"}}
    return Run(name, experiment, tuple(results[:first]), first is None, None, provenance)


def family() -> list[Run]:
    """Two parents and ten merges on one task of five levels; one of them unfinished."""
    return [
        simulate("system1", 0.68, 180, thinks=0),
        simulate("system2", 0.86, 1150),
        simulate("average-0.5", 0.80, 520, thinks=0.7),
        simulate("task-arithmetic-0.3", 0.74, 300, thinks=0.1),
        simulate("task-arithmetic-0.7", 0.855, 640),
        simulate("ties-0.2", 0.865, 520),
        simulate("ties-0.4", 0.84, 480),
        simulate("dare-ties-0.3", 0.85, 555),
        simulate("slerp-0.5", 0.82, 600, thinks=0.5),
        simulate("aim-ties-0.2", 0.87, 610),
        simulate("low-rank-64", 0.845, 700),
        simulate("della-0.6", 0.83, 530, first=180),
    ]


def two_tasks() -> list[Run]:
    """Three runs on two tasks, the second with eight answers to each of thirty problems."""
    runs = []
    for name, accuracy, length in (("system1", 0.3, 300), ("system2", 0.7, 1500), ("m", 0.7, 900)):
        one = simulate(name, accuracy, length, n=60)
        other = simulate(name, accuracy, 3 * length, task="aime", n=30, repeats=8, budget=8192)
        both = replace(other.experiment, tasks=one.experiment.tasks + other.experiment.tasks)
        runs.append(replace(other, experiment=both, results=one.results + other.results))
    return runs


def save(run: Run, folder: Path) -> Path:
    with RunWriter(folder, run.experiment, run.provenance) as writer:
        writer.append(run.results)
        if run.complete:
            writer.finish()
    return folder


def changed(run: Run, **what: Any) -> Run:
    return replace(run, experiment=replace(run.experiment, **what))


@pytest.fixture(scope="module")
def comparison() -> RunComparison:
    return compare(family())


@pytest.fixture(scope="module")
def small() -> RunComparison:
    return compare([simulate("system2", 0.8, 1000, n=40), simulate("m", 0.8, 500, n=40)])


# -- finding -----------------------------------------------------------------------------------


def test_runs_are_found_at_any_depth_sorted_and_once(tmp_path: Path) -> None:
    for place_ in ("b", "a/deep/c", "a/b/a"):
        save(simulate("x", n=3), tmp_path / place_)
    merged = tmp_path / "merged"
    save(simulate("x", n=3), merged / "eval")
    (merged / "run.json").write_text(json.dumps({"schema": 1, "kind": "merge"}))
    found = load([tmp_path, tmp_path / "b", str(tmp_path / "a" / ".." / "b")])
    assert [run.name for run in found] == ["a", "c", "b", "eval"]


def test_names_are_as_long_as_it_takes_to_tell_them_apart() -> None:
    paths = [Path(p) for p in ("/x/a/system2", "/x/b/system2", "/x/b/ties", "/y/b/system2")]
    assert short_names(paths) == ["a/system2", "x/b/system2", "ties", "y/b/system2"]
    assert short_names([]) == []


def test_no_runs_at_all_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"No runs in .*laconic eval MODEL"):
        load([tmp_path])
    with pytest.raises(RunError, match="does not exist"):
        load([tmp_path / "nowhere"])
    with pytest.raises(RunError, match="no runs to compare"):
        compare([])


def test_folders_of_one_name_and_model_on_different_tasks_are_one_run(tmp_path: Path) -> None:
    for name in ("system2", "m"):
        for task in ("dev", "test"):
            run = changed(simulate(name, n=20, task=task), model_digest=name)
            save(run, tmp_path / task / name)
    found = load([tmp_path / "test", tmp_path / "dev"])
    assert [run.name for run in found] == ["m", "system2"]
    assert [task.name for task in found[0].experiment.tasks] == ["test", "dev"]
    assert compare(found).tasks == ("test", "dev")


def test_folders_called_like_their_tasks_are_one_run_called_like_their_parent(
    tmp_path: Path,
) -> None:
    for name in ("system2", "m"):
        for task, repeats, budget in (("gsm", 1, 2048), ("aime", 4, 8192)):
            run = simulate(name, n=20, task=task, repeats=repeats, budget=budget)
            drawn = replace(run.experiment.sampling, temperature=0.6, max_tokens=budget)
            run = changed(run, model_digest=name, sampling=drawn)
            save(replace(run, provenance={"notes": [f"a note on {task}"]}), tmp_path / name / task)
    found = load([tmp_path])
    assert [run.name for run in found] == ["m", "system2"]
    assert [task.name for task in found[0].experiment.tasks] == ["aime", "gsm"]
    comparison = compare(found)
    assert {(row.task, row.asked, row.max_tokens) for row in comparison.runs} == {
        ("gsm", 20, 2048),
        ("aime", 80, 8192),
    }
    assert len(comparison.overall) == 1
    assert [w for w in comparison.warnings if "differ" in w] == []
    assert {w.split(" (")[0] for w in comparison.warnings if "a note" in w} == {
        "a note on gsm",
        "a note on aime",
    }


def test_a_folder_called_like_its_task_alone_keeps_its_name(tmp_path: Path) -> None:
    save(simulate("a", n=5, task="gsm"), tmp_path / "runs" / "gsm")
    save(simulate("b", n=5, task="aime"), tmp_path / "runs" / "other")
    assert [run.name for run in load([tmp_path])] == ["gsm", "other"]
    other = changed(simulate("c", n=5, task="aime"), model_digest="another")
    save(other, tmp_path / "runs" / "aime")
    assert [run.name for run in load([tmp_path])] == ["aime", "gsm", "other"]


def test_folders_of_one_name_and_different_models_stay_apart(tmp_path: Path) -> None:
    for folder, task in (("a", "dev"), ("b", "test")):
        run = changed(simulate("m", n=5, task=task), model_digest=folder)
        save(run, tmp_path / folder / "m")
    assert [run.name for run in load([tmp_path])] == ["a/m", "b/m"]


def test_joining_puts_the_tasks_of_a_name_together_or_says_why_not() -> None:
    dev, test = simulate("m", n=5, task="dev", first=3), simulate("m", n=5, task="test")
    alone = simulate("system2", n=5, task="test")
    (joined, other) = join([test, alone, dev])
    assert (len(joined.results), joined.complete, other) == (8, False, alone)
    with pytest.raises(RunError, match="called 'm' share a task"):
        join([test, test])
    with pytest.raises(RunError, match="measured differently"):
        join([test, changed(dev, dtype="float32")])


def test_a_broken_run_is_not_passed_over(tmp_path: Path) -> None:
    folder = save(simulate("x", n=3), tmp_path / "x")
    (folder / "run.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        load([tmp_path])


# -- comparing ---------------------------------------------------------------------------------


def test_the_run_called_system2_is_the_baseline(comparison: RunComparison) -> None:
    assert (comparison.baseline, comparison.why) == ("system2", "by its name")
    assert len(comparison.runs) == 12
    assert len(comparison.pairs) == 11


def test_without_a_system2_the_longest_answers_are_the_baseline() -> None:
    found = compare([simulate("a", n=20), simulate("b", length=900, n=20)])
    assert (found.baseline, found.why) == ("b", "its answers are the longest")
    named = compare([simulate("qwen-system-2", n=20), simulate("b", length=900, n=20)])
    assert named.baseline == "qwen-system-2"


def test_a_baseline_can_be_chosen_and_a_misspelt_one_is_corrected() -> None:
    runs = [simulate("ties-a", n=20), simulate("ties-b", n=20)]
    assert compare(runs, baseline="ties-b").baseline == "ties-b"
    with pytest.raises(RunError, match=r"no run 'tis-b'.*Did you mean 'ties-b'"):
        compare(runs, baseline="tis-b")


def test_a_margin_in_points_is_refused() -> None:
    with pytest.raises(RunError, match=r"0\.02 is 2 points"):
        compare([simulate("a", n=5)], margin=2)


def test_runs_of_one_name_need_a_mapping() -> None:
    runs = [simulate("a", n=5), simulate("a", n=5)]
    with pytest.raises(RunError, match="Several runs are called 'a'"):
        compare(runs)
    assert {p.name for p in compare({"x": runs[0], "y": runs[1]}).pairs} <= {"x", "y"}


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("system1", "system1"),
        ("runs/System-2", "system2"),
        ("qwen_base", "base"),
        ("database", "merge"),
        ("ecosystem1", "merge"),
        ("system2-ties", "merge"),
    ],
)
def test_the_end_of_a_name_tells_the_parents(name: str, role: str) -> None:
    assert role_of(name) == role


def test_several_tasks_are_compared_one_by_one_and_together() -> None:
    found = compare(two_tasks())
    assert found.tasks == ("lab", "aime")
    assert len(found.pairs) == 4
    merged = next(o for o in found.overall if o.name == "m")
    each = [p.length_change.value for p in found.pairs if p.name == "m"]
    assert merged.length_change.value == pytest.approx(sum(each) / 2)
    assert headlines(found)[0].startswith("Over 2 tasks: m is ")
    assert "of mean lengths" in to_markdown(found)


def test_a_run_without_the_baselines_problems_is_shown_but_not_paired() -> None:
    found = compare([simulate("system2", n=20), simulate("m", n=20, task="other")])
    assert found.pairs == ()
    assert any("nothing is compared" in warning for warning in found.warnings)


# -- warnings ----------------------------------------------------------------------------------


def test_equal_runs_raise_no_misgivings() -> None:
    assert compare([simulate("system2", n=20), simulate("m", n=20)]).warnings == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dtype": "float32"}, "differ in dtype: bfloat16 (system2); float32 (m)"),
        ({"grader": "exact 2"}, "differ in grader: exact 1 (system2); exact 2 (m)"),
        ({"template": "mine"}, "differ in chat template"),
        ({"sampling": Sampling(temperature=0.6)}, "differ in sampling: greedy (system2)"),
        ({"backend": "vllm"}, "differ in engine"),
        ({"tasks": (TaskRecord("lab", "lab", "f" * 16, 20, 2048),)}, "differ in problems"),
        (
            {"tasks": (TaskRecord("lab", "lab", "abcdef0123456789", 20, 512),)},
            "lab: the runs differ in budget: 2,048 tokens (system2); 512 tokens (m)",
        ),
    ],
)
def test_unequal_conditions_are_named(change: dict[str, Any], words: str) -> None:
    found = compare([simulate("system2", n=20), changed(simulate("m", n=20), **change)])
    assert [words in warning for warning in found.warnings] == [True]


def test_runs_that_were_not_measured_alike_are_cautioned_in_every_format() -> None:
    other = changed(simulate("m", n=30), backend="vllm", dtype="float32")
    found = compare([simulate("system2", n=30), other])
    caution = "Caution: not measured alike (dtype, engine)."
    assert found.unequal == {"lab": ("dtype", "engine")}
    assert found.incomparable == {}
    page = read_page(to_html(found)).text
    for told in (to_text(found, width=400), page, json.loads(to_json(found))["headlines"][0]):
        assert caution in told
    assert caution in to_markdown(found)
    title = draw_fronts(found).axes[0].get_title(loc="right")
    assert title == "Caution: not measured alike (dtype, engine)"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"grader": "other 2"}, "graded by other 2, not exact 1"),
        ({"tasks": (TaskRecord("lab", "lab", "abcdef0123456789", 30, 512),)}, "budget 512 tokens"),
    ],
)
def test_runs_that_must_not_be_compared_are_shown_apart_with_the_reason(
    change: dict[str, Any], why: str
) -> None:
    other = changed(simulate("other", 0.9, 100, n=30), **change)
    found = compare([simulate("system2", n=30), simulate("m", length=400, n=30), other])
    assert list(found.incomparable["lab"]) == ["other"]
    assert {p.name for p in found.pairs} == {"m"}
    assert found.pareto["lab"][0] == "m"
    assert found.unequal == {}
    assert next(row for row in found.runs if row.name == "other").details.front is None
    assert "other" not in {row[0].text for row in main_table(found, "lab").rows}
    table = incomparable_table(found, "lab")
    assert table is not None
    assert [row[0].text for row in table.rows] == ["other"]
    page = read_page(to_html(found)).text
    for told in (to_text(found, width=400), page, to_markdown(found), to_json(found)):
        assert why in told
    names = [name.get_text() for name in draw_fronts(found).axes[0].texts]
    assert "m" in names
    assert "other" not in names


def test_other_words_set_a_run_apart_and_fewer_problems_do_not() -> None:
    record = TaskRecord("lab", "lab", "f" * 16, 20, 2048)
    fewer = changed(simulate("fewer", n=20), tasks=(record,))
    told = replace(
        fewer,
        name="worded",
        results=tuple(replace(row, problem=f"{row.problem} Think.") for row in fewer.results),
    )
    other = replace(
        fewer, name="others", results=tuple(replace(row, id=f"x{row.id}") for row in fewer.results)
    )
    found = compare([simulate("system2", n=30), fewer, told, other])
    assert {name: reasons[0].words for name, reasons in found.incomparable["lab"].items()} == {
        "worded": "asked in other words than system2",
        "others": "no problem in common with system2",
    }
    assert {p.name: p.n for p in found.pairs} == {"fewer": 20}


def test_runs_measured_alike_are_not_cautioned(small: RunComparison) -> None:
    assert small.unequal == {}
    assert "Caution" not in to_text(small) + to_html(small) + to_markdown(small)
    assert draw_fronts(small).axes[0].get_title(loc="right") == ""


def test_what_no_run_records_is_said_once() -> None:
    silent = [
        changed(simulate(name, n=20), sampling=Sampling(recorded=False), template="not recorded")
        for name in ("system2", "m")
    ]
    (warning,) = compare(silent).warnings
    assert warning.startswith("No run records its sampling, chat template: whether")
    assert compare(silent[:1]).warnings == ()


def test_another_seed_is_told_but_no_misgiving() -> None:
    other = changed(simulate("m", n=20), sampling=Sampling(top_p=0.95, seed=1))
    found = compare([simulate("system2", n=20), other])
    assert found.warnings == ()
    assert "| seed | 1 | m |" in to_markdown(found)


def test_unfinished_cut_and_thoughtless_runs_are_named(comparison: RunComparison) -> None:
    text = "\n".join(comparison.warnings)
    assert "della-0.6 is unfinished: 180 of 300 answers so far" in text
    assert "rests on the 180 problems that both answered; 120" in text
    assert re.search(r"more than 5 % .* cut off .*: system2 \d", text)
    assert re.search(r"close a thought .*: task-arithmetic-0.3 [\d.]+ %, slerp-0.5", text)
    assert "system1" not in text  # it never thinks, and nobody expects it to


def test_answers_that_the_grader_gave_up_on_are_counted() -> None:
    run = simulate("m", n=20)
    stuck = replace(run.results[0], outcome="grader_timeout", correct=False)
    found = compare([simulate("system2", n=20), replace(run, results=(stuck, *run.results[1:]))])
    assert ["gave up" in w and "m 1" in w for w in found.warnings] == [True]


def test_runs_of_two_graders_are_told_how_to_be_graded_by_one() -> None:
    other = changed(simulate("m", n=20), grader="exact 2")
    found = compare([simulate("system2", n=20), other])
    assert any("laconic grade" in warning for warning in found.warnings)


def test_many_finished_answers_without_an_answer_are_a_warning() -> None:
    run = simulate("m", n=20)
    lost = [
        replace(r, outcome="no_answer", correct=False, truncated=False) for r in run.results[:5]
    ]
    found = compare([simulate("system2", n=20), replace(run, results=(*lost, *run.results[5:]))])
    assert ["finds no answer" in w and "m 5 of" in w for w in found.warnings].count(True) == 1


def test_every_format_shows_every_warning(comparison: RunComparison) -> None:
    page = read_page(to_html(comparison)).text.replace("\N{NO-BREAK SPACE}", " ")
    markdown, text = to_markdown(comparison), " ".join(to_text(comparison).split())
    assert comparison.warnings
    for warning in comparison.warnings:
        assert warning in json.loads(to_json(comparison))["warnings"]
        assert warning in page
        assert warning in text
        assert warning.split("<")[0] in markdown


# -- words -------------------------------------------------------------------------------------


def test_numbers_read_as_a_person_would_write_them() -> None:
    minus, dash = "\N{MINUS SIGN}", "\N{EN DASH}"
    assert (percent(0.05), percent(0.1234), percent(1)) == ("5 %", "12.3 %", "100 %")
    assert (signed(-0.001), signed(0.004), signed(0)) == (f"{minus}0.1", "+0.4", "+0.0")
    assert (tokens(12.34), tokens(1234.5), tokens(float("inf"))) == ("12.3", "1,234", "∞")
    assert some(list("abcdefghi")) == "a, b, c, d, e, f and 3 more"
    assert (
        shorter(Estimate(-0.55, -0.57, -0.53), "s") == f"55 % shorter than s (95 %: 53{dash}57 %)"
    )
    unsure = shorter(Estimate(0.02, -0.01, 0.05), "s")
    assert unsure == "2.0 % longer than s (95 %: 1.0 % shorter to 5.0 % longer)"


def test_the_headline_picks_the_shortest_merge_that_is_not_worse(comparison: RunComparison) -> None:
    (line,) = headlines(comparison)
    sound = [p for p in comparison.pairs if p.not_worse.verdict == "yes"]
    best = min(sound, key=lambda p: p.length_change.value)
    assert line.startswith(f"{best.name} is ")
    merges = sum(row.role == "merge" for row in comparison.runs)
    assert line.endswith(
        f"not worse by more than 2 points: yes (corrected for {merges} merges tested)."
    )


def test_every_format_says_for_how_many_merges_a_yes_is_corrected() -> None:
    rng = np.random.default_rng(4)
    right = rng.random(1000) < 0.9

    def answers(name: str, flips: int) -> Run:
        made = simulate(name, n=1000)
        lost = set(np.flatnonzero(right)[:flips].tolist())
        won = set(np.flatnonzero(~right)[:flips].tolist())
        rows = tuple(
            replace(r, correct=(bool(right[i]) and i not in lost) or i in won, truncated=False)
            for i, r in enumerate(made.results)
        )
        return replace(made, results=rows)

    # 20 won, 20 lost of 1,000: evidence 3.2; 45 and 45: 2.1, enough alone, too little for one of 4
    names = ("a", "b", "c", "d")
    alone = compare([answers("system2", 0), answers("a", 45)])
    assert [p.not_worse.verdict for p in alone.pairs] == ["yes"]
    flips = dict(zip(names, (45, 45, 45, 20), strict=True))
    found = compare([answers("system2", 0), *(answers(n, k) for n, k in flips.items())])
    verdicts = {p.name: p.not_worse.verdict for p in found.pairs}
    assert verdicts == {"a": "unclear", "b": "unclear", "c": "unclear", "d": "yes"}
    words = "4 merges tested together"
    text = " ".join(found.to_text(width=80).split())
    for shown in (text, found.to_markdown(), found.to_html(), to_latex(main_tables(found))):
        assert words in shown
    assert json.loads(found.to_json())["pairs"][0]["not_worse"]["tested"] == 4
    assert {row["tested_together"] for row in csv.DictReader(to_csv(found).splitlines())} == {
        "",
        "4",
    }
    assert headlines(found)[0].endswith("yes (corrected for 4 merges tested).")


def test_parents_are_no_candidates() -> None:
    found = compare([simulate(name, n=40) for name in ("system1", "base", "m", "k", "system2")])
    assert {p.name: p.not_worse.tested for p in found.pairs} == {
        "system1": 1,
        "base": 1,
        "m": 2,
        "k": 2,
    }


def test_too_few_problems_are_said_with_the_number_that_would_do() -> None:
    runs = [simulate(name, n=30) for name in ("system2", "m")]
    same = [replace(run, results=runs[0].results, name=run.name) for run in runs]
    found = compare(same)
    # nothing differs: 2.8^2 * 0.98 / 0.02 = 385
    assert found.pairs[0].not_worse.settled_by == 385
    assert headlines(found)[0].endswith(
        "unclear. 30 problems cannot settle 2 points: about 390 would."
    )
    assert "needs about 390 problems" in found.to_markdown()
    assert "problems would" not in headlines(compare(same, margin=0.2))[0]


def test_the_mean_over_tasks_rests_on_the_tasks_that_runs_share() -> None:
    whole = two_tasks()
    short = replace(simulate("k", 0.7, 900, n=60), name="k")
    found = compare([*whole, short])
    assert {o.name for o in found.overall} == {"system1", "m"}
    assert all(o.tasks == ("lab", "aime") for o in found.overall)
    assert found.left_out == ("k",)
    table = overall_table(found)
    assert table is not None
    assert "left out: k" in table.caption
    assert {row[-1].text for row in table.rows} <= {"yes", "no", "unclear"}

    more = simulate("m", 0.7, 900, task="other", n=60)
    base = simulate("system2", 0.7, 900, task="other", n=60)

    def with_other(run: Run) -> Run:
        extra = {"m": more, "system2": base}.get(run.name)
        if extra is None:
            return run
        tasks = run.experiment.tasks + extra.experiment.tasks
        return replace(changed(run, tasks=tasks), results=run.results + extra.results)

    found = compare([with_other(run) for run in whole])
    assert {o.name: o.tasks for o in found.overall} == {
        "system1": ("lab", "aime"),
        "m": ("lab", "aime"),
    }
    assert found.left_out == ("other",)


def test_the_headline_says_so_where_nothing_is_shown() -> None:
    found = compare([simulate("system2", 0.9, 900, n=30), simulate("m", 0.5, 300, n=30)])
    assert headlines(found)[0].startswith("No run is shown to be within 2 points of system2.")


def test_a_single_run_is_told_without_a_comparison() -> None:
    (line,) = headlines(compare([simulate("alone", n=50)]))
    assert line.startswith("alone gets ")


# -- formats -----------------------------------------------------------------------------------


def test_json_has_the_promised_shape(comparison: RunComparison) -> None:
    found = json.loads(to_json(comparison))
    interval = {"value", "low", "high"}
    row = found["runs"][0]
    assert row["name"] == "system1"
    assert set(row["accuracy"]) == set(row["length"]) == interval
    assert {"task", "n", "truncated", "thinking", "reflective", "by_level"} <= set(row)
    assert set(row["by_level"]) == {"1", "2", "3", "4", "5"}
    assert set(row["by_level"]["1"]) == {"n", "accuracy", "length", "reflections"}
    assert row["pass_at"].keys() == row["majority_at"].keys() == {"1"}
    assert set(row["texts"]["reflection"]) == {"paper", "script", "words"}
    assert row["budgets"][0]["cap"] == row["max_tokens"] == 2048
    assert set(row["by_ease"]) <= {"easy", "medium", "hard"}
    assert 0 <= row["front"] <= 1
    assert set(row["trend"]["level"]) == set(row["tokens_per_correct"]) == interval
    one = found["pairs"][0]
    assert {"name", "baseline", "task"} <= set(one)
    assert set(one["both_right"]) == {"n", "length", "baseline_length", "length_change"}
    assert set(one["length_diff"]) == interval
    assert set(one["accuracy_diff"]) == set(one["length_change"]) == interval
    assert set(one["not_worse"]) == {"margin", "verdict", "evidence", "tested", "settled_by"}
    assert one["not_worse"]["verdict"] in {"yes", "no", "unclear"}
    assert found["pareto"]["lab"][0] == "system1"
    assert (found["baseline"], found["margin"], found["level"]) == ("system2", 0.02, 0.95)


def test_json_never_holds_what_is_no_number() -> None:
    text = to_json(compare([simulate("a", n=1), simulate("system2", n=1)]))
    assert json.loads(text)["runs"][0]["tokens_per_correct"]["high"] is None
    assert not re.search(r"\b(NaN|Infinity)\b", text)


def test_printing_a_comparison_fits_eighty_columns(comparison: RunComparison) -> None:
    lines = str(comparison).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(re.match(r"ties-0\.2 +\d+\.\d \(", line) for line in lines)


def test_the_terminal_shows_the_main_tables_and_all_of_them_on_demand(
    comparison: RunComparison,
) -> None:
    main, whole = comparison.to_text(width=80), comparison.to_text(width=80, details=True)
    for head in ("what right answers cost", "re-examine", "smaller budgets", "Spearman"):
        assert head not in main.replace("\n", " ")
        assert head in " ".join(whole.split())
    assert max(map(len, whole.splitlines())) <= 80
    for row in comparison.runs:
        assert row.name in whole


def test_a_wide_table_is_stacked_then_split_and_loses_nothing() -> None:
    columns = tuple(Column(f"column {i}") for i in range(6))
    cells = tuple(Cell(f"value{i}", f"aside {i}") for i in range(6))
    table = Table("wide", (Column("run", numeric=False), *columns), ((Cell("a run"), *cells),))
    assert "value5 (aside 5)" in set_lines([table], width=130)
    for width in (60, 40, 24):
        lines = set_lines([table], width=width)
        assert max(map(len, lines.splitlines())) <= width
        assert all(f"value{i}" in lines and f"aside {i}" in lines for i in range(6))
        assert lines.count("\na run ") == lines.count("\nrun ") == {60: 2, 40: 2, 24: 6}[width]


def test_the_evaluation_page_explains_every_column() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    section = page[page.index("## Columns") : page.index("## Grading again")]
    explained = {row.split("|")[2].strip() for row in section.splitlines() if row.startswith("|")}
    words = {word.strip() for cell in explained for word in [cell, *cell.split(", ")]}
    found = compare(two_tasks())
    tables = [condition_table(found), overall_table(found), pair_table(found, "lab")]
    for task in found.tasks:
        tables += [main_table(found, task), *detail_tables(found, task)]
    assert len(tables) > 20
    for table in filter(None, tables):
        for column in table.columns[1 if table.columns[0].head == "run" else 0 :]:
            head = re.sub(r" \(n = .*\)$", "", column.head)
            head = re.sub(r"^[\d,]+ tokens$", "8,192 tokens", head)
            head = re.sub(r"^level \d$", "level 1", head)
            assert head in words or any(head in cell for cell in explained if "," in head), head


def test_several_answers_have_a_table_of_their_own() -> None:
    found = compare(two_tasks())
    tables = {task: [t.caption for t in detail_tables(found, task)] for task in found.tasks}
    assert not any("several answers" in caption for caption in tables["lab"])
    assert any("several answers" in caption for caption in tables["aime"])
    table = next(t for t in detail_tables(found, "aime") if "several answers" in t.caption)
    assert [column.head for column in table.columns][2:] == [
        *("avg", "pass@2", "pass@4", "pass@8", "maj@4", "maj@8"),
    ]


def test_runs_of_different_budgets_meet_under_the_smallest() -> None:
    runs = [simulate("system2", 0.8, 900, n=60), simulate("m", 0.8, 500, n=60, budget=1024)]
    found = compare(runs)
    caps = {row.name: [b.cap for b in row.details.budgets] for row in found.runs}
    assert caps["system2"][:3] == [2048, 1536, 1024]
    assert caps["m"][0] == 1024
    assert [w for w in found.warnings if "differ in budget" in w and "Smaller budgets" in w]
    (table,) = (t for t in detail_tables(found, "lab") if "smaller budgets" in t.caption)
    row = next(row for row in table.rows if row[0].text == "m")
    assert [cell.text for cell in row[1:3]] == ["\N{EN DASH}"] * 2


def test_a_still_picture_says_in_words_what_it_shows(small: RunComparison) -> None:
    def svg() -> str:
        name, figure, chart = next(f for f in figures(small) if f[2].name == "budgets")
        return picture(name, figure, chart, "svg").decode()

    text = svg()
    assert text.startswith("<svg")
    assert 'id="lab-budgets-title"' in text
    assert re.search(r"system2: .*[\d.]+ at 1,536, [\d.]+ at 2,048;", text)
    ET.fromstring(text)
    assert text == svg()


def test_a_comparison_renders_itself(small: RunComparison) -> None:
    assert render(small, "text") == small.to_text() == to_text(small)
    assert render(small, "json") == small.to_json() == to_json(small)
    assert render(small, "md") == small.to_markdown() == to_markdown(small)
    assert render(small, "html") == small.to_html() == to_html(small)


def test_markdown_tables_keep_their_columns_whatever_the_name() -> None:
    found = compare({HOSTILE: simulate("m", n=20), "system2": simulate("system2", n=20)})
    blocks = [b for b in to_markdown(found).split("\n\n") if b.startswith("|")]
    assert blocks
    for block in blocks:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert "\n<script" not in to_markdown(found)
    assert r"\<script\>" in to_markdown(found)


class Page(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(html: str) -> Page:
    page = Page()
    page.feed(html)
    return page


def test_the_page_needs_nothing_else_and_says_what_it_is(comparison: RunComparison) -> None:
    html = to_html(comparison)
    page = read_page(html)
    names = [tag for tag, _ in page.tags]
    assert ("html", {"lang": "en"}) in page.tags
    assert not {"img", "iframe", "object"} & set(names)
    assert all("src" not in attrs for _, attrs in page.tags)
    assert [attrs["href"] for tag, attrs in page.tags if tag == "link"] == ["data:,"]
    assert names.count("h1") == 1
    assert names.count("caption") == names.count("table") - 1 == 12  # one is filled by a script
    assert all(attrs.get("scope") in {"col", "row"} for tag, attrs in page.tags if tag == "th")
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a) or ""
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
    assert "unsafe-eval" not in policy
    assert "prefers-color-scheme: dark" in html
    assert headlines(comparison)[0] in page.text.replace("\N{NO-BREAK SPACE}", " ")


def test_every_chart_of_the_page_is_named_and_has_its_numbers_beside_it() -> None:
    found = compare(two_tasks())
    page = read_page(to_html(found))
    charts = [attrs for _, attrs in page.tags if attrs.get("class") == "chart"]
    identities = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(identities) == len(set(identities))
    assert len(charts) == sum(len(list(task_charts(found, task))) for task in found.tasks) == 12
    for attrs in charts:
        assert attrs["role"] == "img"
        assert len(attrs["aria-label"] or "") > 20
    folded = [attrs for tag, attrs in page.tags if tag == "details"]
    assert len([a for a in folded if a["class"] == "numbers"]) == len(charts) - len(found.tasks)


def test_hostile_names_and_messages_stay_text(tmp_path: Path) -> None:
    runs = {
        HOSTILE: changed(simulate("m", n=30), dtype=HOSTILE, grader=HOSTILE),
        "system2": simulate("system2", n=30),
        "\udc80broken": simulate("b", n=30),
    }
    tasks = tuple(replace(t, name=HOSTILE) for t in runs["system2"].experiment.tasks)
    runs = {
        name: replace(
            changed(run, tasks=tasks), results=tuple(replace(r, task=HOSTILE) for r in run.results)
        )
        for name, run in runs.items()
    }
    found = compare(runs)
    html = to_html(found)
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html
    assert "\x1b" not in html + to_text(found) + to_markdown(found)
    for suffix in (".html", ".json", ".md", ".png", ".svg", ".txt"):
        assert write(found, tmp_path / f"report{suffix}").stat().st_size > 500
    assert json.loads((tmp_path / "report.json").read_text())["runs"]
    ET.fromstring((tmp_path / "report.svg").read_text(encoding="utf-8"))


def test_equal_comparisons_give_equal_pictures(small: RunComparison) -> None:
    assert to_svg(small) == to_svg(small)


def test_the_picture_is_wide_enough_to_read(small: RunComparison, tmp_path: Path) -> None:
    png = write(small, tmp_path / "report.png").read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    assert width >= 1600
    assert height >= 900


def test_pictures_change_no_setting_of_matplotlib(tmp_path: Path) -> None:
    save(simulate("m", n=5), tmp_path / "m")
    code = (
        "import sys\nfrom laconic.reporting.report import report, to_png, to_svg\n"
        "found = report([sys.argv[1]])\nassert 'matplotlib' not in sys.modules\n"
        "import matplotlib\nbefore = matplotlib.rcParams.copy()\nto_png(found), to_svg(found)\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], check=True)


# -- labels ------------------------------------------------------------------------------------


def test_fifteen_crowded_labels_do_not_overlap() -> None:
    rng = np.random.default_rng(5)
    points = [(float(x), float(y)) for x, y in rng.uniform((200, 150), (330, 240), (15, 2))]
    frame = (50.0, 40.0, 600.0, 360.0)
    boxes = place(points, [(85.0, 11.0)] * 15, [], frame)
    for i, a in enumerate(boxes):
        assert frame[0] <= a[0] < a[2] <= frame[2]
        assert frame[1] <= a[1] < a[3] <= frame[3]
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_labels_of_the_whole_picture_do_not_overlap(comparison: RunComparison) -> None:
    from matplotlib.text import Annotation, Text

    figure = draw_fronts(comparison)
    figure.draw_without_rendering()
    notes = [child for child in figure.axes[0].get_children() if isinstance(child, Annotation)]
    assert len(notes) == 12
    boxes = [Text.get_window_extent(note) for note in notes]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_one_label_stays_beside_its_point() -> None:
    ((left, bottom, right, top),) = place([(100, 100)], [(40, 10)], [], (0, 0, 300, 300))
    assert right - left == pytest.approx(40)
    assert max(left - 100, 100 - right, bottom - 100, 100 - top) < 10


# -- files -------------------------------------------------------------------------------------


def test_a_report_writes_what_each_suffix_names(tmp_path: Path) -> None:
    save(simulate("system2", length=900, n=20), tmp_path / "runs" / "system2")
    save(simulate("m", n=20), tmp_path / "runs" / "m")
    target = tmp_path / "new" / "folder" / "report"
    outputs = [target.with_suffix(s) for s in (".html", ".json", ".md", ".png", ".svg", ".txt")]
    found = report([tmp_path / "runs"], margin=0.1, outputs=outputs)
    assert found.margin == 0.1
    assert sorted(target.parent.iterdir()) == sorted(outputs)
    assert target.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert target.with_suffix(".svg").read_text(encoding="utf-8").startswith("<svg")


def test_an_unknown_suffix_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"report\.pdf has no suffix.*\.html, \.json, \.md"):
        report([tmp_path], outputs=[tmp_path / "report.pdf"])


def test_a_place_that_cannot_be_written_is_named(small: RunComparison, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write(small, tmp_path / "file" / "report.json")
