"""Problem sets: every kind of file, the Hub, and errors that name file, line and column."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from laconic.errors import TaskError
from laconic.scoring.check_references import check_golds
from laconic.scoring.score import Grader
from laconic.tasks.contract.dataset import Row, read_rows
from laconic.tasks.contract.task import TASKS, load_task
from tests.support.hub_server import Hub, serve

PROBLEMS = Path(__file__).parents[2].parent / "shared" / "data" / "problems"
needs_data = pytest.mark.skipif(not PROBLEMS.is_dir(), reason="the shared problems are not here")
ROWS: list[dict[str, Any]] = [
    {"problem": "1+1?", "answer": "2", "level": "Level 3"},
    {"problem": "2,5 and \u2028 more?", "answer": "7", "level": "Level 1"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file of rows, in the form that its suffix names."""
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    if path.name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".csv":
        cells = [[f'"{value}"' for value in row.values()] for row in rows]
        path.write_text("\n".join(",".join(c) for c in [list(rows[0]), *cells]))
    elif path.suffix == ".parquet":
        arrow = pytest.importorskip("pyarrow", reason="pyarrow is in the tasks extra")
        from pyarrow import parquet

        parquet.write_table(arrow.Table.from_pylist(rows), path)
    else:
        path.write_text(lines)
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    folder = tmp_path / "set"
    folder.mkdir()
    write(folder / "test.jsonl", [dict(TASKS.get("math500").traits["dataset"].example)])
    with serve({"HuggingFaceH4/MATH-500": folder}) as served:
        served.commits["HuggingFaceH4/MATH-500"] = TASKS.get("math500").traits["dataset"].revision
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield served


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet"])
def test_a_folder_gives_a_task_its_rows_in_every_form(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"math{suffix}", ROWS)
    task = load_task("math", data=tmp_path)
    assert (task.name, task.source) == ("math", f"math ({path})")
    assert [(s.id, s.problem, s.gold, s.level) for s in task.samples] == [
        ("math/0", "1+1?", "2", 3),
        ("math/1", "2,5 and \u2028 more?", "7", 1),
    ]
    assert load_task(f"math:data={path},level=1").samples[0].id == "math/1"
    assert load_task(f"math:data={path},level=1").name == "math-1"


def test_the_hub_gives_the_pinned_commit_once(hub: Hub) -> None:
    revision = TASKS.get("math500").traits["dataset"].revision
    for _ in range(2):
        task = load_task("math500")
        assert task.source == f"math500 (HuggingFaceH4/MATH-500@{revision})"
        assert [(s.id, s.gold) for s in task.samples] == [
            ("math500/test/prealgebra/1.json", r"\frac{5}{6}")
        ]
    size = (hub.models["HuggingFaceH4/MATH-500"] / "test.jsonl").stat().st_size
    assert hub.served["test.jsonl"] == size


@pytest.mark.parametrize(
    ("status", "gated", "reason"),
    [(402, False, "the Hub answered 402"), (0, True, "it is gated")],
)
def test_a_set_that_cannot_be_had_is_told_in_one_sentence(
    hub: Hub, status: int, gated: bool, reason: str
) -> None:
    hub.status = status
    hub.gated = {"HuggingFaceH4/MATH-500"} if gated else set()
    with pytest.raises(TaskError, match=rf"test\.jsonl of the data set .*{reason}.*--data"):
        load_task("math500")


def test_a_set_away_from_the_hub_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(TaskError, match="HF_HUB_OFFLINE forbids"):
        load_task("math500")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "2"}, r"line 1 needs 'question' or 'problem' \(text or a number\); it holds"),
        ({"question": "", "answer": "2"}, "line 1 needs .*; it is ''"),
        ({"question": "x", "answer": [1]}, r"line 1 needs 'answer' .*; it is '\[1\]'"),
    ],
)
def test_a_row_without_its_columns_is_named(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "gsm8k.jsonl", [row])
    with pytest.raises(TaskError, match=message):
        load_task("gsm8k", data=path)


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path / "gsm8k.jsonl", ROWS)
    with pytest.raises(TaskError, match=r"holds no math500\.jsonl\. Known: gsm8k"):
        load_task("math500", data=tmp_path)
    with pytest.raises(TaskError, match=r"absent\.jsonl cannot be read: No such file"):
        load_task("math500", data=tmp_path / "absent.jsonl")
    with pytest.raises(TaskError, match="the task lab makes its problems"):
        load_task("lab", data=tmp_path)
    with pytest.raises(TaskError, match="is a file already"):
        load_task(str(tmp_path / "gsm8k.jsonl"), data=tmp_path)
    broken = tmp_path / "broken.jsonl.gz"
    broken.write_bytes(gzip.compress(b'{"problem": "x"}')[:-9])
    with pytest.raises(TaskError, match=r"broken.*cannot be read"):
        list(read_rows(broken))


