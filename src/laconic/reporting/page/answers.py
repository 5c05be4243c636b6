"""The answers as the page carries them: an index to filter by, and the texts in packed parts."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import zlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from laconic.reporting.incomparable import why
from laconic.reporting.tables.main import OUTCOMES
from laconic.reporting.wording import plain
from laconic.scoring.reflection import KEYWORDS
from laconic.stats.texts import spellings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from laconic.reporting.comparison import RunComparison
    from laconic.runs.run import Result

#: The most megabytes of packed texts in a page, unless it is asked for others.
TEXTS: Final = 20.0
#: A part of the texts holds about so many characters: unpacked in a blink.
_PART: Final = 700_000
#: From so many characters it is told how tightly the texts pack.
_TASTE: Final = 2_000_000
#: So much of a problem stands in the list.
_HEAD: Final = 90
_THOUGHT = "</think>"


@dataclass(frozen=True)
class Answers:
    """What the page's browser of answers reads.

    Attributes:
        head: What it knows at once, fit for JSON.
        blocks: What it unpacks when it is needed: gzip in base64, by the element's id.
    """

    head: Mapping[str, Any]
    blocks: Mapping[str, str]


@dataclass(frozen=True)
class _Task:
    """The answers to a task: by problem, then run, then repeat; problems in the order shown."""

    name: str
    runs: tuple[str, ...]
    problems: Mapping[str, Mapping[str, Mapping[int, Result]]]

    def size(self, problem: str) -> int:
        """The characters of a problem's answers."""
        return 200 + sum(
            len(row.text) + 20 for of in self.problems[problem].values() for row in of.values()
        )


def pack(text: str) -> str:
    """A text as gzip in base64, the same each time."""
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def pack_answers(c: RunComparison, most: float = TEXTS) -> Answers:
    """Pack the answers of a comparison.

    Args:
        c: The comparison.
        most: Megabytes of packed texts; where they are more, a sample of the problems is kept, the
            same for every run, drawn by a digest of their names.
    """
    tasks = [_gather(c, name) for name in c.tasks]
    kept = _kept(tasks, most * 1e6)
    blocks: dict[str, str] = {}
    heads: list[dict[str, Any]] = []
    for i, (task, names) in enumerate(zip(tasks, kept, strict=True)):
        if not names:
            continue
        chunks: list[dict[str, Any]] = []
        for part in _parts(task, names):
            block = f"texts-{i}-{len(chunks)}"
            chunks.append({"id": block, "first": names.index(part[0])})
            blocks[block] = pack(_json([_texts(task, name) for name in part]))
        blocks[f"index-{i}"] = pack(_json(_index(task, names)))
        heads.append(
            {
                "name": plain(task.name),
                "runs": task.runs,
                **_first_pair(c, task),
                "index": f"index-{i}",
                "chunks": chunks,
                "sample": _told(c, task, len(names)),
            }
        )
    return Answers(
        {
            "tasks": heads,
            "outcomes": list(OUTCOMES.values()),
            "keywords": [re.sub(r"\W", r"\\\g<0>", keyword) for keyword in KEYWORDS],
            "close": _THOUGHT,
        },
        blocks,
    )


