"""A report's other forms: CSV, LaTeX, a paper's layout, still pictures; searches and trainings."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from laconic.errors import RunError
from laconic.reporting.charts.contract import history_charts, task_charts
from laconic.reporting.history import find_histories
from laconic.reporting.report import (
    RunComparison,
    compare,
    load,
    render,
    report,
    to_csv,
    to_latex,
    write,
    write_figures,
)
from laconic.reporting.tables.layouts import l2s_table
from laconic.reporting.tables.table import Cell, Column, Table
from laconic.runs.experiment import TaskRecord
from laconic.stats import front_band, pareto
from tests.reporting.test_report import changed, save, simulate, two_tasks
from tests.support.results import result

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.runs.run import Run

DASH = "\N{EN DASH}"


def told(name: str, texts: list[tuple[str, int, bool]]) -> Run:
    """A run of few answers whose every number can be worked out by hand."""
    rows = tuple(
        result(f"q{i}", length, right, task="lab", text=text, reflections=text.count("wait"))
        for i, (text, length, right) in enumerate(texts)
    )
    record = TaskRecord("lab", "lab", "abcdef0123456789", len(rows), 2048)
    return replace(changed(simulate(name, n=len(rows)), tasks=(record,)), results=rows)


@pytest.fixture(scope="module")
def tiny() -> RunComparison:
    return compare(
        [
            told("system2", [("wait, wait", 300, True), ("wait", 100, True), ("so", 200, False)]),
            told("m", [("wait", 100, True), ("so", 80, True), ("so", 120, True)]),
        ]
    )


# -- a paper's layout --------------------------------------------------------------------------


def test_the_papers_layout_holds_its_own_numbers(tiny: RunComparison) -> None:
    table = l2s_table(tiny)
    assert [column.head for column in table.columns] == ["model", "lab", "Avg", "ΔLen, %"]
    system2, merged = table.rows
    assert [cell.text for cell in system2] == ["system2", "66.7 (200.0)", "66.7", "+0.0"]
    assert system2[1].aside == "[2; 1.5]"
    assert [cell.text for cell in merged] == ["m", "100.0 (100.0)", "100.0", "\N{MINUS SIGN}50.0"]
    assert merged[1].aside == "[1; 1.0]"


def test_the_papers_averages_count_every_task_the_same() -> None:
    found = compare(two_tasks())
    row = next(row for row in l2s_table(found).rows if row[0].text == "m")
    lengths = {(r.name, r.task): r.summary.length.value for r in found.runs}
    changes = [lengths["m", task] / lengths["system2", task] - 1 for task in found.tasks]
    assert row[-1].text == f"{50 * sum(changes):.1f}".replace("-", "\N{MINUS SIGN}")


def test_runs_apart_and_runs_without_a_task_get_no_average_of_the_paper() -> None:
    other = changed(simulate("m", n=30), grader="other")
    table = l2s_table(compare([simulate("system2", n=30), other]))
    assert table.rows[1][0].aside == "apart: graded by other, not exact 1"
    assert table.rows[1][-1].text == DASH
    found = compare([*two_tasks(), simulate("one-task", n=60)])
    row = next(row for row in l2s_table(found).rows if row[0].text == "one-task")
    assert [cell.text for cell in row[2:]] == [DASH] * 3


def test_a_layout_is_a_table_and_nothing_else(tiny: RunComparison, tmp_path: Path) -> None:
    assert max(map(len, render(tiny, "text", layout="l2s").splitlines())) <= 80
    assert "| m | 100.0 (100.0)" in render(tiny, "md", layout="l2s")
    assert next(csv.reader(io.StringIO(render(tiny, "csv", layout="l2s"))))[0] == "model"
    with pytest.raises(RunError, match=r"write it as text, \.md, \.csv or \.tex, not as html"):
        render(tiny, "html", layout="l2s")
    with pytest.raises(RunError, match=r"no layout 'l2'.*'l2s'"):
        render(tiny, "text", layout="l2")
    with pytest.raises(RunError, match=r"not as \.png"):
        write(tiny, tmp_path / "a.png", layout="l2s")
    assert list(tmp_path.iterdir()) == []


# -- CSV and LaTeX -----------------------------------------------------------------------------


def test_csv_has_a_line_for_each_run_and_task_and_no_formulas() -> None:
    runs = [simulate("=HYPERLINK(1)", n=40), simulate("system2", length=900, n=40)]
    apart = changed(simulate("apart", n=40), grader="other")
    found = compare([*runs, apart])
    rows = {row["run"]: row for row in csv.DictReader(io.StringIO(to_csv(found)))}
    assert set(rows) == {"'=HYPERLINK(1)", "system2", "apart"}
    formula, baseline = rows["'=HYPERLINK(1)"], rows["system2"]
    (pair,) = found.pairs
    assert float(formula["length_change"]) == pytest.approx(pair.length_change.value)
    assert float(formula["accuracy_diff_low"]) == pytest.approx(pair.accuracy_diff.low)
    assert formula["not_worse"] == pair.not_worse.verdict
    assert baseline["accuracy_diff"] == baseline["not_worse"] == ""
    assert rows["apart"]["apart"] == "graded by other, not exact 1"


def test_latex_sets_every_sign_as_it_stands() -> None:
    nasty = "50 % & $x_1$ #{a} \\end{table} ~^ <b> |"
    table = Table(nasty, (Column("run"), Column("a")), ((Cell(nasty), Cell("[1; 2]", "3")),))
    text = to_latex([table])
    assert text.count("\\end{table}") == 1
    assert "50 \\% \\& \\$x\\_1\\$ \\#\\{a\\} \\textbackslash{}end\\{table\\}" in text
    body = text[text.index("\\begin{tabular}") : text.index("\\end{tabular}")]
    rows = [line for line in body.splitlines() if line.endswith("\\\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [1, 1]
    assert "{[1; 2]} {\\scriptsize (3)} \\\\" in text


# -- charts and pictures -----------------------------------------------------------------------


def test_the_charts_hold_the_numbers_of_the_comparison(tiny: RunComparison) -> None:
    charts = {chart.name: chart for chart in task_charts(tiny, "lab")}
    assert list(charts) == ["front", "lengths", "shares", "ease", "budgets"]
    marks = {series.name: (series.x, series.y) for series in charts["front"].panels[0].series}
    assert marks == {"m": ((100.0,), (100.0,)), "system2": ((200.0,), (pytest.approx(200 / 3),))}
    assert charts["front"].panels[0].front == ((100.0, 100.0),)
    boxes = {series.name: series.x for series in charts["lengths"].panels[0].series}
    assert boxes["system2"][2] == 200.0
    reflects = {series.name: series.x[0] for series in charts["shares"].panels[1].series}
    assert reflects == {"m": pytest.approx(100 / 3), "system2": pytest.approx(200 / 3)}


def test_the_band_of_the_front_holds_the_front_and_narrows_with_problems() -> None:
    few = compare([simulate("a", 0.5, 200, n=40), simulate("system2", 0.9, 900, n=40)])
    many = compare([simulate("a", 0.5, 200, n=2000), simulate("system2", 0.9, 900, n=2000)])
    widths = []
    for found in (few, many):
        (panel,) = task_charts(found, "lab")[0].panels
        assert panel.area is not None
        band = panel.area
        assert list(band.x) == sorted(band.x)
        best = max(y for _, y in panel.front)
        assert band.low[-1] <= best <= band.high[-1]
        widths.append(band.high[-1] - band.low[-1])
    assert widths[1] < widths[0] / 3
    points = {row.name: (row.summary.accuracy.value, row.summary.length.value) for row in few.runs}
    assert few.pareto["lab"] == pareto(points)
    alone = front_band({"a": few.responses["a", "lab"]})
    assert alone.high[0] >= few.rows("lab")[0].summary.accuracy.value >= alone.low[0]


@pytest.mark.slow
def test_every_chart_is_written_as_a_picture_of_its_own(tmp_path: Path) -> None:
    runs = [simulate("system2", length=900, n=40), simulate("$x^$ <b>", n=40)]
    found = compare(runs)
    written = write_figures(found, tmp_path / "figures")
    names = {chart.name for chart in task_charts(found, "lab")}
    assert names == {"front", "lengths", "shares", "level", "ease", "budgets"}
    assert {path.name for path in written} == {
        f"lab-{name}.{kind}" for name in names for kind in ("png", "svg")
    }
    for path in written:
        if path.suffix == ".svg":
            root = ET.fromstring(path.read_text(encoding="utf-8"))
            assert root.get("role") == "img"
        else:
            assert path.read_bytes().startswith(b"\x89PNG")


# -- searches and trainings --------------------------------------------------------------------


def estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value, "high": value}


def trial(name: str, state: str, accuracy: float, length: float, spent: int) -> dict[str, Any]:
    shown = {"accuracy": estimate(accuracy), "length": estimate(length)}
    return {
        "name": name,
        "state": state,
        "measured": shown,
        "spent": spent,
        "run": f"trials/{name}",
    }


def study(folder: Path) -> Path:
    for name in ("0.5", "0.9", "0.1"):
        run = simulate(name, n=20, first=None if name != "0.1" else 5)
        save(run, folder / "trials" / name)
    save(simulate("system2", length=900, n=20), folder / "references" / "system2")
    trials = [
        trial("0.5", "complete", 0.8, 500, 1000),
        trial("0.1", "dropped", 0.2, 100, 1500),
        trial("0.9", "complete", 0.9, 700, 3000),
    ]
    lines = "".join(json.dumps(one) + "\n" for one in trials)
    (folder / "trials.jsonl").write_text(lines)
    measured = {"accuracy": estimate(0.9), "length": estimate(900.0)}
    facts = {"references": {"system2": measured}, "winner": {"name": "0.5"}}
    (folder / "study.json").write_text(json.dumps(facts))
    return folder


def training(folder: Path) -> Path:
    folder.mkdir()
    records = [
        {
            "step": step,
            "before": {"short": 0.5, "long": 0.5},
            "after": {"short": 0.5 + step / 100, "long": 0.5 - step / 100},
            "measured": {
                "accuracy": 0.7,
                "accuracy_se": 0.02,
                "length": 400 - step,
                "length_se": 9,
            },
        }
        for step in (10, 20)
    ]
    (folder / "mixture.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    return folder


def test_a_search_is_told_and_its_dropped_candidates_are_no_runs(tmp_path: Path) -> None:
    folder = study(tmp_path / "study")
    assert [run.name for run in load([folder])] == ["system2", "0.5", "0.9"]
    found = report([folder], outputs=[tmp_path / "report.html"])
    (history,) = found.histories
    assert history.story == (
        "The search study: 3 candidates, 2 measured in full, 3,000 tokens generated; winner 0.5."
    )
    over, plane = history_charts(history)
    assert {series.name: series.x for series in over.panels[0].series} == {
        "measured in full": (1000.0, 3000.0),
        "dropped early": (1500.0,),
        "the winner": (1000.0,),
        "System 2": (0.0, 3000.0),
    }
    assert plane.panels[0].series[0].y == (80.0, 90.0)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'id="chart-c-search-study"' in page
    assert history.story in " ".join(found.to_text(width=200).split())


def test_a_training_is_told_by_its_mixture_and_what_it_led_to(tmp_path: Path) -> None:
    (history,) = find_histories([training(tmp_path / "t")])
    (chart,) = history_charts(history)
    shares, accuracy, length = chart.panels
    assert {series.name: series.y for series in shares.series} == {
        "short": (50.0, 60.0, 70.0),
        "long": (50.0, 40.0, pytest.approx(30.0)),
    }
    assert accuracy.series[0].y_ends[0] == pytest.approx((70 - 3.92, 70 + 3.92))
    assert length.series[0].y == (390.0, 380.0)
    assert history.story.endswith("length 390 to 380 tokens.")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"step": 1}\n', "a record has no 'measured'"),
        ("[]\n", "line 1 is damaged"),
        ("{\n", "damaged"),
    ],
)
def test_a_damaged_training_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mixture.jsonl").write_text(text)
    with pytest.raises(RunError, match=words):
        find_histories([tmp_path])


def test_a_search_that_has_not_begun_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{}")
    (tmp_path / "trials.jsonl").write_text("")
    (tmp_path / "mixture.jsonl").write_text("")
    assert find_histories([tmp_path]) == ()


# -- the command -------------------------------------------------------------------------------


def test_the_command_writes_what_it_is_asked_for_or_nothing(tmp_path: Path) -> None:
    save(simulate("system2", length=900, n=20), tmp_path / "runs" / "system2")
    save(simulate("m", n=20), tmp_path / "runs" / "m")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "laconic", "report", "runs", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run("-o", "r.csv", "-o", "r.tex", "--layout", "l2s")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.csv").exists()
    assert "\\toprule" in (tmp_path / "r.tex").read_text()
    refused = run("-o", "new.csv", "-o", "r.pdf")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "r.pdf has no suffix" in refused.stderr
    assert not (tmp_path / "new.csv").exists()
