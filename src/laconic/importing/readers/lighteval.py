"""lighteval's details: ``details_TASK_DATE.parquet``, a row a problem, as --save-details writes.

Lengths are those of the token ids that it keeps. Its "truncated" counts prompts, so why a
completion ended is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.files.json import read_json
from laconic.importing.contract import (
    KeptFacts,
    Log,
    LogFormat,
    Record,
    answer,
    count,
    dig,
    joined,
    sampling,
    text,
)
from laconic.importing.parquet import parquet_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NAME: Final = "lighteval"
COLUMNS: Final = (
    *("doc.id", "doc.query", "doc.choices", "doc.gold_index", "doc.generation_size"),
    *("model_response.text", "model_response.reasonings", "model_response.output_tokens"),
)


def _matches(row: Mapping[str, Any]) -> bool:
    return "model_response" in row


def _read(path: Path) -> Log:
    settings, model = _results(path)
    records = [
        record
        for number, row in parquet_rows(path, COLUMNS)
        for record in _records(row, f"row {number}", settings, model, path)
    ]
    return Log(NAME, records, "output_tokens", exact=True, sampling=sampling(settings))


def _records(
    row: Any, where: str, settings: Mapping[str, Any], model: str | None, path: Path
) -> Iterator[Record]:
    """The completions of one problem."""
    doc, response = dig(row, "doc"), dig(row, "model_response")
    texts = dig(response, "text")
    if not isinstance(texts, list) or not texts:
        raise RunError(
            f"{path}, {where} holds no completions (model_response.text). Details of tasks that "
            "choose among answers, and of versions before 0.10, cannot be imported."
        )
    gold = dig(doc, "gold_index")
    gold = dig(gold, 0) if isinstance(gold, list) else gold
    size = count(settings.get("max_new_tokens"))
    for sample, said in enumerate(texts):
        tokens = dig(response, "output_tokens", sample)
        whole, unclosed = joined(text(dig(response, "reasonings", sample)), text(said) or "")
        yield Record(
            response=whole,
            where=where,
            id=text(dig(doc, "id")),
            problem=text(dig(doc, "query")),
            gold=answer(dig(doc, "choices", gold)) if isinstance(gold, int) else None,
            sample=sample,
            length=len(tokens) if isinstance(tokens, list) else None,
            cap=count(dig(doc, "generation_size")) if size is None else size,
            open=unclosed,
            model=model,
        )


def _results(path: Path) -> tuple[Mapping[str, Any], str | None]:
    """Generation settings and the model's name, from the results that lighteval writes nearby.

    ``OUT/details/MODEL/DATE/details_TASK_DATE.parquet`` belongs to
    ``OUT/results/MODEL/results_DATE.json``.
    """
    parts = list(path.parts)
    if "details" not in parts:
        return {}, None
    place = len(parts) - 1 - parts[::-1].index("details")
    folder = path.__class__(*parts[:place], "results", *parts[place + 1 : -2])
    try:
        said = read_json(folder / f"results_{path.parent.name}.json", RunError)
    except RunError:
        return {}, None
    settings = dig(said, "config_general", "model_config", "generation_parameters")
    name = text(dig(said, "config_general", "model_name"))
    return (settings if isinstance(settings, dict) else {}), name


FORMAT: Final = LogFormat(
    NAME,
    _matches,
    _read,
    example={
        "doc": {"id": "0", "query": "What is 1 + 1?", "choices": ["2"], "gold_index": 0},
        "model_response": {"text": ["2"], "output_tokens": [[17]]},
    },
    kept=KeptFacts(
        file="`details_TASK_DATE.parquet` (`--save-details`)",
        lengths="token ids",
        thoughts="in the text, or `reasonings`",
        cut="inferred",
        settings="log, results file",
    ),
    suffixes=(".parquet",),
)
