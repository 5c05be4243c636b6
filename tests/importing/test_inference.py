"""What a log hides is found out and said, or left open: thoughts, budgets, usages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from laconic.errors import RunError
from laconic.importing.budgets import find_budget
from laconic.importing.chats import message_text, usage
from laconic.importing.contract import Record
from laconic.importing.import_log import import_log
from laconic.reporting.report import compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.runs.run import Run

LAB = Path(__file__).parents[2] / "src" / "laconic" / "lab" / "models" / "system1"
BROKEN = "Now the sum of the first row is 12 and of the second one it must then be"


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bring(folder: Path, rows: Sequence[dict[str, Any]], **options: Any) -> Run:
    folder.mkdir(exist_ok=True)
    log = write(folder / "log.jsonl", rows)
    return import_log(log, "sums", folder / f"{folder.name}-run", **options)


def row(n: int, response: str = "", **other: Any) -> dict[str, Any]:
    said = response or rf"So it is \boxed{{{n + 1}}}."
    return {"id": f"p{n}", "problem": f"{n}+1?", "gold": str(n + 1), "response": said, **other}


def used(length: int, thinking: int = 0, total: int | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"completion_tokens": length, "prompt_tokens": 5}
    if thinking:
        made["completion_tokens_details"] = {"reasoning_tokens": thinking}
    return {"usage": made if total is None else {**made, "total_tokens": total}}


def told(run: Run) -> str:
    return "; ".join(run.provenance["notes"])


@pytest.mark.parametrize("column", ["reasoning_content", "reasoning"])
def test_a_thought_in_a_column_of_its_own_is_kept(tmp_path: Path, column: str) -> None:
    thought = "One and one are two."
    rows = [{**row(0, **used(20, 9)), column: thought}, {**row(1, **used(11)), column: None}]
    first, second = bring(tmp_path, rows).results
    assert first.text == rf"{thought}</think>So it is \boxed{{1}}."
    assert (first.thinks, first.length, first.thinking_length) == (True, 20, 9)
    assert (second.thinks, second.thinking_length) == (False, 0)


def test_a_thought_that_the_text_holds_already_is_not_doubled(tmp_path: Path) -> None:
    rows = [row(0, "t</think>So it is 1.", reasoning="t", **used(20))]
    run = bring(tmp_path, rows)
    assert run.results[0].text == "t</think>So it is 1."
    assert "1 texts hold their thought already" in told(run)


def test_a_thought_that_was_cut_is_not_closed_and_is_thought_throughout(tmp_path: Path) -> None:
    rows = [
        row(0, " ", reasoning="Let me see", finish_reason="length", **used(40, 40)),
        row(1, " ", reasoning="Let me see", finish_reason="length", **used(40)),
        row(2, reasoning="Let me see.", finish_reason="stop", **used(30, 12)),
    ]
    run = bring(tmp_path, rows)
    assert [r.thinks for r in run.results] == [False, False, True]
    assert [r.thinking_length for r in run.results] == [40, 40, 12]
    assert [r.text for r in run.results[:2]] == ["Let me see"] * 2
    assert [r.truncated for r in run.results] == [True, True, False]


def test_a_thought_that_the_prompt_opened_is_open_where_nothing_closes_it(tmp_path: Path) -> None:
    rows = [row(0, "Hm.</think>It is 1.", **used(10)), row(1, BROKEN, **used(30))]
    run = bring(tmp_path, rows)
    assert [r.thinking_length for r in run.results] == [6, 30]  # 12 of 19 letters; all
    assert "the prompt opens the thought: 1 completions" in told(run)
    other = bring(tmp_path / "b", [row(0, "<think>a</think>1.", **used(9)), row(1, **used(30))])
    assert other.results[1].thinking_length == 0


def test_parts_of_a_message_keep_their_order_and_proven_marks() -> None:
    thought = {"type": "reasoning", "reasoning": "a"}
    hidden = {"type": "reasoning", "reasoning": "gAAAB", "redacted": True}
    said = {"type": "text", "text": "b"}
    assert message_text({"content": [thought, said]}) == ("a</think>b", False)
    assert message_text({"content": [thought]}) == ("a", True)
    assert message_text({"content": [said, thought]}) == ("ba", True)
    assert message_text({"content": [thought, said, thought]}) == ("a</think>b<think>a", True)
    assert message_text({"content": [hidden, said]}) == ("b", None)
    assert message_text({"content": "b", "reasoning": "a"}) == ("a</think>b", False)


def test_a_usage_that_counts_the_thought_beside_the_answer_is_added(tmp_path: Path) -> None:
    assert usage({"output_tokens": 10, "reasoning_tokens": 275}).beside is None
    assert usage(used(10, 275, 290)["usage"]).beside is True
    assert usage(used(285, 275, 290)["usage"]).beside is False
    rows = [
        row(0, reasoning="t", **used(10, 275)),
        row(1, reasoning="t", **used(12, 4)),
        row(2, **used(11)),
    ]
    run = bring(tmp_path, rows)
    assert [r.length for r in run.results] == [285, 16, 11]
    assert [r.thinking_length for r in run.results] == [275, 4, 0]
    assert "counts the thought beside the completion: both were added" in told(run)
    proven = bring(tmp_path / "b", [row(0, reasoning="t", **used(30, 20, 55))])
    assert proven.results[0].length == 50


def test_a_usage_that_cannot_be_is_refused(tmp_path: Path) -> None:
    rows = [row(0, reasoning="t", **used(10, 275, 15))]
    with pytest.raises(RunError, match=r"line 1: 275 tokens of thought are more than .* 10, "):
        bring(tmp_path, rows)


def test_thoughts_that_a_log_leaves_out_are_missed_aloud(tmp_path: Path) -> None:
    lost = [row(0), row(1, " "), row(2), row(3)]
    run = bring(tmp_path / "lost", lost, tokenizer=LAB)
    assert run.provenance["answers_only"] is True
    assert run.provenance["notes"][0].startswith(
        "THE THOUGHTS SEEM TO BE MISSING: 1 texts are empty"
    )
    kept = bring(tmp_path / "kept", [row(n, **used(40, 30)) for n in range(4)])
    assert "answers_only" not in kept.provenance
    assert "the thoughts of 4 completions are not in the log's texts" in told(kept)
    comparison = compare([kept, run], baseline=kept.name)
    (reason,) = comparison.incomparable["sums"][run.name]
    assert reason.words == "the lengths of lost-run leave out the thoughts"
    assert not comparison.pairs
    counted = bring(tmp_path / "counted", [row(0, **used(40, 30))], tokenizer=LAB)
    assert counted.provenance["answers_only"] is True


def test_a_tool_that_keeps_the_content_alone_is_told_from_one_that_does_not(tmp_path: Path) -> None:
    asked = [json.dumps([{"role": "user", "content": "1+1?"}])]
    entry = {"doc_id": 0, "doc": {"problem": "1+1?"}, "target": "2", "resps": [["It is 2."]]}
    for name, prompt in (("chat", asked), ("text", "1+1?")):
        entry["arguments"] = {"gen_args_0": {"arg_0": prompt, "arg_1": {}}}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(entry))
        run = import_log(tmp_path / f"{name}.jsonl", None, tmp_path / name, tokenizer=LAB)
        assert ("keeps only the content of a server's answer" in told(run)) == (name == "chat")


def find(texts: Sequence[str], lengths: Sequence[int], **options: Any) -> tuple[Any, list[bool]]:
    records = [Record(text, "line", cut=options.pop("cut", None)) for text in texts]
    budget = find_budget(records, lengths, **{"exact": False, "given": None, **options})
    return budget.cap, budget.cut


@pytest.mark.parametrize(
    "text",
    [
        r"The answer is \boxed{5}.",
        r"So \boxed{26}",
        "The answer is 15.",
        "The sum that was asked for, as we have found above. The answer is 15",
        "42",
        "答案是42",
        "<think>a</think>B",
    ],
)
def test_finished_answers_of_one_length_prove_no_budget(text: str) -> None:
    assert find([text] * 10, [9] * 10) == (None, [False] * 10)
    assert find([text] * 10, list(range(40, 50))) == (None, [False] * 10)


@pytest.mark.parametrize("text", [BROKEN, "e=d-5=", r"So the answer is \boxed", "<think>Hm. Yes."])
def test_answers_broken_off_at_the_longest_length_prove_one(text: str) -> None:
    texts = [text] * 3 + ["The answer is 15."]
    assert find(texts, [512, 510, 505, 300]) == (512, [True, True, True, False])
    assert find(texts, [512, 510, 503, 300])[0] is None
    assert find(texts, [512, 510, 505, 300], exact=True)[0] is None


def test_completions_that_are_said_to_be_cut_show_the_budget_where_they_agree() -> None:
    records = [Record(BROKEN, "line", cut=cut) for cut in (True, True, False)]
    assert find_budget(records, [64, 64, 20], exact=True, given=None).cap == 64
    assert find_budget(records, [64, 50, 20], exact=True, given=None).cap is None
    assert find_budget(records, [64, 64, 90], exact=True, given=None).cap is None
    assert find_budget(records, [64, 50, 20], exact=True, given=80).cap == 80


def test_runs_without_a_budget_are_compared_where_nothing_was_cut(tmp_path: Path) -> None:
    def run(name: str, *lengths: int, **other: Any) -> Run:
        rows = [row(n, tokens=t, **other) for n, t in enumerate(lengths)]
        return bring(tmp_path / name, rows, mapped={"length": "tokens"})

    left, right = run("left", 20, 30, 25), run("right", 20, 28, 90)
    known = run("known", 20, 30, 40, cap=60, finish="stop")
    cut = bring(
        tmp_path / "cut",
        [row(n, tokens=9 + n, finish=f) for n, f in enumerate(("length", "length", "stop"))],
        mapped={"length": "tokens"},
    )
    limited = bring(
        tmp_path / "limited",
        [row(n, BROKEN, tokens=50, cap=50, finish="length") for n in range(3)],
        mapped={"length": "tokens"},
    )
    assert [r.experiment.tasks[0].max_tokens for r in (left, known, cut)] == [None, 60, None]
    assert not compare([left, right, known], baseline=right.name).incomparable
    assert len(compare([left, right], baseline=right.name).pairs) == 1
    assert "budget not known" in compare([left, right]).to_text()
    apart = compare([left, right, limited, cut], baseline=right.name).incomparable["sums"]
    assert {name: [reason.what for reason in why] for name, why in apart.items()} == {
        limited.name: ["budget"],
        cut.name: ["budget"],
    }
    assert not compare(
        [left, limited], baseline=left.name
    ).incomparable  # its longest fits in the budget


def test_a_cap_of_the_users_own_cuts_and_compares(tmp_path: Path) -> None:
    run = bring(tmp_path, [row(0, BROKEN, **used(64)), row(1, **used(20))], cap=64)
    assert [r.truncated for r in run.results] == [True, False]
    assert run.experiment.tasks[0].max_tokens == 64


def test_empty_texts_of_an_engine_are_no_lost_thoughts(tmp_path: Path) -> None:
    rows = [{"input": "0+1?", "output": " ", "gts": "1", "score": 0.0, "step": 1}]
    run = import_log(write(tmp_path / "1.jsonl", rows), None, tmp_path / "run", tokenizer=LAB)
    assert "answers_only" not in run.provenance
    assert "1 texts are empty" in told(run)