def _gather(c: RunComparison, task: str) -> _Task:
    runs = tuple(row.name for row in c.rows(task))
    found: dict[str, dict[str, dict[int, Result]]] = defaultdict(lambda: defaultdict(dict))
    for name in (c.baseline, *runs):
        for row in c.responses[name, task].results if (name, task) in c.responses else ():
            found[row.id][name][row.repeat] = row
    return _Task(task, runs, {name: found[name] for name in sorted(found, key=_natural)})


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts q2 before q10."""
    parts = re.split(r"([0-9]{1,18})", name)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def _kept(tasks: Sequence[_Task], most: float) -> list[list[str]]:
    """The problems of each task whose texts the page holds, in the order shown."""
    if most <= 0:
        return [[] for _ in tasks]
    drawn = [sorted(task.problems, key=_lot) for task in tasks]
    whole = sum(task.size(name) for task in tasks for name in task.problems)
    part = most / max(whole * _tightness(tasks, drawn), 1.0)
    if part >= 1:
        return [list(task.problems) for task in tasks]
    kept = []
    for task, names in zip(tasks, drawn, strict=True):
        room = part * sum(task.size(name) for name in names)
        chosen = set()
        for name in names:
            room -= task.size(name)
            if room < 0:
                break
            chosen.add(name)
        kept.append([name for name in task.problems if name in chosen])
    return kept


def _tightness(tasks: Sequence[_Task], drawn: Sequence[Sequence[str]]) -> float:
    """The bytes of base64 that a character takes when it is packed."""
    taste, packed = 0, 0
    for task, names in zip(tasks, drawn, strict=True):
        room = _TASTE / len(tasks)
        chosen: list[str] = []
        for name in names:
            if room <= 0:
                break
            chosen.append(name)
            room -= task.size(name)
        taste += sum(task.size(name) for name in chosen)
        packed += len(zlib.compress(_json([_texts(task, name) for name in chosen]).encode(), 6))
    return packed * 4 / 3 / max(taste, 1)


def _lot(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


def _parts(task: _Task, names: Sequence[str]) -> Iterator[list[str]]:
    """The problems in groups whose texts are unpacked together."""
    part: list[str] = []
    size = 0
    for name in names:
        part.append(name)
        size += task.size(name)
        if size >= _PART:
            yield part
            part, size = [], 0
    if part:
        yield part


def _texts(task: _Task, name: str) -> dict[str, Any]:
    """A problem and every answer to it."""
    runs = task.problems[name]
    one = next(row for of in runs.values() for row in of.values())
    return {
        "problem": one.problem,
        "gold": one.gold,
        "spellings": spellings(one.gold),
        "answers": {
            run: {repeat: [row.text, row.answer] for repeat, row in of.items()}
            for run, of in runs.items()
        },
    }


def _index(task: _Task, names: Sequence[str]) -> dict[str, Any]:
    """What the list shows and is filtered by, in columns ``[problem * repeats + repeat]``."""
    repeats = 1 + max(
        repeat for name in names for of in task.problems[name].values() for repeat in of
    )
    places = list(OUTCOMES)
    first = [next(row for of in task.problems[n].values() for row in of.values()) for n in names]
    runs = {}
    for run in task.runs:
        rows = [task.problems[n].get(run, {}).get(k) for n in names for k in range(repeats)]
        runs[run] = {
            "length": [row and row.length for row in rows],
            "thought": [row and row.thinking_length for row in rows],
            "reflections": [row and row.reflections for row in rows],
            "cut": [row and int(row.truncated) for row in rows],
            "outcome": [row and places.index(row.outcome) for row in rows],
        }
    return {
        "ids": [plain(name) for name in names],
        "heads": [plain(" ".join(row.problem[: 4 * _HEAD].split()))[:_HEAD] for row in first],
        "levels": [row.level for row in first],
        "repeats": repeats,
        "runs": runs,
    }


def _first_pair(c: RunComparison, task: _Task) -> dict[str, str]:
    """The two runs that are shown first: the baseline, and the shortest that is not worse."""
    left = c.baseline if c.baseline in task.runs else task.runs[-1]
    pairs = [p for p in c.pairs if p.task == task.name]
    sound = [p for p in pairs if p.not_worse.verdict == "yes"] or [
        p for p in pairs if p.not_worse.verdict == "unclear"
    ]
    best = min(sound or pairs, key=lambda p: p.length_change.value, default=None)
    others = [name for name in task.runs if name != left]
    right = best.name if best else others[0] if others else left
    return {"left": left, "right": right}


def _told(c: RunComparison, task: _Task, kept: int) -> str:
    """What the page must say of what the browser shows."""
    told = []
    if kept < len(task.problems):
        told.append(
            f"A sample: {kept:,} of {len(task.problems):,} problems, drawn by their names and the "
            "same for every run, so that the page stays small. Every figure above rests on all."
        )
    told += [
        f"Not to be compared with the others: {plain(name)} ({why(reasons)})."
        for name, reasons in c.incomparable.get(task.name, {}).items()
    ]
    return " ".join(told)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
