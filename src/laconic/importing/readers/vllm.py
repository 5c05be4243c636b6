"""What vLLM's offline ``LLM.generate`` returns, a request a row: its prompt and its ``outputs``.

Lengths are those of the token ids, where they were kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from laconic.importing.columns import asked, gold, name
from laconic.importing.contract import (
    KeptFacts,
    Log,
    LogFormat,
    Record,
    count,
    dig,
    is_cut,
    needed,
    text,
)
from laconic.importing.rows import rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME: Final = "vLLM"


def _matches(row: Mapping[str, Any]) -> bool:
    first = dig(row, "outputs", 0)
    kept = {"token_ids", "finish_reason", "cumulative_logprob", "index"}
    return isinstance(dig(first, "text"), str) and not kept.isdisjoint(first)


def _read(path: Path) -> Log:
    records: list[Record] = []
    named = True
    for where, row in rows(path):
        outputs = row.get("outputs")
        own = name(row)
        named = named and own is not None
        for output in outputs if isinstance(outputs, list) else ():
            tokens = dig(output, "token_ids")
            records.append(
                Record(
                    response=needed(text(dig(output, "text")), "text of an output", where, path),
                    where=where,
                    id=own,
                    problem=asked(row),
                    gold=gold(row),
                    length=len(tokens) if isinstance(tokens, list) else None,
                    cap=count(dig(row, "sampling_params", "max_tokens")),
                    cut=is_cut(dig(output, "finish_reason")),
                    model=text(row.get("model")),
                )
            )
    length = "token_ids" if any(record.length is not None for record in records) else ""
    return Log(NAME, records, length, exact=True, named=named)


FORMAT: Final = LogFormat(
    NAME,
    _matches,
    _read,
    example={
        "prompt": "What is 1 + 1?",
        "outputs": [{"index": 0, "text": "2", "token_ids": [17], "finish_reason": "stop"}],
    },
    kept=KeptFacts(
        file="`LLM.generate`'s requests with their `outputs`, one a line",
        lengths="token ids",
        thoughts="in the text",
        cut="finish reason",
        settings="`--cap`",
    ),
)
