"""Protocols of papers: their figures, how they ask, and what a report says beside them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from laconic.errors import TaskError
from laconic.evaluation.evaluate import evaluate
from laconic.evaluation.protocols.load import PRESETS, find_protocol
from laconic.reporting.report import compare, to_html, to_json, to_markdown, to_text
from laconic.runs.experiment import Sampling
from laconic.runs.run import Run, Sample, read_run
from laconic.scoring.answers.extract import boxed_answer
from laconic.tasks.contract.prompts import EXAMPLES, PROMPTS, find_prompt, put
from laconic.tasks.contract.task import TASKS, load_task

DATA = Path(__file__).parents[2].parent / "shared" / "data"
#: Table 1's averages and changes of length, as the paper prints them where they recompute.
PRINTED = {
    "DPO (trained on s1K)": (56.7, -15.0),
    "Average": (48.6, -34.6),
    "Task Arithmetic": (53.5, -48.7),
    "TIES": (54.8, -53.0),
    "AIM-TIES": (55.0, -55.3),
    "Sens-Merging": (56.4, -49.8),
}


def test_every_preset_asks_known_tasks_in_known_words() -> None:
    assert PRESETS.names() == ("l2s-1.5b", "l2s-14b", "l2s-32b", "l2s-7b", "tldr-14b", "tldr-7b")
    for name in PRESETS.names():
        preset = PRESETS.get(name)
        assert all(task in TASKS for task in preset.tasks)
        assert all(rule.prompt in PROMPTS for rule in preset.roles.values())
        assert all(set(row) <= set(preset.tasks) for row in preset.figures.values())
        assert preset.notes
        if preset.temperature == 0:
            assert set(preset.tasks.values()) == {1}


@pytest.mark.parametrize("method", PRINTED)
def test_the_figures_give_the_printed_averages(method: str) -> None:
    figures = PRESETS.get("l2s-7b").figures
    accuracy, change = PRINTED[method]
    row, parent = figures[method], figures["DeepSeek-R1-7B"]
    assert mean(a for a, _ in row.values()) == pytest.approx(accuracy, abs=0.051)
    changes = [(row[t][1] or 0) / (parent[t][1] or 1) - 1 for t in row]
    assert 100 * mean(changes) == pytest.approx(change, abs=0.06)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("l2s7b", "No preset 'l2s7b'. Did you mean 'l2s-7b'"),
        ("l2s-7b:rolle=system1", "there is no 'rolle', only 'role'"),
        ("tldr-7b:role=system1", "tldr-7b has no role 'system1'. Did you mean 'system2'"),
    ],
)
def test_what_is_no_preset_is_named(spec: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        find_protocol(spec)


def test_examples_end_in_a_box_and_come_before_the_problem() -> None:
    assert all(boxed_answer(said) for shots in EXAMPLES.values() for _, said in shots)
    asked = put(find_prompt("cot"), Sample("gsm8k", "1", "How {many}?", "1"))
    assert asked.raw
    assert asked.stop[0] == "\n\nQuestion:"
    assert asked.problem.count("Question: ") == asked.problem.count("Answer:") == 5
    assert asked.problem.endswith("Question: How {many}?\nAnswer:")
    other = put(find_prompt("cot"), Sample("math500", "1", "?", "1"))
    assert other.problem.split("\n")[0] != asked.problem.split("\n")[0]
    assert put(find_prompt("plain"), Sample("t", "1", "?", "1")) == Sample("t", "1", "?", "1")


def test_raw_words_are_another_task_than_the_same_words_in_a_template(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"problem": "x", "answer": "1"}\n')
    usual = load_task(str(path), prompt="Question: {problem}\nAnswer:")
    raw = load_task(str(path), prompt="qwen25-math-cot")
    assert "<|im_start|>user\nx<|im_end|>" in raw.samples[0].problem
    assert usual.record(None).digest != raw.record(None).digest


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    """A problem of each task of tldr-7b, and completions of them to replay."""
    folder = tmp_path / "problems"
    folder.mkdir()
    lines: list[dict[str, Any]] = []
    for task, repeats in PRESETS.get("tldr-7b").tasks.items():
        row = {"id": f"{task}/0", "problem": "1+1?", "answer": "2"}
        (folder / f"{task}.jsonl").write_text(json.dumps(row) + "\n")
        lines += [
            {"task": task, "id": f"{task}/0", "repeat": r, "text": rf"\boxed{{{2 + r % 2}}}"}
            for r in range(repeats)
        ]
    text = "\n".join(json.dumps({**line, "length": 100}) for line in lines)
    (tmp_path / "made.jsonl").write_text(text)
    return folder


def follow(problems: Path, output: Path | None = None, **options: Any) -> Run:
    made = f"replay:path={problems.parent / 'made.jsonl'}"
    told: dict[str, Any] = {"preset": "tldr-7b", "data": problems, "output": output, **options}
    return evaluate("m", backend=made, **told)


def test_a_preset_says_tasks_words_repeats_and_budget(problems: Path, tmp_path: Path) -> None:
    run = follow(problems, tmp_path / "run", sampling=Sampling(seed=5))
    made = run.experiment
    assert made.sampling == Sampling(8192, 0.7, 1.0, 1, 5)
    asked = [(t.name, t.problems, t.repeats, t.max_tokens) for t in made.tasks]
    assert asked == [
        ("gsm8k", 1, 1, 8192),
        ("math500", 1, 1, 8192),
        ("aime24", 1, 8, 8192),
        ("amc23", 1, 8, 8192),
    ]
    assert len(run.results) == 18
    assert run.results[0].problem == r"Return your final response within \boxed{}. 1+1?"
    assert run.provenance["preset"] == {"name": "tldr-7b", "role": "system2"}
    assert read_run(tmp_path / "run").experiment == made


def test_a_report_puts_the_papers_figures_beside_ours(problems: Path, tmp_path: Path) -> None:
    follow(problems, tmp_path / "run")
    shown = compare([read_run(tmp_path / "run")])
    assert [(r.task, r.asked, r.complete) for r in shown.runs][2] == ("aime24", 8, True)
    figure = next(f for f in shown.published if (f.task, f.name) == ("aime24", "TL;DR (ckpt 256)"))
    assert (figure.preset, figure.accuracy, figure.length) == ("tldr-7b", 0.4125, 6368)
    assert not [f for f in shown.published if (f.task, f.name[:5]) == ("aime24", "SimPO")]
    for text in (to_text(shown, width=100), to_markdown(shown), to_html(shown)):
        assert "beside published figures" in text
        assert "ThinkPrune-7B" in text
        assert "budget of 8,192 tokens cuts many answers" in " ".join(text.split())
    assert json.loads(to_json(shown))["published"][0]["task"] == "gsm8k"
    assert not [w for w in shown.warnings if "Other budgets" in w or "Not asked" in w]
    assert any(c.what == "answers" for c in shown.conditions)


def test_departures_from_a_protocol_are_told(problems: Path) -> None:
    part = follow(problems, sampling=Sampling(4000)).renamed("cut")
    few = evaluate(
        "m",
        ["gsm8k"],
        preset="tldr-7b",
        data=problems,
        backend=f"replay:path={problems.parent / 'made.jsonl'}",
    ).renamed("few")
    warnings = compare([part, few]).warnings
    assert (
        "Other budgets than the protocol tldr-7b's: cut, whose budget is 8,192 there." in warnings
    )
    assert "Not asked every task of the protocol tldr-7b: few." in warnings
    with pytest.raises(TaskError, match="has no such task"):
        follow(problems, tasks=["lab"])
    with pytest.raises(TaskError, match="is one file, and there are 4 tasks"):
        follow(problems, data=problems / "gsm8k.jsonl")


def test_runs_of_no_protocol_have_no_published_figures(problems: Path) -> None:
    run = evaluate(
        "m",
        ["gsm8k"],
        data=problems,
        backend=f"replay:path={problems.parent / 'made.jsonl'}",
    )
    shown = compare([run])
    assert shown.published == ()
    assert "published" not in to_text(shown)


def test_programs_are_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    row = TASKS.get("humaneval").traits["dataset"].example
    path = tmp_path / "humaneval.jsonl"
    path.write_text(json.dumps(dict(row)))
    made = {"id": "humaneval/0", "text": "```python\ndef twice(n): return n + n\n```", "length": 9}
    (tmp_path / "made.jsonl").write_text(json.dumps(made))
    options: dict[str, Any] = {"data": path, "backend": f"replay:path={tmp_path / 'made.jsonl'}"}
    with pytest.raises(TaskError, match=r"humaneval: grading programs .* --allow-code"):
        evaluate("m", ["humaneval"], output=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    run = evaluate("m", ["humaneval"], allow_code=True, **options)
    assert [r.outcome for r in run.results] == ["correct"]
    assert isinstance(run.provenance["sandbox"], list)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared logs are not here")
def test_the_papers_own_responses_give_its_figures(tmp_path: Path) -> None:
    lines = []
    for task in ("gsm8k", "math500"):
        with gzip.open(DATA / "logs" / f"r1-7b-tldr__{task}.jsonl.gz", "rt") as stream:
            rows = list(map(json.loads, stream))
        lines += [
            {"task": task, "id": r["problem_id"], "text": r["response"], "length": r["tokens_qwen"]}
            for r in rows
        ]
    (tmp_path / "made.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run = evaluate(
        "tldr",
        ["gsm8k", "math500"],
        preset="tldr-7b",
        data=DATA / "problems",
        backend=f"replay:path={tmp_path / 'made.jsonl'}",
    )
    for row in compare([run]).runs:
        accuracy, length = PRESETS.get("tldr-7b").figures["TL;DR (ckpt 256)"][row.task]
        assert round(row.summary.length.value) == length
        # MATH500 was graded 1 to 3 points too low
        assert -0.1 < 100 * row.summary.accuracy.value - accuracy < 3
