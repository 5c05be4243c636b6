"""Packing: every row proven with the lab's own answers, and what is wrong said in one sentence."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from laconic.cli import main
from laconic.data.answers import AnswerPair, Selection, TrainingAnswer, write_selection
from laconic.data.pack import pack
from laconic.data.pools import MASKED, read_pools
from laconic.data.sample import sample
from laconic.data.select import select
from laconic.errors import DataError
from tests.cli.test_cli import jsonl
from tests.support.chat_templates import END, R1, chat_model
from tests.support.command import laconic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from laconic.runs.run import Run
    from tests.conftest import MakeCheckpoint

    Command = Callable[..., str]

GOOD = TrainingAnswer("good", "2+3?", "5", "2 and 3 make 5.\n\nSo it is \\boxed{5}.", level=1)
TASK = "lab:split=train,size=5"


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """The command line in this process, in the test's folder: what it prints to both streams."""

    def run(*words: object, code: int = 0) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["laconic", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert ended.value.code == code, told.err
        return told.out + told.err

    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Two answers of each lab model to each of five training problems."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: sample(f"lab:{name}", [TASK], folder / name, answers=2)
        for name in ("system1", "system2")
    }


@pytest.mark.slow
def test_the_labs_answers_are_packed_with_the_lengths_they_were_measured_with(
    runs: dict[str, Run], tmp_path: Path
) -> None:
    chosen = {
        "short": select([runs["system1"]], "shortest"),
        "long": select([runs["system2"]], "all"),
        "pairs": select([runs["system1"], runs["system2"]], "pairs"),
    }
    roles = {"pairs": "preference"}
    packed = pack(chosen, "lab:system2", tmp_path / "data", policy="keep", roles=roles)
    assert [pool.role for pool in packed.pools.values()] == ["short", "long", "preference"]
    for name in ("short", "long"):
        measured = {row.id: row.answers[0] for row in chosen[name].rows}
        rows = packed[name].table().to_pylist()
        assert len(rows) == packed[name].rows == len(chosen[name].rows)
        for row in rows:
            labels = [label for label in row["labels"] if label != MASKED]
            assert row["length"] == len(labels) == measured[row["id"]].length
            assert row["response"] == measured[row["id"]].response
        assert packed[name].label_tokens == sum(row["length"] for row in rows)
        assert packed[name].tokens == sum(len(row["input_ids"]) for row in rows)
    pairs = packed["pairs"].table().to_pylist()
    assert packed.of_kind("pairs") == (packed["pairs"],)
    for row in pairs:
        assert row["chosen"].endswith("<|im_end|>")
        assert row["prompt"].endswith("<|im_start|>assistant\n")
        assert 1.5 * row["chosen_length"] <= row["rejected_length"]
    (source,) = packed["long"].sources
    assert source["folder"] == str(runs["system2"].folder)
    assert len(source["digest"]) == 64
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_equal_rows_give_equal_bytes(runs: dict[str, Run], tmp_path: Path) -> None:
    chosen = {"long": select([runs["system2"]])}
    one, other = (
        pack(chosen, "lab:system2", tmp_path / name, policy="keep") for name in ("a", "b")
    )
    assert one["long"].digest == other["long"].digest


def test_rows_that_cannot_be_proven_are_counted_and_the_page_says_so(tmp_path: Path) -> None:
    bad: dict[str, dict[str, Any]] = {
        "stray_brackets": {"response": 'so \\boxed{5}"]'},
        "no_box": {"response": "It is five."},
        "not_right": {"response": "It is\n\n\\boxed{6}"},
        "over_length": {"response": " ".join(map(str, range(900))) + "\\boxed{5}", "id": "x"},
        "duplicate": {"id": "twice"},
        "unclosed_thought": {"thought": "open"},
    }
    rows = [GOOD, *(replace(GOOD, **{"id": reason} | other) for reason, other in bad.items())]
    made = Selection(tuple(rows), dropped={"wrong": 3}, failed=("t/9",))
    packed = pack({"short": made}, "lab:system2", tmp_path / "data")
    assert packed["short"].rows == 1
    assert packed["short"].dropped == {"wrong": 3, **dict.fromkeys(bad, 1)}
    (row,) = packed["short"].table().to_pylist()
    assert row["response"] == "<think>\n2 and 3 make 5.\n</think>\n\nSo it is \\boxed{5}."
    page = (tmp_path / "data" / "statistics.md").read_text()
    assert "| short | stray brackets | 1 | stray_brackets |" in page
    assert "no answer to 1 problems was right" in page


