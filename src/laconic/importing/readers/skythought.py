"""SkyThought's ``results.json``: one object of problems, each with its responses and token usages.

Responses are a list of samples, or, in its first versions, an object of one a temperature. Where an
API was asked for several samples at once, SkyThought books the tokens of all of them on the first:
such lengths are left out, to be counted by a tokenizer.
"""

from __future__ import annotations

from dataclasses import replace
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
    needed,
    sampling,
    text,
)
from laconic.importing.files import whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NAME: Final = "SkyThought"
PROBLEMS: Final = ("problem", "question", "Question", "prompt")
GOLDS: Final = ("answer", "expected_answer", "solution")
BOOKED: Final = (
    "lengths of one sample only are there, of several asked for at once: they are left out"
)


def _matches(value: Mapping[str, Any]) -> bool:
    entry = next(iter(value.values()), None)
    return isinstance(entry, dict) and isinstance(entry.get("responses"), dict | list)


def _read(path: Path) -> Log:
    settings, model = _summary(path)
    entries = whole(path)
    temperature = _temperature(entries, path)
    records = [
        replace(record, cap=count(settings.get("max_tokens")), model=model)
        for name, entry in entries.items()
        for record in _records(name, entry, path)
    ]
    drawn = sampling(settings) or ({} if temperature is None else {"temperature": temperature})
    if _booked_on_the_first(records):
        records = [replace(record, length=None) for record in records]
        return Log(NAME, records, sampling=drawn, notes=(BOOKED,))
    return Log(NAME, records, "completion_tokens", exact=True, sampling=drawn)


def _records(name: str, entry: Any, path: Path) -> Iterator[Record]:
    """The completions of one problem."""
    where = f"problem {text(name)!r:.60}"
    responses, usages = dig(entry, "responses"), dig(entry, "token_usages")
    if isinstance(responses, dict):
        keys = list(responses)
        responses = list(responses.values())
        usages = [dig(usages, key) for key in keys]
    if not isinstance(responses, list):
        raise RunError(f"{path}, {where} has no responses.")
    problem = next((p for key in PROBLEMS if (p := text(entry.get(key)))), None)
    gold = next((g for key in GOLDS if (g := answer(entry.get(key)))), None)
    for sample, response in enumerate(responses):
        yield Record(
            response=needed(text(dig(response, "content")), "content", where, path),
            where=where,
            id=text(name),
            problem=problem or text(name),
            gold=gold,
            sample=sample,
            length=count(dig(usages, sample, "completion_tokens")),
        )


def _temperature(entries: Mapping[str, Any], path: Path) -> float | None:
    """The temperature of a log of the first versions; None in a newer one, which says elsewhere.

    Raises:
        RunError: For completions of several temperatures.
    """
    asked = {
        key
        for entry in entries.values()
        if isinstance(found := dig(entry, "responses"), dict)
        for key in found
    }
    if len(asked) > 1:
        raise RunError(
            f"{path} holds completions of several temperatures ({', '.join(sorted(asked))}). Split "
            "it: a run is of one."
        )
    try:
        return float(asked.pop()) if asked else None
    except ValueError:
        return None


def _booked_on_the_first(records: list[Record]) -> bool:
    """Whether only the first of several samples has a length."""
    later = [record for record in records if record.sample]
    return bool(later) and not any(record.length for record in later)


def _summary(path: Path) -> tuple[Mapping[str, Any], str | None]:
    """Settings and the model's name, from the ``summary.json`` beside the results."""
    try:
        said = read_json(path.with_name("summary.json"), RunError)
    except RunError:
        return {}, None
    settings = dig(said, "configuration", "sampling_params")
    name = text(dig(said, "configuration", "model", "name"))
    return (settings if isinstance(settings, dict) else {}), name


FORMAT: Final = LogFormat(
    NAME,
    _matches,
    _read,
    example={
        "What is 1 + 1?": {
            "answer": "2",
            "responses": [{"content": "2"}],
            "token_usages": [{"completion_tokens": 1}],
        }
    },
    kept=KeptFacts(
        file="`results.json`, now and of the first versions",
        lengths="token usages",
        thoughts="in the text",
        cut="inferred",
        settings="`summary.json`",
    ),
)
