"""Pack: rows become token ids; every row is checked; each pool is a Parquet file."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from laconic.data.answers import AnswerPair, TrainingAnswer, describe
from laconic.data.encode import REASONS, Encoded, Encoder
from laconic.data.lint import CHECKS, lint
from laconic.data.pools import (
    COLUMNS,
    MANIFEST,
    VERSION,
    file_digest,
    parquet_modules,
    read_pools,
)
from laconic.data.statistics import pool_statistics, statistics_page
from laconic.errors import DataError, did_you_mean
from laconic.files.atomic import writing_folder
from laconic.files.json import write_json
from laconic.runs.run import Generation, Sample
from laconic.runtime import silent, versions
from laconic.scoring.score import Grader, score_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from laconic.data.answers import Row, Selection
    from laconic.data.encode import ThinkPolicy
    from laconic.data.pools import Pools
    from laconic.runtime import Progress

STATISTICS: Final = "statistics.md"
#: What the second answer of a pair must be.
Rejected = Literal["right", "any"]
#: What may be a pool's name, since it is a file's, too.
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_EXPLAINED: Final = {
    **CHECKS,
    **REASONS,
    "not_right": "the grader does not find the right answer in the encoded text",
    "rejected_not_right": "the grader does not find the right answer in the rejected text: pairs "
    "prefer a short right answer to a long right one; --rejected any keeps right before wrong, too",
}


@dataclass
class _Packed:
    """The rows of a pool before they are written.

    Attributes:
        rows: The rows that are kept, each with its encoded answers.
        dropped: The number of rows that were left out, by reason.
        examples: The id of the first row with each reason.
    """

    rows: list[tuple[Row, tuple[Encoded, ...]]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def drop(self, row: Row, reason: str) -> None:
        self.dropped[reason] += 1
        self.examples.setdefault(reason, row.id)


def pack(
    selections: Mapping[str, Selection],
    model: str,
    output: str | Path,
    *,
    policy: ThinkPolicy = "think_short",
    roles: Mapping[str, str] | None = None,
    template: Path | None = None,
    append: bool = False,
    max_tokens: int | None = None,
    rejected: Rejected = "right",
    allow_code: bool = False,
    grades: Path | None = None,
    progress: Progress = silent,
) -> Pools:
    """Encode pools for a model and check every row; rows that fail are left out and counted.

    Args:
        selections: The rows of each pool, by the pool's name.
        model: The checkpoint to be trained: its tokenizer and chat template are used.
        output: The folder to create.
        policy: How an answer without a thought is written (`laconic.data.encode.Encoder`).
        roles: The role of each pool in training, by its name; by default the name itself.
        template: A chat template to use instead of the model's own.
        append: Whether answers are appended to the template's prompt instead of being written by
            the template.
        max_tokens: The most tokens of prompt and answer; by default the model's window.
        rejected: The rejected answer of a pair must be ``right``, so that pairs prefer short to
            long answers, or may be ``any``, so that they may also prefer right to wrong ones.
        allow_code: Whether programs may be run in a sandbox to grade them.
        grades: A file of earlier verdicts, which are used and extended.
        progress: Called for each row when it is encoded, and again when it is graded.

    Returns:
        The packed folder.

    Raises:
        DataError: For names that are not allowed, a template that cannot be trained on, a pool
            without any usable row, or a folder that exists or cannot be written.
    """
    parquet_modules()
    if rejected not in get_args(Rejected):
        raise DataError(f"rejected is '{rejected}'. {did_you_mean(rejected, get_args(Rejected))}")
    output = Path(output)
    roles = dict(roles or {})
    check_names(selections, roles)
    if output.exists():
        raise DataError(f"{output} exists. Choose another folder, or delete it.")
    encoder = Encoder(model, policy, template=template, append=append, max_tokens=max_tokens)
    total = 2 * sum(len(selection.rows) for selection in selections.values())
    packed: dict[str, _Packed] = {}
    with Grader(allow_code=allow_code, grades=grades) as grader:
        done = 0
        for name, selection in selections.items():
            part = _part(progress, done, total, name)
            packed[name] = _encode(selection, encoder, grader, rejected, part)
            done += 2 * len(selection.rows)
            if not packed[name].rows:
                raise _nothing_left(name, selection, packed[name])
    try:
        with writing_folder(output) as partial:
            _write(partial, selections, packed, roles, encoder, rejected)
    except OSError as error:
        raise DataError(f"{output} cannot be written: {error.strerror or error}.") from error
    return read_pools(output)


def _part(progress: Progress, before: int, whole: int, name: str) -> Progress:
    """The progress of one pool, reported as part of the whole."""

    def report(done: int, total: int, note: str = "") -> None:
        progress(before + done, whole, note or name)

    return report


def check_names(selections: Mapping[str, object], roles: Mapping[str, str]) -> None:
    """Refuse pool names that cannot be file names, and roles of unknown pools.

    Raises:
        DataError: Naming the pool.
    """
    if not selections:
        raise DataError("There is nothing to pack. Name a pool and its file: short=short.jsonl.")
    for name in selections:
        if not name or not _LETTERS.issuperset(name) or name.startswith("."):
            raise DataError(f"{name!r} is no name for a pool: take letters, digits, - and _.")
    for name in roles:
        if name not in selections:
            raise DataError(f"--role {name}: there is no such pool, only {', '.join(selections)}.")


def _encode(
    selection: Selection,
    encoder: Encoder,
    grader: Grader,
    rejected: Rejected,
    progress: Progress,
) -> _Packed:
    """The rows of a pool that can be trained on."""
    packed = _Packed()
    clean, faults = lint(selection)
    for row in selection.rows:
        if row.id in faults:
            packed.drop(row, faults[row.id])
    encoded: list[tuple[Row, tuple[Encoded, ...]]] = []
    gone = len(selection.rows) - len(clean.rows)
    for done, row in enumerate(clean.rows, start=1):
        progress(gone + done, 0)
        made = [encoder.encode(row.question, answer.response) for answer in row.answers]
        if wrong := next((reason for reason in made if isinstance(reason, str)), ""):
            packed.drop(row, wrong)
        else:
            encoded.append((row, tuple(piece for piece in made if isinstance(piece, Encoded))))
    before = 2 * len(selection.rows) - len(encoded)
    faulty = _wrong(encoded, grader, rejected, _part(progress, before, 0, ""))
    for place, (row, pieces) in enumerate(encoded):
        if place in faulty:
            packed.drop(row, faulty[place])
        else:
            packed.rows.append((row, pieces))
    return packed


def _wrong(
    encoded: Sequence[tuple[Row, tuple[Encoded, ...]]],
    grader: Grader,
    rejected: Rejected,
    progress: Progress,
) -> dict[int, str]:
    """The reasons for rows in whose text the grader does not find the right answer, by place."""
    graded = [
        (place, side, _question(row, side, piece))
        for place, (row, pieces) in enumerate(encoded)
        for side, piece in enumerate(pieces)
        if side == 0 or rejected == "right"
    ]
    each = max(len(graded) // max(len(encoded), 1), 1)

    def report(done: int, total: int, note: str = "") -> None:
        progress(done // each, total // each, note)

    results = score_all([question for _, _, question in graded], grader, report)
    wrong: dict[int, str] = {}
    for (place, side, _), result in zip(graded, results, strict=True):
        if not result.correct:
            wrong.setdefault(place, "rejected_not_right" if side else "not_right")
    return wrong


def _question(row: Row, side: int, piece: Encoded) -> tuple[Sample, Generation]:
    """An encoded answer as the grader gets it: the text that will be trained on."""
    answer = row.answers[side]
    sample = Sample("", row.id, row.question, answer.gold, kind=answer.kind)
    return sample, Generation(piece.response, piece.length, 0, False, "stop")


def _nothing_left(name: str, selection: Selection, packed: _Packed) -> DataError:
    reason, count = packed.dropped.most_common(1)[0]
    return DataError(
        f"{name}: none of its {len(selection.rows):,} rows can be packed "
        f"({describe(packed.dropped)}). {reason.replace('_', ' ').capitalize()}: "
        f"{_EXPLAINED[reason]}; {count:,} rows, '{packed.examples[reason]}' first."
    )


def _write(
    folder: Path,
    selections: Mapping[str, Selection],
    packed: Mapping[str, _Packed],
    roles: Mapping[str, str],
    encoder: Encoder,
    rejected: Rejected,
) -> None:
    """Write all files of a packed folder."""
    pools: dict[str, dict[str, Any]] = {}
    statistics: dict[str, dict[str, Any]] = {}
    for name, one in packed.items():
        selection = selections[name]
        file = f"{name}.parquet"
        _write_parquet(folder / file, selection.kind == "pairs", one.rows)
        dropped = Counter(selection.dropped) + one.dropped
        pieces = [piece for _, encoded in one.rows for piece in encoded]
        tokens = sum(len(piece.input_ids) for piece in pieces)
        labels = sum(piece.length for piece in pieces)
        pools[name] = {
            "file": file,
            "kind": selection.kind,
            "role": roles.get(name, name),
            "rows": len(one.rows),
            "tokens": labels if selection.kind == "pairs" else tokens,
            "label_tokens": labels,
            "digest": file_digest(folder / file),
            "sources": list(selection.sources),
            "dropped": dict(dropped),
            "steps": list(selection.steps),
        }
        statistics[name] = pool_statistics(one.rows, dropped, one.examples, selection.failed)
    manifest = {
        "version": VERSION,
        "model": encoder.name,
        "tokenizer": encoder.tokenizer,
        "template": encoder.template,
        "think_policy": encoder.policy,
        "max_tokens": encoder.max_tokens,
        "rejected": rejected,
        "pools": pools,
    }
    write_json(folder / MANIFEST, manifest)
    write_json(folder / "statistics.json", statistics)
    (folder / STATISTICS).write_text(statistics_page(statistics), encoding="utf-8")
    head = {"schema": 1, "kind": "data", "complete": True, "command": list(sys.argv)}
    write_json(folder / "run.json", head | {"versions": versions("transformers", "pyarrow")})


def _write_parquet(
    path: Path, pairs: bool, rows: Sequence[tuple[Row, tuple[Encoded, ...]]]
) -> None:
    pa, parquet = parquet_modules()
    whole, ids = pa.int32(), pa.list_(pa.int32())
    kinds = dict.fromkeys(("input_ids", "labels", "prompt_ids", "chosen_ids", "rejected_ids"), ids)
    kinds |= dict.fromkeys(("length", "chosen_length", "rejected_length"), whole)
    names = COLUMNS["pairs" if pairs else "rows"]
    held = [_pair_row(*row) if pairs else _plain_row(*row) for row in rows]
    columns = {
        name: pa.array([row[name] for row in held], kinds.get(name, pa.string())) for name in names
    }
    parquet.write_table(pa.table(columns), path, compression="zstd")


def _plain_row(row: Row, pieces: tuple[Encoded, ...]) -> dict[str, Any]:
    assert isinstance(row, TrainingAnswer)
    (piece,) = pieces
    return {
        "id": row.id,
        "question": row.question,
        "gold": row.gold,
        "response": piece.response,
        "input_ids": piece.input_ids,
        "labels": piece.labels,
        "length": piece.length,
    }


def _pair_row(row: Row, pieces: tuple[Encoded, ...]) -> dict[str, Any]:
    assert isinstance(row, AnswerPair)
    chosen, rejected = pieces
    return {
        "id": row.id,
        "question": row.question,
        "gold": row.chosen.gold,
        "prompt": chosen.prompt,
        "chosen": chosen.response + chosen.end,
        "rejected": rejected.response + rejected.end,
        "prompt_ids": chosen.input_ids[: chosen.prompt_length],
        "chosen_ids": chosen.input_ids[chosen.prompt_length :],
        "rejected_ids": rejected.input_ids[rejected.prompt_length :],
        "chosen_length": chosen.length,
        "rejected_length": rejected.length,
    }
