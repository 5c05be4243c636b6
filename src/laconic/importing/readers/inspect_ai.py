"""Inspect's logs: ``.eval`` archives and the same as one JSON file.

An archive holds a header (the journal's beginning, where the evaluation did not end) and a member
for each sample and epoch. Long texts stand once, as attachments that others point to.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.importing.archive import MAGIC, Archive
from laconic.importing.chats import completion, last_asked
from laconic.importing.contract import (
    KeptFacts,
    Log,
    LogFormat,
    Record,
    answer,
    count,
    dig,
    sampling,
    text,
)
from laconic.importing.files import magic, parse, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

NAME: Final = "inspect"
HEADS: Final = ("header.json", "_journal/start.json")
USAGE: Final = "output_tokens of the usage"
POINTER: Final = "attachment://"


def _matches(value: Mapping[str, Any]) -> bool:
    return {"eval", "samples"} <= value.keys()


def _read(path: Path) -> Log:
    if magic(path) == MAGIC:
        return _read_archive(path)
    value = whole(path)
    samples = value["samples"]
    if not isinstance(samples, list):
        raise RunError(f"{path} holds no list of samples.")
    return _log(value, samples, path)


def _read_archive(path: Path) -> Log:
    """The completions of an ``.eval`` archive."""
    with closing(Archive(path)) as archive:
        names = archive.names()
        head = next((name for name in HEADS if name in names), None)
        if head is None:
            raise RunError(f"{path} is a zip archive, but no log of inspect: it has no {HEADS[0]}.")
        samples = (
            parse(archive.read(name), f"{path}, {name}")
            for name in names
            if name.startswith("samples/") and name.endswith(".json")
        )
        return _log(parse(archive.read(head), f"{path}, {head}"), samples, path)


def _log(head: Mapping[str, Any], samples: Iterable[Any], path: Path) -> Log:
    said_of_all = dig(head, "eval", "model_generate_config")
    planned = dig(head, "plan", "config")
    settings = {
        key: value
        for part in (said_of_all, planned)
        if isinstance(part, dict)
        for key, value in part.items()
        if value is not None
    }
    model = text(dig(head, "eval", "model"))
    failed = 0
    records = []
    for sample in samples:
        if dig(sample, "error") is not None:
            failed += 1
        else:
            records.append(_record(sample, count(settings.get("max_tokens")), model, path))
    skipped = {"samples that ended in an error": failed} if failed else {}
    drawn = sampling(settings)
    return Log(NAME, records, USAGE, exact=True, sampling=drawn, skipped=skipped)


def _record(sample: Any, cap: int | None, model: str | None, path: Path) -> Record:
    where = f"sample {dig(sample, 'id')!r:.40}, epoch {dig(sample, 'epoch')!r:.10}"
    epoch = count(dig(sample, "epoch"))
    if not isinstance(sample, dict) or not epoch:
        raise RunError(f"{path}, {where} is no sample of inspect.")
    made = completion(_resolved(sample.get("output"), sample.get("attachments")))
    if not made.text and made.usage.length is None:
        raise RunError(f"{path}, {where} has no completion.")
    asked = sample.get("input")
    problem = last_asked(asked) or text(asked)
    return Record(
        response=made.text,
        where=where,
        id=text(str(sample.get("id"))),
        problem=text(_resolved(problem, sample.get("attachments"))),
        gold=answer(sample.get("target")),
        sample=epoch - 1,
        length=made.usage.length,
        thinking=made.usage.thinking,
        beside=made.usage.beside,
        cap=cap,
        cut=made.cut,
        open=made.open,
        model=model,
    )


def _resolved(value: Any, attachments: Any) -> Any:
    """A value with the attachments in place of what points to them."""
    if isinstance(value, str) and value.startswith(POINTER):
        return dig(attachments, value.removeprefix(POINTER)) or value
    if isinstance(value, list):
        return [_resolved(part, attachments) for part in value]
    if isinstance(value, dict):
        return {key: _resolved(part, attachments) for key, part in value.items()}
    return value


FORMAT: Final = LogFormat(
    NAME,
    _matches,
    _read,
    example={
        "eval": {"model": "model"},
        "samples": [
            {
                "id": 1,
                "epoch": 1,
                "input": "What is 1 + 1?",
                "target": "2",
                "output": {
                    "choices": [
                        {"message": {"role": "assistant", "content": "2"}, "stop_reason": "stop"}
                    ],
                    "usage": {"output_tokens": 1},
                },
            }
        ],
    },
    kept=KeptFacts(
        file="`.eval`, or its JSON",
        lengths="usage",
        thoughts="`reasoning` parts, their tokens",
        cut="stop reason",
        settings="in the log",
    ),
    magic=MAGIC,
    suffixes=(".eval",),
)
