"""Other tools' logs, found by their content: what each says is read, what it hides is inferred."""

from __future__ import annotations

import gzip
import importlib.util
import json
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from laconic.errors import RunError
from laconic.importing import files as bounds
from laconic.importing.formats import read_log
from laconic.importing.import_log import import_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.runs.run import Run

LOGS = Path(__file__).parents[1] / "samples" / "logs"
(SAMPLES,) = (LOGS / "lm_eval").glob("samples_*.jsonl")
(DETAILS,) = (LOGS / "lighteval").rglob("*.parquet")
REVIEWS = sorted((LOGS / "evalscope" / "reviews" / "system2").iterdir())
(OUTPUTS,) = (LOGS / "qwen_math").iterdir()
LAB = Path(bounds.__file__).parents[1] / "lab" / "models" / "system1"


def installed(package: str) -> pytest.MarkDecorator:
    there = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not there, reason=f"{package} is not installed")


def bring(log: Path | Sequence[Path], folder: Path, **options: Any) -> Run:
    return import_log(log, "lab", folder / "run", **options)


def told(run: Run) -> str:
    return "; ".join(run.provenance["notes"])


def test_lm_evals_samples_hold_problems_golds_and_settings(tmp_path: Path) -> None:
    run = bring(SAMPLES, tmp_path, tokenizer=LAB)
    assert run.provenance["format"] == "lm-eval"
    assert run.experiment.model == "lab/system1"
    sampling = run.experiment.sampling
    assert (sampling.temperature, sampling.top_p, sampling.repeats) == (0.7, 0.95, 2)
    assert sampling.recorded
    assert run.experiment.tasks[0].max_tokens == 48
    assert [r.gold for r in run.results] == ["27", "27", "44", "44", "59", "59"]
    assert [r.length for r in run.results] == [39, 39, 48, 48, 48, 48]
    assert [r.truncated for r in run.results] == [False, False, True, True, True, True]
    assert [r.correct for r in run.results] == [True, True, False, False, False, False]
    assert "copies of one" in told(run)


def test_problems_are_matched_by_their_text_not_by_a_tools_count(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (LOGS / "problems.jsonl").read_text().splitlines()]
    for place, row in enumerate(reversed(rows)):
        row["id"] = str(place)  # the numbers of lm-eval, of other problems
    data = tmp_path / "lab.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    run = bring(SAMPLES, tmp_path, tokenizer=LAB, data=tmp_path)
    assert [(r.id, r.gold, r.level) for r in run.results[::2]] == [
        ("2", "27", 1),
        ("1", "44", 2),
        ("0", "59", 3),
    ]
    data.write_text(json.dumps({"problem": "1+1?", "answer": 2}))
    with pytest.raises(RunError, match=r"line 1: its problem, 'Work mod 100.* is none of"):
        import_log(SAMPLES, "lab", tmp_path / "other", tokenizer=LAB, data=tmp_path)


def test_filters_of_lm_eval_do_not_double_completions(tmp_path: Path) -> None:
    lines = SAMPLES.read_text().splitlines()
    twice = [line.replace('"filter": "none"', '"filter": "strict"') for line in lines]
    (tmp_path / "samples.jsonl").write_text("\n".join([*lines, *twice]))
    assert len(read_log(tmp_path / "samples.jsonl", {}).records) == 6


def test_without_a_length_or_a_tokenizer_nothing_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"how many tokens a completion has\. Count them"):
        bring(SAMPLES, tmp_path)
    assert not (tmp_path / "run").exists()


@installed("pyarrow")
def test_lightevals_details_count_token_ids(tmp_path: Path) -> None:
    run = bring(DETAILS, tmp_path)
    assert run.provenance["format"] == "lighteval"
    assert (run.experiment.model, run.experiment.sampling.temperature) == ("lab/system1", 0.7)
    assert run.experiment.tasks[0].max_tokens == 48
    found = {r.gold: (r.length, r.truncated, r.correct) for r in run.results}
    assert found == {"44": (48, True, False), "27": (40, False, True), "59": (48, True, False)}


