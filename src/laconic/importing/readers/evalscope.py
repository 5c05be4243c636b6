"""evalscope's ``reviews/MODEL/DATASET.jsonl``, and the predictions of the same name beside them.

A review holds the completion and the gold; its prediction adds the usage, the thought and why the
completion ended.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.files.yaml import read_yaml_file
from laconic.importing.chats import Completion, completion, last_asked
from laconic.importing.contract import (
    KeptFacts,
    Log,
    LogFormat,
    Record,
    answer,
    count,
    dig,
    needed,
    sampling,
    text,
)
from laconic.importing.rows import rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME: Final = "evalscope"
USAGE: Final = "output_tokens of the usage"
ALONE: Final = "the reviews' predictions were not found: nothing says what was cut"


def _matches(row: Mapping[str, Any]) -> bool:
    return {"index", "sample_score"} <= row.keys()


def _read(path: Path) -> Log:
    outputs = _predictions(path)
    settings = _settings(path)
    records = []
    for where, row in rows(path):
        index = count(row.get("index"))
        if index is None:
            raise RunError(f"{path}, {where} has no index.")
        made = completion(dig(outputs.get(index), "model_output"))
        if not made.text:
            made = _last_turn(row)
        group = dig(row, "sample_score", "group_id")
        records.append(
            Record(
                response=needed(made.text or None, "completion", where, path),
                where=where,
                id=str(index if group is None else group),
                problem=_asked(row),
                gold=answer(row.get("target")),
                sample=count(dig(row, "sample_score", "generation_index")),
                length=made.usage.length,
                thinking=made.usage.thinking,
                beside=made.usage.beside,
                cap=count(settings.get("max_tokens")),
                cut=made.cut,
                open=made.open,
                model=text(dig(outputs.get(index), "model")) or path.parent.name or None,
            )
        )
    notes = () if outputs else (ALONE,)
    return Log(NAME, records, USAGE, exact=True, sampling=sampling(settings), notes=notes)


def _asked(row: Mapping[str, Any]) -> str | None:
    """The user's last turn; earlier versions keep it as the input."""
    return last_asked(_turns(row)) or text(row.get("input"))


def _last_turn(row: Mapping[str, Any]) -> Completion:
    """The completion as the review itself holds it; earlier versions keep the text alone."""
    turns = _turns(row)
    turn = turns[-1] if turns and dig(turns[-1], "role") == "assistant" else {}
    usage = {"output_tokens": dig(turn, "perf_metrics", "output_tokens")}
    made = completion({"choices": [{"message": turn}], "usage": usage})
    prediction = text(dig(row, "sample_score", "score", "prediction"))
    return made if made.text else replace(made, text=prediction or "")


def _turns(row: Mapping[str, Any]) -> list[Any]:
    turns = row.get("messages")
    return turns if isinstance(turns, list) else []


def _predictions(path: Path) -> dict[int, dict[str, Any]]:
    """The predictions by index, where evalscope keeps them: beside the folder of the reviews."""
    beside = path.parent.parent.parent / "predictions" / path.parent.name / path.name
    if path.parent.parent.name != "reviews" or not beside.is_file():
        return {}
    return {index: row for _, row in rows(beside) if (index := count(row.get("index"))) is not None}


def _settings(path: Path) -> Mapping[str, Any]:
    """How completions were drawn, from the task's configuration."""
    try:
        file = path.parent.parent.parent / "configs" / "task_config.yaml"
        settings = dig(read_yaml_file(file, str(file), RunError), "generation_config")
    except RunError:
        return {}
    return settings if isinstance(settings, dict) else {}


FORMAT: Final = LogFormat(
    NAME,
    _matches,
    _read,
    example={
        "index": 0,
        "input": "What is 1 + 1?",
        "target": "2",
        "sample_score": {"group_id": 0, "score": {"prediction": "2"}},
    },
    kept=KeptFacts(
        file="`reviews/MODEL/DATASET.jsonl`",
        lengths="usage, from the predictions beside",
        thoughts="`reasoning` parts",
        cut="stop reason",
        settings="configuration",
    ),
)
