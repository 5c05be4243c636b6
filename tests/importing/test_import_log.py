"""Logs of other tools: fields found, lengths counted, budgets inferred; real logs as they are."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from laconic.errors import LaconicError, RunError
from laconic.importing.counting import count_tokens, open_tokenizer
from laconic.importing.import_log import import_log
from laconic.importing.plain import read_plain
from laconic.reporting.report import compare

if TYPE_CHECKING:
    from laconic.runs.run import Run

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared logs are not here")
BROKEN = "Now the sum of the first row is 12 and of the second one it must then be"
FILES = sorted((DATA / "logs").glob("*.jsonl.gz"))


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def problems(folder: Path) -> Path:
    return write(
        folder / "sums.jsonl",
        *({"id": f"p{n}", "problem": f"{n}+1?", "answer": str(n + 1)} for n in range(4)),
    )


def row(n: int, tokens: int = 40, **other: Any) -> dict[str, Any]:
    return {"id": f"p{n}", "response": rf"so \boxed{{{n + 1}}}", "tokens": tokens, **other}


def bring(folder: Path, *rows: dict[str, Any], **options: Any) -> Run:
    log = write(folder / "log.jsonl", *rows)
    given: dict[str, Any] = {"data": problems(folder), "mapped": {"length": "tokens"}, **options}
    return import_log(log, "sums", folder / "run", **given)


def test_a_log_becomes_a_run_that_a_report_reads(tmp_path: Path) -> None:
    run = bring(tmp_path, row(0), row(1), {**row(2), "response": r"\boxed{7}"}, {**row(3)})
    assert [r.correct for r in run.results] == [True, True, False, True]
    assert run.complete
    assert run.results[0].problem == "0+1?"
    (shown,) = compare([run], baseline=run.name).runs
    assert (shown.summary.accuracy.value, shown.summary.length.value) == (0.75, 40)
    assert not (tmp_path / ".run.partial").exists()


def test_a_recorded_finish_and_cap_are_believed(tmp_path: Path) -> None:
    run = bring(
        tmp_path,
        row(0, 99, finish_reason="stop", max_tokens=100),
        row(1, 50, finish_reason="length", max_tokens=100),
    )
    assert [r.truncated for r in run.results] == [False, True]
    assert run.experiment.tasks[0].max_tokens == 100
    assert not any("inferred" in note for note in run.provenance["notes"])


def test_truncation_is_inferred_from_a_cap_and_said_to_be(tmp_path: Path) -> None:
    broken = {"cap": 100, "response": BROKEN}
    run = bring(tmp_path, row(0, 93, **broken), row(1, 91, **broken), row(2, 94, cap=100))
    assert [r.truncated for r in run.results] == [True, False, False]  # the last has its answer
    (warning,) = (w for w in compare([run]).warnings if "truncation" in w)
    assert "truncation is inferred: completions within 8 tokens" in warning


def test_a_cap_is_inferred_where_completions_pile_up_and_only_there(tmp_path: Path) -> None:
    lengths = (512, 511, 509, 80)
    texts = (BROKEN, BROKEN, BROKEN, "The answer is 4.")
    rows = [
        row(n, t, response=text) for n, (t, text) in enumerate(zip(lengths, texts, strict=True))
    ]
    run = bring(tmp_path, *rows)
    assert [r.truncated for r in run.results] == [True, True, True, False]
    (note,) = (n for n in run.provenance["notes"] if "the budget is inferred" in n)
    assert "3 completions end at 512 tokens, the longest length, 3 of them in the middle" in note
    assert run.experiment.tasks[0].max_tokens == 512
    other = tmp_path / "other"
    other.mkdir()
    run = bring(other, row(0, 512), row(1, 80))
    assert [r.truncated for r in run.results] == [False, False]
    assert run.experiment.tasks[0].max_tokens is None
    assert any("no budget is known" in note for note in run.provenance["notes"])


def test_samples_are_numbered_where_the_log_does_not(tmp_path: Path) -> None:
    run = bring(tmp_path, row(0), row(1), row(0))
    assert [r.key for r in run.results] == [("sums", "p0", 0), ("sums", "p1", 0), ("sums", "p0", 1)]
    assert run.experiment.sampling.repeats == 2
    assert not run.experiment.sampling.recorded
    assert "problems have from 1 to 2 completions" in run.provenance["notes"]


def test_a_gzipped_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(row(0)).encode()))
    log = read_plain(path, {"length": "tokens"})
    assert (log.records[0].id, log.records[0].length) == ("p0", 40)
    assert log.columns == {"id": "id", "response": "response", "length": "tokens"}
    path.write_bytes(gzip.compress(json.dumps(row(0)).encode())[:-12])
    with pytest.raises(RunError, match="cannot be read"):
        read_plain(path, {"length": "tokens"})


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([row(0)], {"mapped": {}}, "nothing says how many tokens"),
        ([row(0)], {"mapped": {"size": "tokens"}}, "there is no such field"),
        ([row(0)], {"mapped": {"length": "tokns"}}, "Did you mean 'tokens'"),
        ([row(0, 2)], {}, "counts words, not tokens"),
        ([row(0), {**row(1), "tokens": None}], {}, "line 2 has no length (column tokens)"),
        ([row(0), {**row(1), "tokens": "9"}], {}, "line 2: tokens cannot be the length, got '9'"),
        ([row(0), {**row(1), "tokens": -9}], {}, "line 2: tokens cannot be the length, got -9"),
        ([row(7)], {}, "'p7' is no problem of"),
        ([row(0, sample=1), row(0, sample=1)], {}, "line 2: sample 1 of 'p0' stands in line 1"),
        ([row(0, cap=10), row(1, cap=20)], {}, "different budgets (10, 20 tokens)"),
        ([row(0, model="a"), row(1, model="b")], {}, "several models (a, b)"),
        ([{"id": "p0", "tokens": 1}], {}, "no column is known to be the response"),
        ([row(0, 50)], {"cap": 40}, "--cap 40: a completion has 50 tokens"),
        ([row(0, 50)], {"cap": 0}, "--cap must be at least 1"),
        ([], {}, "holds no completions"),
        ([row(0)], {"data": Path("nowhere")}, "nowhere does not exist"),
        ([row(0)], {"tokenizer": Path("nowhere")}, "there is no nowhere"),
    ],
)
def test_a_log_that_cannot_be_used_is_refused_and_leaves_nothing(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(LaconicError) as caught:
        bring(tmp_path, *rows, **options)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_broken_lines_are_named(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"id": 1, "response": "x"}\n{"id"\n')
    with pytest.raises(RunError, match=r"log\.jsonl, line 2 is not JSON"):
        read_plain(tmp_path / "log.jsonl", {})
    (tmp_path / "log.jsonl.gz").write_bytes(
        gzip.compress(b'{"id": 1, "response": "x"}\n' * 99)[:-9]
    )
    with pytest.raises(RunError, match="cannot be read"):
        read_plain(tmp_path / "log.jsonl.gz", {})


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="exists"):
        bring(tmp_path, row(0))


def test_ranks_of_an_unknown_vocabulary_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(bytes([b])) + b" %d\n" % b for b in range(256)))
    with pytest.raises(RunError, match=r"holds 256 ranks.*151,643 \(Qwen2\.5"):
        open_tokenizer(path)
    path.write_text("not ranks\n")
    with pytest.raises(RunError, match="line 1 is no token and rank"):
        open_tokenizer(path)


def read_log(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


@pytest.mark.slow
@needs_data
def test_the_tokenizer_counts_what_the_logs_count() -> None:
    tokenizer = open_tokenizer(DATA / "problems" / "tokenizer" / "qwen.tiktoken")
    for path in FILES:
        rows = read_log(path)[::7]
        counted = count_tokens(tokenizer, [row["response"] for row in rows])
        assert counted == [row["tokens_qwen"] for row in rows], path.name


def check_file(path: Path, folder: Path) -> None:
    """A log imported as it is has the reference's figures."""
    name, task = path.name.removesuffix(".jsonl.gz").split("__")
    expected = json.loads((DATA / "logs" / "expected.json").read_text())["table"][task][name]
    run = import_log(
        path,
        task,
        folder / path.name,
        data=DATA / "problems",
        mapped={"id": "problem_id", "length": "tokens_qwen"},
    )
    summary = compare([run]).runs[0].summary
    assert (run.experiment.model, summary.n) == (name, expected["n"])
    assert sum(r.length for r in run.results) == expected["tokens"]["total"]
    assert sum(r.truncated for r in run.results) == expected["truncated"]
    assert summary.accuracy.value == pytest.approx(expected["accuracy"], abs=0.006)


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("path", FILES[:1], ids=lambda p: p.name)
def test_a_real_log_imports_as_it_is(path: Path, tmp_path: Path) -> None:
    check_file(path, tmp_path)


@needs_data
@pytest.mark.slow
def test_every_real_log_imports_as_it_is(tmp_path: Path) -> None:
    assert len(FILES) == 13
    for path in FILES:
        check_file(path, tmp_path)


@needs_data
def test_a_column_of_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="counts words, not tokens"):
        import_log(
            FILES[0],
            "aime24",
            tmp_path / "run",
            data=DATA / "problems",
            mapped={"id": "problem_id", "length": "logged_tokens"},
        )
