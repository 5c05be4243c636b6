"""One vocabulary for checkpoints that differ in it: rows of embedding and head, by token string.

Every id of the chosen tokenizer gets, in every checkpoint, the row of the same token string. A
token that a checkpoint lacks takes the base's row if the base has it, else its only owner's, else
the owners' mean; rows behind the tokenizer's last id are matched by their position. What is
changed that way is a checkpoint like any other, so that the arithmetic need not know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.checkpoints.computed_tensors import float32, rounded, row_blocks, spool
from laconic.checkpoints.header import TensorSpec
from laconic.errors import CheckpointError, RecipeError
from laconic.files.json import read_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from laconic.checkpoints.checkpoint import Checkpoint

#: What a row stands for: a token string or, behind the last token, its own position.
Key = str | int


@dataclass(frozen=True)
class Vocabulary:
    """What the rows of the merged embedding stand for.

    Attributes:
        donor: The checkpoint whose tokenizer files the output gets.
        strings: The token string of each id.
        rows: How many rows the embedding has; at least as many as the donor's.
        added: Entries to append to the added tokens of the donor's tokenizer.json.
    """

    donor: Checkpoint
    strings: Mapping[int, str]
    rows: int
    added: tuple[Mapping[str, Any], ...] = ()

    @property
    def keys(self) -> list[Key]:
        """What each row stands for."""
        return keys(self.strings, self.rows)


def of(donor: Checkpoint) -> Vocabulary:
    """A checkpoint's own vocabulary, with as many rows as its embedding has.

    Raises:
        CheckpointError: Where it has no tokenizer.json or no embedding to match rows with.
    """
    _check_known(donor)
    return Vocabulary(donor, donor.vocabulary(), _embedding(donor).shape[0])


def union(donor: Checkpoint, others: Sequence[Checkpoint]) -> Vocabulary:
    """A checkpoint's vocabulary and, behind it, the added tokens of others that it lacks.

    Raises:
        RecipeError: Where another has ordinary tokens of its own: they come from merges or scores
            that cannot be joined, and without these no text would ever be split into them.
        CheckpointError: As for `of`.
    """
    own = of(donor)
    known = set(own.strings.values())
    added: list[Mapping[str, Any]] = []
    first = max(own.strings) + 1
    for other in others:
        _check_known(other)
        entries = {token["content"]: token for token in _added_tokens(other)}
        lacking = {s: i for i, s in sorted(other.vocabulary().items()) if s not in known}
        if plain := [token for token in lacking if token not in entries]:
            raise RecipeError(
                f"tokenizer: union cannot join {other.name} with {donor.name}: {len(plain)} of its "
                f"tokens, such as {plain[0]!r}, are ordinary ones that no text would be split into "
                "by the other's rules. Only added tokens can be joined. Write 'tokenizer: base', "
                "'tokenizer: system2' or a model's name."
            )
        added += [
            {**entries[token], "id": first + len(added) + i} for i, token in enumerate(lacking)
        ]
        known |= lacking.keys()
    strings = {**own.strings, **{token["id"]: token["content"] for token in added}}
    return Vocabulary(donor, strings, max(own.rows, max(strings) + 1), tuple(added))


def keys(strings: Mapping[int, str], rows: int) -> list[Key]:
    """What each of a matrix's rows stands for."""
    return [strings.get(i, i) for i in range(rows)]


def match(wanted: Sequence[Key], held: Sequence[Key]) -> NDArray[np.int64]:
    """Where a checkpoint holds each wanted row: at the same place, else first; -1 for nowhere."""
    first = {key: place for place, key in reversed(list(enumerate(held)))}
    found = np.fromiter((first.get(key, -1) for key in wanted), np.int64, len(wanted))
    same = [i for i, (a, b) in enumerate(zip(wanted, held, strict=False)) if a == b]
    found[same] = same
    return found