def check_inspect(run: Run) -> None:
    assert run.provenance["format"] == "inspect"
    assert run.experiment.model == "mockllm/model"
    sampling = run.experiment.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.6, 0.95, 7)
    assert run.experiment.tasks[0].max_tokens == 120
    found = {(r.id, r.repeat): r for r in run.results}
    assert {key: r.length for key, r in found.items()} == {
        ("p1", 0): 28,
        ("p2", 0): 96,
        ("p3", 0): 24,
        ("p1", 1): 9,
        ("p2", 1): 120,
        ("p3", 1): 20,
    }
    assert found["p1", 0].text.startswith("17 plus 25 is 42. Wait, check: 42.</think>The sum")
    assert [found[key].thinking_length for key in [("p1", 0), ("p1", 1)]] == [17, 0]
    assert [key for key, r in found.items() if r.truncated] == [("p2", 1)]
    assert [key for key, r in found.items() if not r.correct] == [("p3", 0), ("p2", 1)]
    assert not any("truncation is inferred" in note for note in run.provenance["notes"])


@installed("zstandard")
def test_inspects_archive_is_read_with_thoughts_and_usage(tmp_path: Path) -> None:
    check_inspect(bring(LOGS / "inspect" / "epochs.eval", tmp_path))


def repacked(source: Path, target: Path, **changed: bytes | None) -> Path:
    """An archive like inspect's json, packed by deflate; members may be changed."""
    value = json.loads(source.read_bytes())
    samples = value.pop("samples")
    members = {"header.json": json.dumps(value).encode()}
    for sample in samples:
        name = f"samples/{sample['id']}_epoch_{sample['epoch']}.json"
        members[name] = json.dumps(sample).encode()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**members, **changed}.items():
            if content is not None:
                archive.writestr(name, content)
    return target


def test_inspects_json_says_the_same(tmp_path: Path) -> None:
    check_inspect(bring(LOGS / "inspect" / "epochs.json", tmp_path))
    other = tmp_path / "other"
    check_inspect(bring(repacked(LOGS / "inspect" / "epochs.json", tmp_path / "a.eval"), other))


def test_inspects_attachments_are_put_back(tmp_path: Path) -> None:
    value = json.loads((LOGS / "inspect" / "epochs.json").read_bytes())
    sample = value["samples"][0]
    sample["attachments"] = {"abc": "a long thought", "def": "What is 17+25?"}
    sample["output"]["choices"][0]["message"]["content"][0]["reasoning"] = "attachment://abc"
    sample["input"] = "attachment://def"
    (tmp_path / "log.json").write_text(json.dumps(value))
    record = read_log(tmp_path / "log.json", {}).records[0]
    assert record.response == "a long thought</think>The sum is \\boxed{42}."
    assert record.problem == "What is 17+25?"


def test_inspects_failed_samples_are_left_out_and_counted(tmp_path: Path) -> None:
    value = json.loads((LOGS / "inspect" / "epochs.json").read_bytes())
    value["samples"][0]["error"] = {"message": "the server died"}
    (tmp_path / "log.json").write_text(json.dumps(value))
    run = bring(tmp_path / "log.json", tmp_path)
    assert len(run.results) == 5
    assert "1 samples that ended in an error are left out" in told(run)


def test_evalscopes_reviews_join_their_predictions(tmp_path: Path) -> None:
    run = bring(REVIEWS, tmp_path, data=LOGS / "problems.jsonl")
    assert run.provenance["format"] == "evalscope"
    assert (run.experiment.model, run.experiment.sampling.seed) == ("system2", 3)
    found = {(r.gold, r.repeat): r for r in run.results}
    assert len(found) == 6
    assert found["44", 0].length == 199
    assert found["44", 0].thinks
    assert found["44", 0].correct
    assert found["44", 0].text.startswith("b=a-8=41-8=33\nWait, let me check")
    assert found["59", 0].truncated
    assert "thought tokens are estimated" in told(run)


def test_evalscopes_reviews_alone_have_lengths_but_no_ends(tmp_path: Path) -> None:
    shutil.copy(REVIEWS[1], tmp_path / "reviews.jsonl")
    log = read_log(tmp_path / "reviews.jsonl", {})
    assert [record.length for record in log.records] == [199, 199]
    assert log.records[0].response.endswith("</think>So the answer is \\boxed{44}.")
    assert [record.cut for record in log.records] == [None, None]
    assert "predictions were not found" in log.notes[0]


def test_qwen_maths_outputs_have_their_samples_and_settings(tmp_path: Path) -> None:
    run = bring(OUTPUTS, tmp_path, tokenizer=LAB)
    assert run.provenance["format"] == "Qwen2.5-Math"
    assert run.provenance["sampling"] == {"seed": 0, "temperature": 0.6}
    assert not run.experiment.sampling.recorded  # the name does not tell top-p
    assert [(r.id, r.repeat, r.correct) for r in run.results if r.correct] == [
        ("0", 0, True),
        ("1", 0, True),
    ]


