"""Outputs of Qwen2.5-Math's evaluation (``math_eval.py``) and its many descendants.

A line a problem: ``code`` holds its completions, trimmed and ended at stop words, so that a count
of their tokens can be a few too small; the file's name tells temperature and seed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.importing.contract import KeptFacts, Log, LogFormat, Record, answer, text
from laconic.importing.rows import rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME: Final = "Qwen2.5-Math"
_SETTINGS = re.compile(r"_seed(?P<seed>\d{1,9})_t(?P<temperature>\d{1,3}(?:\.\d{1,6})?)_")


def _matches(row: Mapping[str, Any]) -> bool:
    return {"idx", "question", "code"} <= row.keys() and isinstance(row["code"], list)


def _read(path: Path) -> Log:
    records: list[Record] = []
    for where, row in rows(path):
        codes = row.get("code")
        if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
            raise RunError(f"{path}, {where} has no code: a list of the completions.")
        gold = answer(row.get("gt")) or answer(row.get("answer"))
        records += [
            Record(
                response=text(code) or "",
                where=where,
                id=text(str(row.get("idx"))),
                problem=text(row.get("question")),
                gold=gold,
                sample=sample,
            )
            for sample, code in enumerate(codes)
        ]
    named = _SETTINGS.search(path.name)
    settings = {key: float(value) for key, value in named.groupdict().items()} if named else {}
    if settings.get("temperature") == 0:
        settings["top_p"] = 1.0
    return Log(NAME, records, sampling=settings)


FORMAT: Final = LogFormat(
    NAME,
    _matches,
    _read,
    example={"idx": 0, "question": "What is 1 + 1?", "gt": "2", "code": ["2"]},
    kept=KeptFacts(
        file="its outputs, `*_seed0_t0.6_*.jsonl`",
        lengths="by `--tokenizer`",
        thoughts="in the text",
        cut="inferred",
        settings="file name",
    ),
)