def shares(places: NDArray[np.int64], *, base: bool, lenders: int) -> NDArray[np.float32]:
    """Each checkpoint's share in the row of a token that another one lacks.

    Args:
        places: Where each checkpoint holds each row, -1 for nowhere: [checkpoint, row].
        base: Whether the first checkpoint is the base.
        lenders: How many of the checkpoints lend rows, counted from the first.

    Returns:
        [checkpoint, row]; a row that no checkpoint has gets no shares.
    """
    held = (places >= 0).astype(np.float32)
    held[lenders:] = 0
    if base:
        held[1:, held[0] > 0] = 0
    shared: NDArray[np.float32] = held / np.maximum(held.sum(axis=0), 1)
    return shared


def unify(
    vocabulary: Vocabulary, members: Sequence[Checkpoint], *, base: bool, lenders: int | None = None
) -> tuple[Checkpoint, ...]:
    """The checkpoints with the rows of one vocabulary; unchanged where they have them already.

    Args:
        vocabulary: The rows wanted.
        members: The checkpoints of the merge, the base first if there is one.
        base: Whether there is one.
        lenders: How many of them, counted from the first, lend rows to others; None means all.

    Raises:
        CheckpointError: For a checkpoint whose tokens are not known, for embeddings of different
            widths, and for a token without a row in any checkpoint.
    """
    wanted = vocabulary.keys
    for member in members:
        _check_known(member)
        own, first = _embedding(member), _embedding(members[0])
        if own.name != first.name:
            raise CheckpointError(
                f"{member.name} and {members[0].name} cannot be merged: the embedding is "
                f"'{own.name}' in one and '{first.name}' in the other."
            )
        if own.shape[1:] != first.shape[1:]:
            raise CheckpointError(
                f"'{own.name}' is {list(own.shape)} in {member.name} and {list(first.shape)} in "
                f"{members[0].name}: rows of different width cannot be merged."
            )
    held = [keys(m.vocabulary(), _embedding(m).shape[0]) for m in members]
    if all(own == wanted for own in held):
        return tuple(members)
    places = np.stack([match(wanted, own) for own in held])
    lenders = len(members) if lenders is None else lenders
    for i in np.flatnonzero((places[:lenders] < 0).all(axis=0)):
        if isinstance(wanted[i], str):
            raise CheckpointError(
                f"The token {wanted[i]!r} (id {i}) of {vocabulary.donor.name}'s tokenizer has a "
                "row in none of the merged checkpoints. Choose the tokenizer of one of them."
            )
    rows = _TokenRows(tuple(members), places, shares(places, base=base, lenders=lenders))
    return tuple(
        member if own == wanted else _unified(number, vocabulary, rows, own)
        for number, (member, own) in enumerate(zip(members, held, strict=True))
    )


