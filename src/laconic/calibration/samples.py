"""The samples of a calibration: rows of a file or results of a run, as token ids."""

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
#: Given instead of a file: sequences of random tokens, for statistics that need no data.
RANDOM: Final = "random"
RANDOM_SEQUENCES: Final = 8
RANDOM_TOKENS: Final = 64
QUESTIONS: Final = ("problem", "question", "prompt")
ANSWERS: Final = ("response", "completion", "output", "solution", "answer")


@dataclass(frozen=True)
class SampleSelection:
    """Which samples of the data are used, and how they become text.

    Attributes:
        limit: The number of samples: the first rows of a file, or problems of a run drawn by the
            seed. None means all rows of a file, and at most 100 problems of a run.
        pick: Which right completion of each problem is taken from a run.
        answers: Whether the answer is appended to its question.
        raw: Whether question and answer are joined as they are, without the chat template.
        max_tokens: Longer samples are cut at their end.
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
    """One row before it is tokenized.

    Attributes:
        question: The user's turn, and the first words of the model's turn if they are given.
        answer: The model's turn; empty if there is none.
        where: The file and line, or the problem of a run, for error messages.
        turns: For a conversation, its turns before the answer; else empty.
    """

    question: Sample
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
    checkpoint: Checkpoint, data: str, selection: SampleSelection, *, rows: int
) -> Samples:
    """Read the samples and tokenize them.

    Args:
        checkpoint: The model whose tokenizer and chat template are used.
        data: A file of rows, a run's folder, or `RANDOM`.
        selection: Which samples are used.
        rows: The number of rows of the model's embedding.

    Raises:
        CalibrationError: If data are missing or too few, or if a token id has no row.
        TaskError: If a file cannot be read.
        RunError: If a run cannot be read.
        BackendError: If the checkpoint has no tokenizer, or its template cannot be used.
    """
    for name, least in (("limit", selection.limit), ("max-tokens", selection.max_tokens)):
        if least is not None and least < 1:
            raise CalibrationError(f"--{name} must be at least 1, got {least}.")
    if data == RANDOM:
        return _random_samples(selection, rows)
    texts, digest = _texts(data, selection)
    tokenizer = load_tokenizer(checkpoint)
    encoded = [_encode(tokenizer, text, selection, checkpoint.name) for text in texts]
    for item in encoded:
        _check_ids(item, tokenizer, checkpoint.name, rows)
    longest = min(selection.max_tokens, checkpoint.window or selection.max_tokens)
    items = tuple(Item(i.ids[:longest], min(i.start, longest), i.where) for i in encoded)
    return Samples(items, data, digest, sum(len(i.ids) > longest for i in encoded))


def _random_samples(selection: SampleSelection, rows: int) -> Samples:
    """Sequences of random tokens, uniform over the ids."""
    import numpy as np

    count = selection.limit or RANDOM_SEQUENCES
    drawn = np.random.default_rng(selection.seed).integers(rows, size=(count, RANDOM_TOKENS))
    items = tuple(
        Item(tuple(map(int, ids)), RANDOM_TOKENS, f"random sequence {number}")
        for number, ids in enumerate(drawn)
    )
    digest = hashlib.sha256(drawn.astype("<i8").tobytes()).hexdigest()[:16]
    return Samples(items, RANDOM, digest)


def _texts(data: str, selection: SampleSelection) -> tuple[list[UntokenizedSample], str]:
    """The chosen rows, and the digest of the file that holds them."""
    path = Path(data).expanduser()
    if path.is_dir():
        file = results_file(path) or path / RESULTS
        texts = [_from_result(result) for result in _pick_results(path, selection)]
    else:
        if selection.pick is not None:
            raise CalibrationError(
                f"--pick {selection.pick}: {data} is no run's folder, but a file."
            )
        if not path.is_file():
            raise CalibrationError(
                f"There are no data at {data}. Give a JSONL file of questions and answers, or the "
                "folder of a run."
            )
        file = path
        texts = [_text(row, selection) for row in read_rows(path)]
        if not texts:
            raise CalibrationError(f"{data} has no rows: there is nothing to measure.")
        if selection.limit is not None and len(texts) < selection.limit:
            raise CalibrationError(
                f"--limit {selection.limit}: {data} has only {len(texts)} rows. Give more "
                "rows, or a lower limit."
            )
        texts = texts[: selection.limit]
    with file.open("rb") as stream:
        return texts, hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _text(row: Row, selection: SampleSelection) -> UntokenizedSample:
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
    answer = row.optional(*ANSWERS) if selection.answers else ""
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
    question = Sample("", "", "\n".join(turn["content"] for turn in before), "")
    return UntokenizedSample(
        question, turns[-1]["content"] if answered else "", row.where, tuple(before)
    )


def _from_result(result: Result) -> UntokenizedSample:
    """A result of a run as question and answer."""
    where = f"{result.task}, problem '{result.id}'"
    question = Sample(result.task, result.id, result.problem, "", prefill=result.prefill)
    return UntokenizedSample(question, result.text, where)


def _pick_results(folder: Path, selection: SampleSelection) -> Iterator[Result]:
    """One right completion for each of `limit` problems; the seed draws the problems."""
    import numpy as np

    run = read_run(folder)
    right: dict[tuple[str, str], list[Result]] = {}
    for result in run.results:
        if result.correct and not result.truncated:
            right.setdefault((result.task, result.id), []).append(result)
    wanted = selection.limit or min(len(right), 100)
    if not right or len(right) < wanted:
        raise CalibrationError(
            f"{folder} has right, uncut answers to {len(right)} problems, and {wanted or 'some'} "
            "are needed. Give a lower --limit, or a run with more right answers."
        )
    draws = np.random.default_rng(selection.seed)
    chosen = [sorted(right)[i] for i in sorted(draws.permutation(len(right))[:wanted])]
    for key in chosen:
        by_length = sorted(right[key], key=lambda r: (r.length, r.repeat))
        places = {"shortest-correct": 0, "longest-correct": len(by_length) - 1}
        place = places.get(selection.pick or "correct", int(draws.integers(len(by_length))))
        yield by_length[place]


def _encode(tokenizer: Any, text: UntokenizedSample, selection: SampleSelection, name: str) -> Item:
    """A row's tokens: the question's, and the answer's with the token that ends it."""
    raw = selection.raw or text.question.raw
    question = text.question
    if text.turns and not raw and tokenizer.chat_template:
        try:
            prompt = apply_template(tokenizer, text.turns, opens=True)
        except RenderError as error:
            raise CalibrationError(
                f"{text.where}: {name}'s chat template cannot write these messages ({error}). "
                "Give --raw to join them without the template."
            ) from error
    else:
        prompt = question.problem + question.prefill if raw else render(tokenizer, question, name)
    ids = encode_prompt(tokenizer, prompt, raw=raw)
    start = len(ids)
    if text.answer and selection.answers:
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
            f"{item.where}: the tokenizer of {name} writes token {highest} ({token!r}), but its "
            f"embedding has only {rows} rows. The tokenizer belongs to another model: copy the "
            "right one into the checkpoint."
        )


