"""Calibration sets: rows of a file or of a run, as the token ids that a model reads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from laconic.checkpoints.chat_template import encode_prompt, render
from laconic.checkpoints.template_process import RenderError, apply_template
from laconic.checkpoints.tokenizer import load_tokenizer
from laconic.errors import CalibrationError, did_you_mean
from laconic.runs.run import RESULTS, Result, Sample, read_run, results_file
from laconic.tasks.contract.dataset import Row, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from laconic.checkpoints.checkpoint import Checkpoint

Pick = Literal["correct", "shortest-correct", "longest-correct"]
#: In the place of the data: sequences of random tokens, for what needs no data.
RANDOM: Final = "random"
RANDOM_SEQUENCES: Final = 8
RANDOM_TOKENS: Final = 64
QUESTIONS: Final = ("problem", "question", "prompt")
ANSWERS: Final = ("response", "completion", "output", "solution", "answer")


@dataclass(frozen=True)
class SampleSelection:
    """What of the data is measured, and in which words.

    Attributes:
        limit: The first so many rows of a file; so many problems of a run, drawn by the seed.
        pick: Which completion of a problem is taken from a run.
        answers: Whether answers follow their questions.
        raw: Whether both are joined as they stand, without the chat template.
        max_tokens: Longer samples are cut there, at the end.
        seed: The only source of randomness.
    """

    limit: int | None = None
    pick: Pick | None = None
    answers: bool = True
    raw: bool = False
    max_tokens: int = 2048
    seed: int = 0


@dataclass(frozen=True)
class UntokenizedSample:
    """One row, before it is tokenized.

    Attributes:
        asked: The user's turn, and how the model's begins.
        turns: The conversation before the answer, where the row is one; else empty.
        answer: The model's turn; empty where there is none.
        where: The row, for errors.
    """

    asked: Sample
    answer: str
    where: str
    turns: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class Item:
    """One sample as a model reads it.

    Attributes:
        ids: Its tokens.
        start: Where the answer begins among them; their number where there is none.
        where: The row, for errors.
    """

    ids: tuple[int, ...]
    start: int
    where: str


@dataclass(frozen=True)
class Samples:
    """A calibration set.

    Attributes:
        items: The samples, in the order of the data.
        name: How the user named the data.
        digest: Of the data.
        cut: How many samples were cut at the most tokens.
    """

    items: tuple[Item, ...]
    name: str
    digest: str
    cut: int = 0

    @property
    def tokens(self) -> int:
        """How many tokens the samples have together."""
        return sum(len(item.ids) for item in self.items)


def load_samples(
    checkpoint: Checkpoint, data: str, choice: SampleSelection, *, rows: int
) -> Samples:
    """The calibration set in the tokens of a checkpoint.

    Args:
        checkpoint: Whose tokenizer and chat template are used.
        data: A file of rows, a run's folder, or `RANDOM`.
        choice: What of it is measured.
        rows: How many token ids the model has.

    Raises:
        CalibrationError: For data that are missing, too few, or of tokens that the model has not.
        TaskError: For a file that cannot be read.
        RunError: For a run that cannot be read.
        BackendError: For a checkpoint without a tokenizer, or a template that cannot be used.
    """
    for name, least in (("limit", choice.limit), ("max-tokens", choice.max_tokens)):
        if least is not None and least < 1:
            raise CalibrationError(f"--{name} must be at least 1, got {least}.")
    if data == RANDOM:
        return _random_samples(choice, rows)
    texts, digest = _texts(data, choice)
    tokenizer = load_tokenizer(checkpoint)
    encoded = [_encode(tokenizer, text, choice, checkpoint.name) for text in texts]
    for item in encoded:
        _check_ids(item, tokenizer, checkpoint.name, rows)
    longest = min(choice.max_tokens, checkpoint.window or choice.max_tokens)
    items = tuple(Item(i.ids[:longest], min(i.start, longest), i.where) for i in encoded)
    return Samples(items, data, digest, sum(len(i.ids) > longest for i in encoded))


def _random_samples(choice: SampleSelection, rows: int) -> Samples:
    """Sequences of random tokens, uniform over the ids."""
    import numpy as np

    count = choice.limit or RANDOM_SEQUENCES
    drawn = np.random.default_rng(choice.seed).integers(rows, size=(count, RANDOM_TOKENS))
    items = tuple(
        Item(tuple(map(int, ids)), RANDOM_TOKENS, f"random sequence {number}")
        for number, ids in enumerate(drawn)
    )
    digest = hashlib.sha256(drawn.astype("<i8").tobytes()).hexdigest()[:16]
    return Samples(items, RANDOM, digest)


def _texts(data: str, choice: SampleSelection) -> tuple[list[UntokenizedSample], str]:
    """The rows that were chosen, and the digest of the file they are in."""
    path = Path(data).expanduser()
    if path.is_dir():
        file = results_file(path) or path / RESULTS
        texts = [_told(result) for result in _picked(path, choice)]
    else:
        if choice.pick is not None:
            raise CalibrationError(f"--pick {choice.pick}: {data} is no run's folder, but a file.")
        if not path.is_file():
            raise CalibrationError(
                f"There are no data at {data}. Give a JSONL file of questions and answers, or the "
                "folder of a run."
            )
        file = path
        texts = [_text(row, choice) for row in read_rows(path)]
        if not texts:
            raise CalibrationError(f"{data} has no rows: there is nothing to measure.")
        if choice.limit is not None and len(texts) < choice.limit:
            raise CalibrationError(
                f"--limit {choice.limit}: {data} has only {len(texts)} rows. Give more, or a lower "
                "limit."
            )
        texts = texts[: choice.limit]
    with file.open("rb") as stream:
        return texts, hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _text(row: Row, choice: SampleSelection) -> UntokenizedSample:
    """A row of a file: a question with or without its answer, a conversation, or bare text."""
    values = row.values
    if "messages" in values:
        return _conversation(row)
    if "text" in values and not any(name in values for name in QUESTIONS):
        return UntokenizedSample(Sample("", "", row.text("text"), "", raw=True), "", row.where)
    if not any(name in values for name in QUESTIONS):
        wanted = ", ".join(f"'{name}'" for name in (*QUESTIONS, "messages", "text"))
        near = did_you_mean(next(iter(values), ""), (*QUESTIONS, "messages", "text"))
        held = ", ".join(values) or "nothing"
        raise CalibrationError(f"{row.where} has none of {wanted}; it holds {held}. {near}")
    answer = row.optional(*ANSWERS) if choice.answers else ""
    return UntokenizedSample(Sample("", "", row.text(*QUESTIONS), ""), answer, row.where)


def _conversation(row: Row) -> UntokenizedSample:
    turns = row.values["messages"]
    if not (
        isinstance(turns, list)
        and turns
        and all(isinstance(t, dict) and {"role", "content"} <= t.keys() for t in turns)
        and all(isinstance(t["content"], str) for t in turns)
    ):
        raise CalibrationError(
            f"{row.where}: 'messages' must be a list of {{role, content}}, got {turns!r:.60}."
        )
    answered = turns[-1]["role"] == "assistant"
    before = turns[:-1] if answered else turns
    if not before:
        raise CalibrationError(f"{row.where}: its messages hold no question before the answer.")
    asked = Sample("", "", "\n".join(turn["content"] for turn in before), "")
    return UntokenizedSample(
        asked, turns[-1]["content"] if answered else "", row.where, tuple(before)
    )


def _told(result: Result) -> UntokenizedSample:
    """A completion of a run as question and answer."""
    where = f"{result.task}, problem '{result.id}'"
    asked = Sample(result.task, result.id, result.problem, "", prefill=result.prefill)
    return UntokenizedSample(asked, result.text, where)


def _picked(folder: Path, choice: SampleSelection) -> Iterator[Result]:
    """One right completion of each of so many problems that have one, drawn by the seed."""
    import numpy as np

    run = read_run(folder)
    right: dict[tuple[str, str], list[Result]] = {}
    for result in run.results:
        if result.correct and not result.truncated:
            right.setdefault((result.task, result.id), []).append(result)
    wanted = choice.limit or min(len(right), 100)
    if not right or len(right) < wanted:
        raise CalibrationError(
            f"{folder} has right, uncut answers to {len(right)} problems, and {wanted or 'some'} "
            "were asked for. Give a lower --limit, or a run with more of them."
        )
    draws = np.random.default_rng(choice.seed)
    chosen = [sorted(right)[i] for i in sorted(draws.permutation(len(right))[:wanted])]
    for key in chosen:
        told = sorted(right[key], key=lambda r: (r.length, r.repeat))
        places = {"shortest-correct": 0, "longest-correct": len(told) - 1}
        place = places.get(choice.pick or "correct", int(draws.integers(len(told))))
        yield told[place]


def _encode(tokenizer: Any, text: UntokenizedSample, choice: SampleSelection, name: str) -> Item:
    """A row's tokens: the question's, and the answer's with the token that ends it."""
    raw = choice.raw or text.asked.raw
    asked = text.asked
    if text.turns and not raw and tokenizer.chat_template:
        try:
            told = apply_template(tokenizer, text.turns, opens=True)
        except RenderError as error:
            raise CalibrationError(
                f"{text.where}: {name}'s chat template cannot write these messages ({error}). "
                "Give --raw to join them as they stand."
            ) from error
    else:
        told = asked.problem + asked.prefill if raw else render(tokenizer, asked, name)
    ids = encode_prompt(tokenizer, told, raw=raw)
    start = len(ids)
    if text.answer and choice.answers:
        ids = [*ids, *tokenizer.encode(text.answer, add_special_tokens=False)]
        if tokenizer.eos_token_id is not None:
            ids.append(int(tokenizer.eos_token_id))
    if not ids:
        raise CalibrationError(f"{text.where} has no tokens. Remove the row.")
    return Item(tuple(ids), start, text.where)


