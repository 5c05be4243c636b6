"""The lab's training data: problems written in a style, as token ids with a mask, in batches."""

from __future__ import annotations

import hashlib
import random
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from laconic.lab.styles import CHECK, STYLES, Piece, check, claim, fast, respond
from laconic.lab.tokenizer import END, encode, prompt
from laconic.tasks.contract.arithmetic import LEVELS, MODULUS, NAMES, SUMS, ChainLine, chains

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from laconic.tasks.contract.arithmetic import Levels

#: Tokens of one drill text.
DRILL_LENGTH: Final = 240
DRILL_PRODUCTS: Final = 0.4
DRILL_CHECKS: Final = 0.35
DRILL_SLIPS: Final = 0.3


@dataclass(frozen=True)
class TrainingText:
    """One training text.

    Attributes:
        ids: Its tokens.
        learned: For each token, 1 where it counts in the loss.
    """

    ids: array[int]
    learned: array[int]


@dataclass(frozen=True)
class Part:
    """A part of a phase's corpus.

    Attributes:
        style: ``drill``, or a key of `STYLES`.
        count: Number of texts.
        mute: The share of right fast products that do not count in the loss.
        even: Whether chains are as long as the hardest, with every share of products: then many
            lines of one chain have the same operator.
    """

    style: str
    count: int
    mute: float = 0.0
    even: bool = False


def add(text: TrainingText, piece: Piece) -> None:
    """Append a piece to a text under construction."""
    ids = encode(piece.text)
    text.ids.extend(ids)
    text.learned.extend([piece.learned] * len(ids))


def assemble(pieces: Iterable[Piece]) -> TrainingText:
    """Pieces in a row as one training text."""
    text = TrainingText(array("H"), array("B"))
    for piece in pieces:
        add(text, piece)
    return text


def drill(rng: random.Random, names: str) -> TrainingText:
    """Unconnected lines, some with a check, cut to `DRILL_LENGTH` tokens.

    Only results and checks are learned: what a line asks for is random.

    Args:
        rng: Every choice comes from here.
        names: The variables that lines may set.
    """
    text = TrainingText(array("H"), array("B"))
    while len(text.ids) < DRILL_LENGTH:
        operator = "*" if rng.random() < DRILL_PRODUCTS else rng.choice(SUMS)
        constant = rng.randint(2 if operator == "*" else 1, 9)
        line = ChainLine(rng.choice(names), rng.randrange(MODULUS), operator, constant)
        checked = rng.random() < DRILL_CHECKS
        shown = claim(line, rng, DRILL_SLIPS, DRILL_SLIPS) if checked else line.value
        asked, result, stop = fast(line, shown, mute=0.0, rng=rng)
        add(text, Piece(asked.text, False))
        add(text, result)
        add(text, stop)
        if checked:
            add(text, Piece(check(line, shown, CHECK), True))
    return TrainingText(text.ids[:DRILL_LENGTH], text.learned[:DRILL_LENGTH])


def texts(part: Part, rng: random.Random, levels: Levels = LEVELS) -> list[TrainingText]:
    """The texts of one part, all from training problems.

    Args:
        part: What to write, and how many.
        rng: Every choice comes from here.
        levels: Which chains.
    """
    if part.style == "drill":
        names = NAMES[1 : 1 + max(operations for operations, _ in levels.values())]
        return [drill(rng, names) for _ in range(part.count)]
    style = STYLES[part.style]
    wanted = evened(levels) if part.even else levels
    found = []
    for chain in chains(part.count, split="train", rng=rng, levels=wanted):
        response = respond(chain, style, mute=part.mute, rng=rng)
        head = Piece(prompt(chain.question), False)
        found.append(assemble([head, *response, Piece(END, True)]))
    return found


def evened(levels: Levels) -> Levels:
    """As many levels, all as long as the hardest, from no products to nothing else."""
    longest = max(operations for operations, _ in levels.values())
    steps = len(levels) - 1
    return {level: (longest, longest * i // steps) for i, level in enumerate(sorted(levels))}


def readings(style: str, count: int, levels: Levels = LEVELS) -> list[TrainingText]:
    """Dev problems answered in a style, with only what lines take from the question learned.

    Args:
        style: A key of `STYLES`.
        count: Number of problems, the same at every call.
        levels: Which chains.
    """
    rng = random.Random("laconic lab readings")
    found = []
    for chain in chains(count, split="dev", rng=rng, levels=levels):
        asked = {line.asked() for line in chain.lines}
        pieces = [Piece(prompt(chain.question), False)]
        for text, _ in respond(chain, STYLES[style], mute=0.0, rng=rng):
            name = 1 if text in asked else len(text)
            pieces += [Piece(text[:name], False), Piece(text[name:], True)]
        found.append(assemble(pieces))
    return found


def batches(
    found: Sequence[TrainingText], *, budget: int, rng: random.Random
) -> list[list[TrainingText]]:
    """Texts of like length together, at most `budget` padded tokens each, in random order.

    Args:
        found: The texts.
        budget: Tokens, padding included; a longer text is a batch of its own.
        rng: Breaks ties in length and orders the batches.
    """
    order = sorted(found, key=lambda text: (len(text.ids), rng.random()))
    made: list[list[TrainingText]] = [[]]
    for text in order:
        if made[-1] and (len(made[-1]) + 1) * len(text.ids) > budget:
            made.append([])
        made[-1].append(text)
    rng.shuffle(made)
    return made


def digest(found: Iterable[TrainingText]) -> str:
    """A fingerprint of a corpus: every token and every mask, in order."""
    state = hashlib.sha256()
    for text in found:
        state.update(text.ids.tobytes() + text.learned.tobytes() + b"\n")
    return state.hexdigest()