def test_skythoughts_results_have_usage_and_the_summarys_settings(tmp_path: Path) -> None:
    run = bring(LOGS / "skythought" / "results.json", tmp_path)
    assert run.provenance["format"] == "SkyThought"
    assert run.experiment.model == "org/thinker"
    assert run.experiment.tasks[0].max_tokens == 64
    assert [r.length for r in run.results] == [41, 64, 42, 64, 43, 64]
    assert [r.truncated for r in run.results] == [False, True] * 3
    assert [r.correct for r in run.results] == [True, False, True, False, False, False]


def test_skythoughts_first_versions_keep_a_response_a_temperature(tmp_path: Path) -> None:
    log = read_log(LOGS / "skythought" / "first" / "results.json", {})
    assert [record.length for record in log.records] == [40, 40, 40]
    assert log.sampling == {"temperature": 0.7}
    value = json.loads((LOGS / "skythought" / "first" / "results.json").read_bytes())
    next(iter(value.values()))["responses"]["0.9"] = {"content": "x"}
    (tmp_path / "log.json").write_text(json.dumps(value))
    with pytest.raises(RunError, match=r"several temperatures \(0\.7, 0\.9\)"):
        read_log(tmp_path / "log.json", {})


def test_skythoughts_sum_of_several_samples_is_no_length(tmp_path: Path) -> None:
    value = json.loads((LOGS / "skythought" / "results.json").read_bytes())
    for entry in value.values():
        entry["token_usages"][1]["completion_tokens"] = 0
    (tmp_path / "results.json").write_text(json.dumps(value))
    log = read_log(tmp_path / "results.json", {})
    assert {record.length for record in log.records} == {None}
    assert "left out" in log.notes[0]


def test_a_gzipped_log_is_known_by_its_content(tmp_path: Path) -> None:
    for source in (SAMPLES, LOGS / "skythought" / "results.json"):
        (tmp_path / "log").write_bytes(gzip.compress(source.read_bytes()))
        assert read_log(tmp_path / "log", {}).format == read_log(source, {}).format


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no completions"),
        (b"[1, 2]\n", "is not a JSON object"),
        (b'{"a": 1,\n"b": 2}\n', "line 1 is not JSON"),
        (b'{\n"a": 1, "b": 2}\n', "no log of a known format .* Its keys: 'a', 'b'"),
        (b'{\n"a": 1', "is not JSON"),
        (b"\xff\xfe\x00nonsense", "cannot be read|is not JSON"),
        (b'{"id": ' + b"[" * 200_000, "line 1 is not JSON"),
        (b'{"id": ' + b"9" * 5000 + b"}", "line 1 is not JSON"),
        (b"PK\x03\x04 nonsense", "damaged or unusual archive"),
        (b"\x28\xb5\x2f\xfdxx", "packed by zstd. Unpack it first"),
        (b"\x1f\x8bxx", "cannot be read"),
        (b'{"doc_id": 0, "doc": {}, "resps": [[["-1.5", "False"]]]}', "Only tasks that generate"),
        (b'{"doc_id": "x", "doc": {}, "resps": []}', "line 1 has no doc_id"),
        (b'{"idx": 0, "question": "?", "code": [1]}', "line 1 has no code"),
        (b'{"index": 0, "sample_score": 5}', "line 1 has no completion"),
        (b'{"index": -1, "sample_score": 5}', "line 1 has no index"),
        (b'{"eval": {}, "samples": 5}', "no list of samples"),
        (b'{"eval": {}, "samples": [5]}', "is no sample of inspect"),
        (b'{"eval": {}, "samples": [{"epoch": 1}]}', "has no completion"),
        (
            b'{"eval": 1, "samples": [{"epoch": 1, "output": {"choices": [{"stop_reason": []}]}}]}',
            "has no completion",
        ),
        (b'{"a\\nb": 1}', r"there are 'a\\nb'"),
        (b'{"eval": {}, "samples": []}', "holds no completions"),
        (b'{"p": {"responses": {}}, "q": 5}', "problem 'q' has no responses"),
        (b'{"p": {"responses": [5]}}', "problem 'p' has no content"),
    ],
)
def test_a_hostile_file_gets_one_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(RunError, match=message) as caught:
        read_log(tmp_path / "log", {})
    assert "\n" not in str(caught.value)


def test_half_a_character_is_marked_not_stumbled_over(tmp_path: Path) -> None:
    row = {"id": "1", "response": "\ud800 \\boxed{2}", "problem": "?", "tokens": 4}
    (tmp_path / "log.jsonl").write_text(json.dumps(row))
    (tmp_path / "lab.jsonl").write_text('{"id": "1", "problem": "1+1?", "answer": 2}')
    run = bring(tmp_path / "log.jsonl", tmp_path, data=tmp_path, mapped={"length": "tokens"})
    assert run.results[0].text == "? \\boxed{2}"