def test_pairs_of_right_before_wrong_are_kept_where_they_are_wanted(tmp_path: Path) -> None:
    wrong = replace(GOOD, response="2 and 3 make 6. Wait.\n\nSo it is \\boxed{6}.")
    long = replace(GOOD, response="2 and 3 make 5. Wait. Yes.\n\nSo it is \\boxed{5}.")
    other = replace(GOOD, id="both")
    pairs = Selection(
        (AnswerPair(GOOD, wrong), AnswerPair(other, replace(long, id="both"))), "pairs"
    )
    plain = pack({"p": pairs}, "lab:system2", tmp_path / "right")
    assert (plain["p"].rows, plain["p"].dropped) == (1, {"rejected_not_right": 1})
    packed = pack({"p": pairs}, "lab:system2", tmp_path / "any", rejected="any")
    assert (packed["p"].rows, packed["p"].dropped) == (2, {})
    assert "6" in packed["p"].table().to_pylist()[0]["rejected"]
    swapped = Selection((AnswerPair(wrong, GOOD),), "pairs")
    with pytest.raises(DataError, match="Not right"):
        pack({"p": swapped}, "lab:system2", tmp_path / "none", rejected="any")
    only = Selection((AnswerPair(GOOD, wrong),), "pairs")
    with pytest.raises(DataError, match="--rejected any keeps right before wrong"):
        pack({"p": only}, "lab:system2", tmp_path / "none")


def test_answers_without_a_box_are_told_the_ways_out(tmp_path: Path) -> None:
    made = Selection((replace(GOOD, response="The answer is 5."),))
    with pytest.raises(DataError, match=r"--policy keep or empty_think .* --prompt boxed"):
        pack({"short": made}, "lab:system2", tmp_path / "data")
    assert pack({"short": made}, "lab:system2", tmp_path / "data", policy="keep")["short"].rows == 1


def test_what_packing_takes_is_asked_for_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"need pyarrow: pip install 'laconic\[train\]'"):
        pack({"short": Selection((GOOD,))}, str(tmp_path / "no-model"), tmp_path / "data")


def test_a_pool_of_which_nothing_is_left_says_why(tmp_path: Path) -> None:
    rows = tuple(replace(GOOD, id=str(n), response=f"{n}\n\n\\boxed{{6}}") for n in range(3))
    with pytest.raises(DataError, match=r"none of its 3 rows.*3 not right.*grader.*'0' first"):
        pack({"good": Selection((GOOD,)), "short": Selection(rows)}, "lab:system2", tmp_path / "d")
    assert not list(tmp_path.iterdir())


def test_odd_names_and_a_folder_that_is_there_are_refused(tmp_path: Path) -> None:
    rows = Selection((GOOD,))
    for selections, roles, told in (
        ({}, {}, "nothing to pack"),
        ({"../x": rows}, {}, "no name for a pool"),
        ({"short": rows}, {"long": "x"}, "--role long"),
    ):
        with pytest.raises(DataError, match=told):
            pack(selections, "lab:system2", tmp_path / "d", roles=roles)
    with pytest.raises(DataError, match="exists"):
        pack({"short": rows}, "lab:system2", tmp_path)


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        pack({"short": Selection((GOOD,))}, "lab:system2", tmp_path / "file" / "data")