@dataclass(frozen=True)
class _TokenRows:
    """Where every checkpoint holds the wanted rows, and who lends those that one lacks."""

    members: tuple[Checkpoint, ...]
    places: NDArray[np.int64]
    shares: NDArray[np.float32]

    def source(self, number: int, name: str) -> tuple[NDArray[Any], str]:
        """A checkpoint's rows as stored, and their type; a tied head is the embedding."""
        member = self.members[number]
        own = member.home(name)
        return member.stored(own), member.specs[own].dtype

    def tensor(self, number: int, spec: TensorSpec) -> NDArray[Any]:
        """A checkpoint's tensor with the wanted rows."""
        source, dtype = self.source(number, spec.name)
        places = self.places[number]

        def block(part: slice) -> NDArray[Any]:
            here: NDArray[Any] = source[np.maximum(places[part], 0)]
            if dtype != spec.dtype:
                here = rounded(float32(here, dtype), spec.dtype)
            lacking = np.flatnonzero(places[part] < 0)
            if len(lacking):
                here[lacking] = rounded(self.lent(spec, lacking + part.start), spec.dtype)
            return here

        return spool(spec, (block(part) for part in row_blocks(spec.shape)))

    def lent(self, spec: TensorSpec, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The rows that others lend: the base's, the only owner's, or the owners' mean."""
        total = np.zeros((len(rows), *spec.shape[1:]), np.float32)
        for number in range(len(self.members)):
            lends = self.shares[number, rows] > 0
            if lends.any():
                source, dtype = self.source(number, spec.name)
                share = self.shares[number, rows[lends]].reshape(-1, *[1] * (len(spec.shape) - 1))
                total[lends] += share * float32(source[self.places[number, rows[lends]]], dtype)
        return total


def _unified(
    number: int, vocabulary: Vocabulary, rows: _TokenRows, held: Sequence[Key]
) -> Checkpoint:
    """One checkpoint with the wanted rows."""
    member = rows.members[number]
    specs: dict[str, TensorSpec] = {}
    for name in member.layout.by_token:
        if any(name in m.specs for m in rows.members) and member.home(name) in member.specs:
            kinds = {m.specs[m.home(name)].dtype for m in rows.members if m.home(name) in m.specs}
            like = member.specs[member.home(name)]
            shape = (vocabulary.rows, *like.shape[1:])
            specs[name] = TensorSpec(name, like.dtype if kinds == {like.dtype} else "F32", shape)

    @lru_cache(maxsize=3)
    def values(name: str) -> NDArray[Any]:
        return rows.tensor(number, specs[name])

    order = hashlib.sha256(json.dumps(vocabulary.keys).encode()).hexdigest()[:16]
    return member.with_computed(
        specs.values(),
        values,
        mark=f"rows {order}",
        tied=member.tied,
        tokens=vocabulary.strings,
        notes=[_note(member, vocabulary, rows.places[number], held)],
    )


def _note(
    member: Checkpoint, vocabulary: Vocabulary, places: NDArray[np.int64], held: Sequence[Key]
) -> str:
    """What matching did to a checkpoint, in a sentence."""
    wanted = vocabulary.keys
    there = set(wanted)
    left = [key for key in held if isinstance(key, str) and key not in there]
    lacking = [wanted[i] for i in np.flatnonzero(places < 0)]
    borrowed = [key for key in lacking if isinstance(key, str)]
    moved = int(((places >= 0) & (places != np.arange(len(places)))).sum())
    parts = [f"{moved} move"]
    if borrowed:
        parts.append(f"{len(borrowed)} it lacks are lent by the others ({_shown(borrowed)})")
    if left:
        parts.append(f"{len(left)} are left out ({_shown(left)})")
    return (
        f"{member.name}'s embedding rows are matched to {vocabulary.donor.name}'s tokenizer by "
        f"token string: {', '.join(parts)}."
    )


def _shown(tokens: Sequence[str]) -> str:
    """Three of some tokens, control words such as <think> before ordinary ones."""
    chosen = sorted(tokens, key=lambda token: not token.startswith("<"))[:3]
    return ", ".join(map(repr, chosen)) + (", ..." if len(tokens) > 3 else "")


def _embedding(checkpoint: Checkpoint) -> TensorSpec:
    """The embedding, whose rows are matched."""
    name = checkpoint.layout.embedding
    if name is None:
        raise CheckpointError(
            f"It is not known which tensor of {checkpoint.name} is the embedding, whose rows "
            "'tokenizer' would match, because transformers does not know this model. Add 'head: "
            "NAME' to the recipe, the name of its output head, or remove 'tokenizer'."
        )
    if name not in checkpoint.specs:
        raise CheckpointError(
            f"{checkpoint.name} has no '{name}', whose rows 'tokenizer' would match. Leave "
            "'tokenizer' out, or merge checkpoints that have one."
        )
    return checkpoint.specs[name]


def _check_known(checkpoint: Checkpoint) -> None:
    _embedding(checkpoint)
    if not checkpoint.vocabulary():
        raise CheckpointError(
            f"{checkpoint.name} has no tokenizer.json, so it is not known which token each row of "
            "its embedding belongs to. Load its tokenizer with transformers' AutoTokenizer and "
            "save_pretrained it into the folder."
        )


def _added_tokens(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    path = checkpoint.tokenizer_folder / "tokenizer.json"
    added: list[dict[str, Any]] = read_json(path, CheckpointError).get("added_tokens") or []
    return added
