"""verl's dumps of rollouts and of validation: ``STEP.jsonl``, a completion a line.

``trainer.rollout_data_dir`` and ``trainer.validation_data_dir`` write them: the prompt and the
completion as text, the gold (``gts``), the score, the training step. Each step is another model.
It keeps neither token counts nor why a completion ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from laconic.importing.contract import KeptFacts, Log, LogFormat, Record, answer, needed, text
from laconic.importing.rows import rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME: Final = "verl"


def _matches(row: Mapping[str, Any]) -> bool:
    return {"input", "output", "score", "step"} <= row.keys()


def _read(path: Path) -> Log:
    records = [
        Record(
            response=needed(text(row.get("output")), "output", where, path),
            where=where,
            problem=needed(text(row.get("input")), "input", where, path),
            gold=answer(row.get("gts")),
            model=f"verl step {row.get('step')}",
        )
        for where, row in rows(path)
    ]
    return Log(NAME, records)


FORMAT: Final = LogFormat(
    NAME,
    _matches,
    _read,
    example={"input": "What is 1 + 1?", "output": "2", "gts": "2", "score": 1.0, "step": 1},
    kept=KeptFacts(
        file="`STEP.jsonl` of `rollout_data_dir`, `validation_data_dir`",
        lengths="by `--tokenizer`",
        thoughts="in the text",
        cut="inferred",
        settings="`--cap`",
    ),
)