def batches(lengths: Sequence[int], most: int) -> list[tuple[int, ...]]:
    """Group samples of similar length into batches, the longest first.

    Args:
        lengths: The samples' tokens, ``[sample]``.
        most: The most tokens of a batch, padding included; a longer sample gets its own batch.

    Returns:
        The samples' numbers, batch by batch.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups: list[list[int]] = []
    for number in order:
        if groups and lengths[groups[-1][0]] * (len(groups[-1]) + 1) <= most:
            groups[-1].append(number)
        else:
            groups.append([number])
    return [tuple(group) for group in groups]


def same_tokens(samples: Iterable[Item], ours: Checkpoint, theirs: Checkpoint) -> None:
    """Refuse samples with token ids that stand for other strings in the second model.

    Raises:
        CalibrationError: Naming the first such token.
    """
    mine, other = ours.vocabulary(), theirs.vocabulary()
    for number in sorted({number for item in samples for number in item.ids}):
        if mine.get(number) != other.get(number):
            raise CalibrationError(
                f"Token {number} is {mine.get(number)!r} to {ours.name} and "
                f"{other.get(number)!r} to {theirs.name}: the models cannot be compared on text "
                "that contains it. Give --raw to leave out the chat template, or compare models "
                "with the same tokenizer."
            )