def test_parts_of_different_tools_or_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"several tools \(Qwen2.5-Math, lm-eval\)"):
        bring([SAMPLES, OUTPUTS], tmp_path)
    shutil.copy(SAMPLES, tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text(SAMPLES.read_text().replace("0.7", "0.9"))
    with pytest.raises(RunError, match="drawn differently"):
        bring([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], tmp_path)


def test_a_budget_that_completions_pass_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(SAMPLES.read_text().replace(": 48", ": 8"))
    run = bring(tmp_path / "b.jsonl", tmp_path, tokenizer=LAB)
    assert "budget of 8 tokens is not believed: a completion has 48" in told(run)
    assert run.experiment.tasks[0].max_tokens == 48


def test_a_bomb_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("laconic.files.text.MOST_LINE", 10_000)
    monkeypatch.setattr(bounds, "MOST_TEXT", 20_000)
    monkeypatch.setattr("laconic.importing.archive.MOST_MEMBER", 20_000)
    (tmp_path / "log").write_bytes(gzip.compress(b'{"id": 1, "response": "' + b"a" * 10**6))
    with pytest.raises(RunError, match="line 1 unpacks to more text than a file may hold"):
        read_log(tmp_path / "log", {})
    (tmp_path / "log").write_bytes(gzip.compress(b"{\n" + b" \n" * 10**6))
    with pytest.raises(RunError, match="unpacks to more text"):
        read_log(tmp_path / "log", {})
    big = {"samples/z_epoch_1.json": b" " * 10**6}
    bomb = repacked(LOGS / "inspect" / "epochs.json", tmp_path / "a.eval", **big)
    assert bomb.stat().st_size < 30_000
    with pytest.raises(RunError, match=r"samples/z_epoch_1\.json unpacks to more"):
        read_log(bomb, {})


@installed("zstandard")
def test_a_damaged_or_huge_zstandard_member_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (LOGS / "inspect" / "epochs.eval").read_bytes()
    place = whole.index(b"samples/p1_epoch_1.json") + 100
    (tmp_path / "a.eval").write_bytes(
        whole[:place] + bytes(255 - b for b in whole[place : place + 40]) + whole[place + 40 :]
    )
    with pytest.raises(RunError, match=r"damaged or unusual archive \(samples/p1_epoch_1"):
        read_log(tmp_path / "a.eval", {})
    (tmp_path / "a.eval").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="damaged or unusual archive"):
        read_log(tmp_path / "a.eval", {})
    monkeypatch.setattr("laconic.importing.archive.MOST_MEMBER", 6000)
    with pytest.raises(RunError, match=r"samples/p1_epoch_1\.json unpacks to more"):
        read_log(LOGS / "inspect" / "epochs.eval", {})


def test_another_zip_archive_is_no_log_of_inspect(tmp_path: Path) -> None:
    other = repacked(LOGS / "inspect" / "epochs.json", tmp_path / "a.eval", **{"header.json": None})
    with pytest.raises(RunError, match=r"no log of inspect: it has no header\.json"):
        read_log(other, {})


@installed("pyarrow")
def test_a_damaged_or_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    whole = DETAILS.read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="cannot be read"):
        read_log(tmp_path / "a.parquet", {})
    middle = len(whole) // 3
    (tmp_path / "a.parquet").write_bytes(whole[: middle - 600] + bytes(600) + whole[middle:])
    with pytest.raises(RunError):
        read_log(tmp_path / "a.parquet", {})
    parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(RunError, match=r"row 1: no column is known to be the id.*there are 'text'"):
        read_log(tmp_path / "b.parquet", {})


@pytest.mark.slow
@installed("pyarrow")
def test_a_parquet_bomb_ends_its_reader_not_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow
    from pyarrow import parquet

    said = pyarrow.array(["a" * 10**7] * 40)  # one text in a dictionary, forty times
    table = pyarrow.table({"model_response": pyarrow.StructArray.from_arrays([said], ["text"])})
    parquet.write_table(table, tmp_path / "a.parquet", compression="zstd")
    assert (tmp_path / "a.parquet").stat().st_size < 10**5
    monkeypatch.setattr("laconic.importing.parquet.MOST_LINE", 10**6)
    with pytest.raises(RunError, match="row 1 unpacks to more text"):
        read_log(tmp_path / "a.parquet", {})