def test_the_command_line_builds_data_and_refuses_what_cannot_be_trained_on(
    runs: dict[str, Run], tmp_path: Path, make_checkpoint: MakeCheckpoint, command: Command
) -> None:
    run = runs["system2"].folder
    told = command("data", "select", run, "-o", "long.jsonl", "--json")
    rows = json.loads(told)["rows"]
    against = ("--against", TASK, "--ngram", 0)
    gone = command("data", "decontaminate", "long.jsonl", *against, "-o", "x.jsonl", code=2)
    assert f"all {rows} share words" in gone
    against = ("--against", "lab:split=dev,size=50", "--ngram", 0)
    told = command("data", "decontaminate", "long.jsonl", *against, "-o", "clean.jsonl")
    assert f"Kept {rows} answers of {rows}" in told
    packing = ("data", "pack", "long=clean.jsonl", "--policy", "keep", "--no-cache")
    told = command(*packing, "--model", "lab:system2", "-o", "data")
    assert f"| long | {rows} |" in told
    assert read_pools(tmp_path / "data")["long"].table().num_rows == rows
    folder = chat_model(make_checkpoint, "r1", R1, END)
    refused = command(*packing, "--model", folder, "-o", "other", code=2)
    assert "deletes the thoughts" in refused
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_recipe_builds_the_pools_in_one_go(command: Command, tmp_path: Path) -> None:
    text = (
        "model: lab:system2\npolicy: keep\nagainst: ['lab:split=dev']\nngram: 0\npools:\n"
        f"  short:\n    sample: {{model: lab:system1, tasks: ['{TASK}'], answers: 2}}\n"
        "    difficulty: [easy]\n    reference: [short]\n    role: efficiency\n"
    )
    (tmp_path / "recipe.yaml").write_text(text)
    assert "| short |" in command("data", "build", "recipe.yaml", "-o", "built")
    pools = read_pools(tmp_path / "built" / "packed")
    assert (pools["short"].role, pools.think_policy) == ("efficiency", "keep")
    assert (tmp_path / "built" / "short.jsonl").exists()
    assert "is built" in command("data", "build", "recipe.yaml", "-o", "built", code=2)
    for old, new, told in (
        ("difficulty", "dificulty", "pools.short has no key 'dificulty'. Did you mean 'diff"),
        ("tasks", "task", "pools.short.sample has no key 'task'. Did you mean 'tasks'?"),
        ("policy", "polcy", "a recipe of data has no key 'polcy'"),
        ("keep", "kep", "policy: Input should be"),
        ("    reference: [short]\n", "", "pools.short: a difficulty needs a reference"),
        ("reference: [short]", "reference: [runs/x]", "runs/x has no run.json"),
        ("lab:system1", "lab:systm1", "Did you mean 'lab:system1'"),
    ):
        (tmp_path / "bad.yaml").write_text(text.replace(old, new))
        assert told in command("data", "build", "bad.yaml", "-o", "other", code=2)
        assert not (tmp_path / "other").exists()


def test_lint_names_what_is_wrong_and_keeps_the_rest(tmp_path: Path) -> None:
    good = {"id": "a", "problem": "2+3?", "answer": 5, "response": "\\boxed{5}"}
    jsonl(tmp_path / "rows.jsonl", good, good | {"id": "b", "response": '["\\boxed{5}"]'})
    flags = ("--strict", "-o", "clean.jsonl")
    told = laconic("data", "lint", "rows.jsonl", *flags, cwd=tmp_path, code=2)
    assert "stray_brackets: 1, b first" in told.stdout
    assert "1 rows of rows.jsonl are not sound" in told.stderr
    assert '"a"' in (tmp_path / "clean.jsonl").read_text()
    write_selection(Selection((GOOD,)), tmp_path / "good.jsonl")
    assert "1 of 1" in laconic("data", "lint", "good.jsonl", "--strict", cwd=tmp_path).stdout
