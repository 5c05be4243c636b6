"""lm-eval's ``samples_TASK_DATE.jsonl``: a line a problem and filter, as its --log_samples writes.

It keeps no token counts and no finish reasons: lengths need a tokenizer. Of a chat server's answer
it keeps the content alone: what a reasoning parser has parted off is lost.
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
    sampling,
    text,
)
from laconic.importing.rows import rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME: Final = "lm-eval"
#: What data sets call the problem.
PROBLEMS: Final = ("problem", "question", "Problem", "Question", "input")


def _matches(row: Mapping[str, Any]) -> bool:
    return {"doc_id", "doc", "resps"} <= row.keys()


def _read(path: Path) -> Log:
    records: list[Record] = []
    seen: set[int] = set()
    settings: Mapping[str, Any] = {}
    model, chat = _model(path), False
    for where, row in rows(path):
        number = count(row.get("doc_id"))
        if number is None:
            raise RunError(f"{path}, {where} has no doc_id.")
        if number in seen:  # the same completions, once more for each of the task's filters
            continue
        seen.add(number)
        settings, chat = _settings(row), chat or _served_as_chat(row)
        responses = dig(row, "resps", 0)
        if not isinstance(responses, list) or not all(isinstance(r, str) for r in responses):
            raise RunError(
                f"{path}, {where} holds no completions: its resps are no texts. Only tasks "
                "that generate can be imported."
            )
        problem = next((p for key in PROBLEMS if (p := text(dig(row, "doc", key)))), None)
        records += [
            Record(
                response=text(response) or "",
                where=where,
                id=str(number),
                problem=problem or text(_argument(row, 0)),
                gold=answer(row.get("target")),
                sample=sample,
                cap=_cap(settings),
                model=model,
            )
            for sample, response in enumerate(responses)
        ]
    return Log(NAME, records, content_only=chat, sampling=_sampling(settings))


def _argument(row: Mapping[str, Any], place: int) -> Any:
    """An argument of the request: the prompt or the settings; older versions write lists."""
    given = row.get("arguments")
    if isinstance(given, list):
        return dig(given, 0, place)
    return dig(given, "gen_args_0", f"arg_{place}")


def _served_as_chat(row: Mapping[str, Any]) -> bool:
    """Whether a chat endpoint was asked: the prompt then is a list of messages, written as JSON."""
    asked = _argument(row, 0)
    first = asked[0] if isinstance(asked, list) and asked else asked
    return isinstance(first, str) and first.lstrip().startswith('[{"role"')


def _settings(row: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = _argument(row, 1)
    return settings if isinstance(settings, dict) else {}


def _cap(settings: Mapping[str, Any]) -> int | None:
    names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
    return next((cap for name in names if (cap := count(settings.get(name)))), None)


def _sampling(settings: Mapping[str, Any]) -> dict[str, float]:
    """As the engine draws: without ``do_sample`` it is greedy whatever the temperature."""
    if settings.get("do_sample") is False:
        return {"temperature": 0.0, "top_p": 1.0}
    return sampling(settings)


def _model(path: Path) -> str | None:
    """The model's name, from the results that lm-eval writes beside the samples."""
    date = path.name.removesuffix(".gz").removesuffix(".jsonl").rpartition("_")[2]
    beside = path.with_name(f"results_{date}.json")
    try:
        return text(dig(read_json(beside, RunError), "model_name"))
    except RunError:
        return None


FORMAT: Final = LogFormat(
    NAME,
    _matches,
    _read,
    example={"doc_id": 0, "doc": {"problem": "What is 1 + 1?"}, "target": "2", "resps": [["2"]]},
    kept=KeptFacts(
        file="`samples_TASK_DATE.jsonl` (`--log_samples`)",
        lengths="by `--tokenizer`",
        thoughts="in the text",
        cut="inferred",
        settings="in the log",
    ),
)