def _check_ids(item: Item, tokenizer: Any, name: str, rows: int) -> None:
    highest = max(item.ids)
    if highest >= rows:
        token = tokenizer.convert_ids_to_tokens(highest)
        raise CalibrationError(
            f"{item.where}: the tokenizer of {name} writes token {highest} ({token!r}), and its "
            f"embedding has only {rows} rows. The tokenizer is of another model: copy the right "
            "one into the checkpoint."
        )


def batches(lengths: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """Samples in batches of similar length, the longest first.

    Args:
        lengths: The samples' tokens, ``[sample]``.
        most: The most tokens of a batch, padding included; a longer sample is alone.

    Returns:
        The samples' numbers, batch by batch.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    made: list[list[int]] = []
    for number in order:
        if made and lengths[made[-1][0]] * (len(made[-1]) + 1) <= most:
            made[-1].append(number)
        else:
            made.append([number])
    return [tuple(batch) for batch in made]


def same_tokens(samples: Iterable[Item], ours: Checkpoint, theirs: Checkpoint) -> None:
    """Refuse samples whose tokens mean something else to another model.

    Raises:
        CalibrationError: Naming the first such token.
    """
    mine, other = ours.vocabulary(), theirs.vocabulary()
    for number in sorted({number for item in samples for number in item.ids}):
        if mine.get(number) != other.get(number):
            raise CalibrationError(
                f"Token {number} is {mine.get(number)!r} to {ours.name} and "
                f"{other.get(number)!r} to {theirs.name}: the models cannot be compared on text "
                "that holds it. Give --raw to leave the chat template out, or models of one "
                "tokenizer."
            )
