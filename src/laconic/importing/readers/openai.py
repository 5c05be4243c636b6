"""Answers of OpenAI's API: a batch's output file, or the answers of any such server, one a line.

A batch's line holds a request's name (``custom_id``) and the answer of ``/v1/chat/completions``,
``/v1/completions`` or ``/v1/responses``; vLLM's ``run_batch`` writes the same. A request for
several answers has one usage, of all of them, so that none has a length of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from laconic.importing.chats import message_text, usage
from laconic.importing.columns import asked, gold, name
from laconic.importing.contract import KeptFacts, Log, LogFormat, Record, dig, is_cut, text
from laconic.importing.rows import rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NAME: Final = "OpenAI"
OK: Final = 200
FAILED: Final = "requests that failed"
TOGETHER: Final = (
    "the usage is that of all answers to a request together: lengths of requests for several are "
    "left out"
)


def _matches(row: Mapping[str, Any]) -> bool:
    batch = "custom_id" in row and "response" in row and not isinstance(row["response"], str)
    return batch or (isinstance(row.get("choices"), list) and "usage" in row)


def _read(path: Path) -> Log:
    records: list[Record] = []
    failed = together = 0
    for where, row in rows(path):
        body = row if "choices" in row else dig(row, "response", "body")
        status = dig(row, "response", "status_code")
        made = list(_answers(body))
        if row.get("error") or (status is not None and status != OK) or not made:
            failed += 1
            continue
        tokens = usage(dig(body, "usage"))
        together += len(made) > 1
        records += [
            Record(
                response=whole,
                where=where,
                id=text(row.get("custom_id")) or name(row),
                problem=asked(row),
                gold=gold(row),
                length=tokens.length if len(made) == 1 else None,
                thinking=tokens.thinking if len(made) == 1 else None,
                beside=tokens.beside,
                cut=is_cut(finish),
                open=unclosed,
                model=text(dig(body, "model")),
            )
            for (whole, unclosed), finish in made
        ]
    return Log(
        NAME,
        records,
        "the server's usage",
        exact=True,
        named=True,
        content_only=None,
        skipped={FAILED: failed} if failed else {},
        notes=(TOGETHER,) if together else (),
    )


def _answers(body: Any) -> Iterator[tuple[tuple[str, bool | None], Any]]:
    """Each answer's text, whether its thought is open, and why it ended."""
    choices, output = dig(body, "choices"), dig(body, "output")
    for choice in choices if isinstance(choices, list) else ():
        said = text(dig(choice, "text"))
        made = message_text(dig(choice, "message")) if said is None else (said, None)
        yield made, dig(choice, "finish_reason")
    if isinstance(output, list):
        parts = [part for item in output for part in _parts(item)]
        cut = dig(body, "incomplete_details", "reason")
        ended = {"max_output_tokens": "length", None: "stop"}.get(cut, cut)
        yield message_text({"content": parts}), ended


def _parts(item: Any) -> Iterator[Mapping[str, Any]]:
    """What an item of a response says, thoughts named as such; a thought's summary is none."""
    content = dig(item, "content")
    for part in content if isinstance(content, list) else ():
        words = text(dig(part, "text")) or ""
        yield {"reasoning": words} if dig(item, "type") == "reasoning" else {"text": words}


FORMAT: Final = LogFormat(
    NAME,
    _matches,
    _read,
    example={
        "custom_id": "a",
        "response": {
            "status_code": 200,
            "body": {
                "choices": [
                    {"message": {"role": "assistant", "content": "2"}, "finish_reason": "stop"}
                ],
                "usage": {"completion_tokens": 1},
            },
        },
    },
    kept=KeptFacts(
        file="a batch's output, or a server's answers, one a line",
        lengths="usage",
        thoughts="`reasoning_content`, `reasoning`",
        cut="finish reason",
        settings="`--cap`",
    ),
)