def test_a_parquet_file_says_what_reads_it(tmp_path: Path) -> None:
    (tmp_path / "math.parquet").write_bytes(b"no parquet")
    with pytest.raises(TaskError, match=r"pip install 'laconic\[tasks\]'|cannot be read"):
        load_task("math", data=tmp_path)


def test_ids_keep_their_task_and_levels_are_read() -> None:
    row = Row({"ID": 7, "level": "Level ?"}, 3, "here")
    assert row.name("aime83_23", "ID") == "aime83_23/7"
    assert Row({"id": "gsm8k/9"}, 3, "here").name("gsm8k") == "gsm8k/9"
    assert Row({}, 3, "here").name("gsm8k") == "gsm8k/3"
    assert row.level() is None
    assert Row({"level": 5}, 0, "here").level() == 5


@pytest.mark.parametrize(
    ("name", "row", "gold"),
    [
        ("gsm8k", {"question": "?", "answer": "So 3.\n#### 1,234"}, "1,234"),
        ("gsm8k", {"problem": "?", "answer": "18"}, "18"),
        ("olympiadbench", {"question": "?", "final_answer": ["$x=1$", "$x=2$"]}, "$x=1$, $x=2$"),
        ("olympiadbench", {"problem": "?", "answer": "1,2"}, "1,2"),
        (
            "math",
            {"problem": "?", "solution": r"\boxed{1} then \boxed{\frac{a}{b}}."},
            r"\frac{a}{b}",
        ),
        ("math", {"problem": "?", "solution": r"so $\boxed 2$."}, "2"),
    ],
)
def test_golds_come_out_of_the_sets_own_columns(
    tmp_path: Path, name: str, row: dict[str, Any], gold: str
) -> None:
    path = write(tmp_path / "rows.jsonl", [row])
    (sample,) = load_task(name, data=path).samples
    assert sample.gold == gold


def test_aime_stops_before_2024_and_a_solution_needs_a_box(tmp_path: Path) -> None:
    years = [{"ID": f"{y}-1", "Year": str(y), "Question": "?", "Answer": "1"} for y in (2023, 2024)]
    path = write(tmp_path / "aime.csv", years)
    assert [s.id for s in load_task("aime83_23", data=path).samples] == ["aime83_23/2023-1"]
    path = write(tmp_path / "math.jsonl", [{"problem": "?", "solution": "none"}])
    with pytest.raises(TaskError, match="line 1 needs an 'answer', or a 'solution'"):
        load_task("math", data=path)


@pytest.mark.slow
def test_the_examples_of_all_sets_can_be_graded() -> None:
    with Grader(allow_code=True) as grader:
        for plugin in TASKS.all():
            dataset = plugin.traits["dataset"]
            if dataset and dataset.repo:
                samples = list(plugin.function(iter([Row(dataset.example, 0, "example")])))
                assert {check.means for check in check_golds(samples, grader)} <= {
                    "number",
                    "algebra",
                    "program",
                }, plugin.name


@needs_data
def test_the_public_sets_load_under_their_names() -> None:
    sizes = {"gsm8k": 1319, "math500": 500, "minerva_math": 272, "olympiadbench": 675}
    sizes |= {"college_math": 2818, "aime24": 30, "aime83_23": 919, "amc23": 40}
    for name, size in sizes.items():
        named = load_task(name, data=PROBLEMS)
        plain = load_task(str(PROBLEMS / f"{name}.jsonl"))
        assert len(named.samples) == size
        assert [(s.id, s.problem, s.gold) for s in named.samples] == [
            (s.id, s.problem, s.gold) for s in plain.samples
        ]
