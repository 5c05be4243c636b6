"""TRL's logged completions: ``completions/completions_STEP.parquet``, as log_completions writes.

A row holds prompt and completion, as texts or conversations, each reward, the advantage and the
training step; each step is another model. Golds are there only where a reward function logs them.
It keeps neither token counts nor why a completion ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.importing.columns import asked, gold, name, responses
from laconic.importing.contract import KeptFacts, Log, LogFormat, Record
from laconic.importing.rows import rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME: Final = "TRL"


def _matches(row: Mapping[str, Any]) -> bool:
    return {"step", "prompt", "completion", "advantage"} <= row.keys()


def _read(path: Path) -> Log:
    records: list[Record] = []
    for where, row in rows(path):
        made = responses(row.get("completion"))
        if made is None:
            raise RunError(f"{path}, {where} has no completion that is a text or a conversation.")
        records += [
            Record(
                response=whole,
                where=where,
                id=name(row),
                problem=asked(row),
                gold=gold(row),
                open=unclosed,
                model=f"TRL step {row.get('step')}",
            )
            for whole, unclosed in made
        ]
    return Log(NAME, records)


FORMAT: Final = LogFormat(
    NAME,
    _matches,
    _read,
    example={"step": 1, "prompt": "What is 1 + 1?", "completion": "2", "advantage": 0.0},
    kept=KeptFacts(
        file="`completions_STEP.parquet` (`log_completions`)",
        lengths="by `--tokenizer`",
        thoughts="in the text",
        cut="inferred",
        settings="`--cap`",
    ),
    suffixes=(".parquet",),
)
