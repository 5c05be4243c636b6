"""Counting the tokens of logged texts, by the model's own tokenizer."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.files.text import read_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

BATCH: Final = 256
#: Tokens of their own in reasoning models, which no ranks file lists.
THINKING: Final = ("<think>", "</think>")
_TAIL: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HEAD: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
#: A ranks file does not hold the pattern that splits a text before its pieces are merged; the
#: number of ranks tells the vocabulary. (pattern, whether texts are brought to Unicode's NFC)
PATTERNS: Final[Mapping[int, tuple[str, str, bool]]] = {
    151_643: ("Qwen2.5, R1-Distill-Qwen", rf"{_HEAD}|\p{{N}}{_TAIL}", True),
    100_256: ("cl100k", rf"{_HEAD}|\p{{N}}{{1,3}}{_TAIL}", False),
    128_000: ("Llama 3", rf"{_HEAD}|\p{{N}}{{1,3}}{_TAIL}", False),
}


def open_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer from a Hugging Face folder, its tokenizer.json, or a ``.tiktoken`` ranks file.

    Raises:
        RunError: Where there is none, or it is damaged or of an unknown vocabulary.
    """
    from tokenizers import Tokenizer

    if path.suffix == ".tiktoken":
        return _from_ranks(path)
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise RunError(
            f"--tokenizer {path}: there is no {file.name}. Give a Hugging Face folder with a "
            "tokenizer.json, or a .tiktoken ranks file."
        )
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:
        raise RunError(f"--tokenizer {path}: {file.name} is damaged ({error}).") from error


def count_tokens(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """The tokens of each text, special tokens that a template would add left out."""
    lengths: list[int] = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer.encode_batch_fast(
            list(texts[start : start + BATCH]), add_special_tokens=False
        )
        lengths += [len(encoding) for encoding in batch]
    return lengths


def _from_ranks(path: Path) -> Tokenizer:
    """Byte-level BPE whose merges are recovered from the ranks."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    ranks = _read_ranks(path)
    if len(ranks) not in PATTERNS:
        known = ", ".join(f"{n:,} ({name})" for n, (name, _, _) in PATTERNS.items())
        raise RunError(
            f"--tokenizer {path} holds {len(ranks):,} ranks, and is of no known vocabulary: "
            f"{known}. Give the model's Hugging Face folder instead."
        )
    _, pattern, composed = PATTERNS[len(ranks)]
    letters = _letters()
    spelt = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = [
        (rank, ranks[left], ranks[right], spelt[left], spelt[right])
        for token, rank in ranks.items()
        for cut in range(1, len(token))
        if (left := token[:cut]) in ranks and (right := token[cut:]) in ranks
    ]
    merges.sort()
    vocabulary = {spelt[token]: rank for token, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[(a, b) for *_, a, b in merges]))
    split: Any = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    if composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(list(THINKING))
    return tokenizer


def _read_ranks(path: Path) -> dict[bytes, int]:
    lines = read_bytes(path, RunError).splitlines()
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, start=1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise RunError(f"--tokenizer {path}, line {number} is no token and rank.") from None
    return ranks


def _letters() -> list[str]:
    """The printable letter by which byte-level BPE writes each byte."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    letters = {byte: chr(byte) for byte in shown}
    letters |= {byte: chr(256 + place) for place, byte in enumerate(hidden)}
    return [letters[byte] for byte in range(256)]
