"""Encode: an answer as the tokens of the model's turn, with checks that nothing was lost.

The chat template writes the conversation. Its text must begin with exactly the prompt that the
model gets when it generates, followed by exactly the answer. A template that deletes or rewrites
answers is refused before the first row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np

from laconic.backends.contract.transcript import end_tokens
from laconic.checkpoints.chat_template import (
    encode_prompt,
    render,
    template_digest,
    tokenizer_digest,
)
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.template_process import RenderError, apply_template
from laconic.checkpoints.tokenizer import load_tokenizer
from laconic.data.pools import MASKED
from laconic.errors import BackendError, DataError, did_you_mean
from laconic.files.json import read_json
from laconic.files.text import read_text
from laconic.runs.run import Sample
from laconic.scoring.answers.extract import boxed_answer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from laconic.checkpoints.checkpoint import Checkpoint

ThinkPolicy = Literal["think_short", "empty_think", "keep", "raw"]
OPEN: Final = "<think>"
CLOSE: Final = "</think>"
#: Why a row cannot be encoded, by the reason that is counted.
REASONS: Final[Mapping[str, str]] = {
    "no_thought": "the answer has no thought, and the template's prompt opens one: --policy "
    "think_short or empty_think gives it one",
    "no_box": "think_short puts the line with the box behind the thought, and there is none: "
    "--policy keep or empty_think takes answers without a box, sampling with --prompt boxed asks "
    "for one",
    "unclosed_thought": "the model's turn does not hold one closed thought",
    "template_changes_it": "the chat template writes another text than the answer",
    "end_inside": "a token that ends a turn stands inside the answer",
    "round_trip": "decoding the tokens does not give the text back",
    "over_length": "prompt and answer have more tokens than the limit",
}
_PROBE: Final = ("What is 2 + 3?", "Two and three make five.", "So it is \\boxed{5}.")
_LONE_OPENING = re.compile(r"^\s*(?:\\\[|\$\$)\s*$")


@dataclass(frozen=True)
class Encoded:
    """An answer as the model is trained on it.

    Attributes:
        prompt: The text before the model's turn, as it is when the model generates.
        response: The text that the model learns to write, without the token that ends its turn.
        end: The text of the token that ends the turn.
        input_ids: The tokens of prompt, response and end, ``[token]``.
        prompt_length: The number of tokens of the prompt.
    """

    prompt: str
    response: str
    end: str
    input_ids: NDArray[np.int32]
    prompt_length: int

    @property
    def labels(self) -> NDArray[np.int32]:
        """The tokens that are learnt, and `MASKED` for those of the prompt, ``[token]``."""
        labels = self.input_ids.copy()
        labels[: self.prompt_length] = MASKED
        return labels

    @property
    def length(self) -> int:
        """Tokens of the answer, the one that ends the turn included."""
        return len(self.input_ids) - self.prompt_length


class Encoder:
    """Encodes answers for one checkpoint's tokenizer and chat template.

    Args:
        model: A checkpoint folder, a Hub id or a ``lab:`` name.
        policy: How an answer without a thought is written; one that has its own is kept as it is.
            ``think_short``: all but its last lines become the thought. ``empty_think``: an empty
            thought goes before it. ``keep``: as it is. ``raw``: as it is, and the template's
            prompt must open no thought.
        template: A chat template to write with; it must ask as the model's own does.
        append: Write the answer behind the template's prompt as it stands, not by the template.
        max_tokens: The most tokens of prompt and answer; by default the model's window.

    Raises:
        DataError: For a template that deletes or changes answers, asks in another way than the
            model's own, does not end the turn, does not fit the policy, or begins a text twice.
        CheckpointError: For a model that is no checkpoint.
    """

    def __init__(
        self,
        model: str,
        policy: ThinkPolicy,
        *,
        template: Path | None = None,
        append: bool = False,
        max_tokens: int | None = None,
    ) -> None:
        if policy not in get_args(ThinkPolicy):
            known = get_args(ThinkPolicy)
            raise DataError(f"There is no think policy '{policy}'. {did_you_mean(policy, known)}")
        checkpoint = open_checkpoint(model)
        self.name, self.policy = checkpoint.name, policy
        self.max_tokens = _limit(checkpoint, max_tokens)
        try:
            self._tokenizer = load_tokenizer(checkpoint)
        except BackendError as error:
            raise DataError(str(error)) from None
        self.tokenizer = tokenizer_digest(self._tokenizer)
        if not self._tokenizer.chat_template and template is None:
            raise DataError(
                f"{self.name} has no chat template: nothing says where its turn begins and ends. "
                "Give one (--template FILE), or copy that of the model it was made from."
            )
        own = self._prompt(_PROBE[0]) if self._tokenizer.chat_template else None
        self.template = template_digest(self._tokenizer)
        if template is not None:
            self._use(template, own)
        self._ends = end_tokens(_generation_config(checkpoint), self._tokenizer)
        self._append = append
        probe_prompt = self._prompt(_PROBE[0])
        self.opens = probe_prompt.rstrip().endswith(OPEN)
        self._opening = probe_prompt[probe_prompt.rfind(OPEN) :] if self.opens else f"{OPEN}\n"
        if policy == "raw" and self.opens:
            raise DataError(
                f"raw writes answers without a thought, but the prompt of {self.name} opens one "
                f"(it ends in {OPEN}). Give --policy think_short or empty_think."
            )
        self._refuse_two_starts(probe_prompt)
        self.end = self._prove()

    def encode(self, question: str, answer: str) -> Encoded | str:
        """An answer to a question in the model's turn.

        Returns:
            The row, or the reason why there is none, a key of `REASONS`.
        """
        written = self._write(answer)
        if written is None:
            return "no_thought" if self.policy in ("keep", "raw") else "no_box"
        turn, response = written
        counts = turn.count(OPEN), turn.count(CLOSE)
        if counts not in ((0, 0), (1, 1)) or turn.find(CLOSE) < turn.find(OPEN):
            return "unclosed_thought"
        if self.opens and counts == (0, 0):
            return "no_thought"
        prompt = self._prompt(question)
        text = prompt + response + self.end
        if not self._append and not self._rendered(question, turn).startswith(text):
            return "template_changes_it"
        return self._tokens(prompt, response, text)

    def _tokens(self, prompt: str, response: str, text: str) -> Encoded | str:
        """The tokens of a row whose text is settled, proven."""
        before = encode_prompt(self._tokenizer, prompt)
        ids = encode_prompt(self._tokenizer, text)
        if ids[: len(before)] != before:  # a token spans the border, which no generation does
            ids = before + encode_prompt(self._tokenizer, text[len(prompt) :])
        if ids[-1] not in self._ends or any(i in self._ends for i in ids[len(before) : -1]):
            return "end_inside"
        if self._decode(ids) != text:
            return "round_trip"
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            return "over_length"
        return Encoded(prompt, response, self.end, np.array(ids, np.int32), len(before))

    def _write(self, answer: str) -> tuple[str, str] | None:
        """The model's whole turn with its thought's opening, and what of it follows the prompt."""
        if CLOSE in answer or OPEN in answer or self.policy in ("keep", "raw"):
            if CLOSE not in answer and OPEN not in answer:
                return None if self.opens else (answer, answer)
            body = re.sub(rf"^\s*{OPEN}\n?", "", answer)
        elif self.policy == "empty_think":
            body = f"\n{CLOSE}\n\n{answer.strip()}"
        elif (split := split_answer(answer)) is None:
            return None
        else:
            body = f"{split[0]}\n{CLOSE}\n\n{split[1]}"
        if self.opens:
            return self._opening + body, body
        whole = answer if answer.startswith(OPEN) else self._opening + body
        return whole, whole

    def _prompt(self, question: str) -> str:
        try:
            return render(self._tokenizer, Sample("", "", question, ""), self.name)
        except BackendError as error:
            raise DataError(str(error)) from None

    def _rendered(self, question: str, turn: str) -> str:
        """The conversation as the template writes it."""
        talk = [{"role": "user", "content": question}, {"role": "assistant", "content": turn}]
        try:
            return apply_template(self._tokenizer, talk, opens=False)
        except RenderError as error:
            raise DataError(
                f"{self.name}: its chat template cannot write an assistant's turn ({error}). Give "
                "another (--template FILE), or --append."
            ) from error

    def _use(self, template: Path, own: str | None) -> None:
        """Write with another template, which must ask exactly as the model's own does."""
        self._tokenizer.chat_template = read_text(template, DataError)
        probe_prompt = self._prompt(_PROBE[0])
        if own is not None and probe_prompt != own:
            raise DataError(
                f"{template} asks {probe_prompt!r}, and {self.name} by its own template {own!r}: "
                "it would be trained on prompts that it never gets. Use a template that asks the "
                "same, or make this one the model's own (chat_template.jinja in its folder)."
            )
        if own is None:
            self.template = template_digest(self._tokenizer)

    def _refuse_two_starts(self, probe_prompt: str) -> None:
        """Refuse prompts that begin with the token of a text's beginning twice.

        A template may write that token, and so may a tokenizer; texts that a template wrote are
        encoded without the tokenizer's, so two come from the template or the tokenizer alone.
        """
        start = self._tokenizer.bos_token_id
        if start is not None and encode_prompt(self._tokenizer, probe_prompt)[:2] == [start, start]:
            raise DataError(
                f"Prompts of {self.name} begin with {self._decode([start])!r} twice, as no text "
                "does that it has seen. Let its chat template (chat_template.jinja) write it once, "
                "and its tokenizer add none if no special tokens are requested."
            )

    def _prove(self) -> str:
        """Put a conversation with a thought through the template.

        Returns:
            The text of the token that ends the model's turn.
        """
        question, thought, final = _PROBE
        turn = f"{self._opening}{thought}\n{CLOSE}\n\n{final}"
        prompt = self._prompt(question)
        plain = self._rendered(question, final)
        if self._append:
            return self._end_of(plain.rpartition(final)[2])
        rendered = self._rendered(question, turn)
        fix = (
            "Give --append, which writes answers behind the prompt as they stand, or a template "
            "for training (--template FILE; TRL brings some in trl/chat_templates)."
        )
        if thought not in rendered:
            raise DataError(
                f"The chat template of {self.name} deletes the thoughts of the model's turns: it "
                f"writes {rendered.partition(question)[2][-80:]!r}, and nothing of the thought "
                f"would be learnt. {fix}"
            )
        begun = prompt + (turn.removeprefix(self._opening) if self.opens else turn)
        if not rendered.startswith(begun):
            shown = rendered[_common(rendered, begun) :][:60]
            raise DataError(
                f"The chat template of {self.name} does not write the model's turn as the model "
                f"writes it itself: behind its prompt should stand the answer, from character "
                f"{_common(rendered, begun)} it writes {shown!r}. {fix}"
            )
        return self._end_of(rendered[len(begun) :])

    def _end_of(self, tail: str) -> str:
        """The text of the token that ends a turn, from what the template writes behind it."""
        ids = encode_prompt(self._tokenizer, tail) if tail else []
        if not ids or ids[0] not in self._ends:
            known = ", ".join(repr(self._decode([end])) for end in sorted(self._ends)) or "none"
            raise DataError(
                f"The chat template of {self.name} ends the model's turn with {tail!r}, and "
                f"generation stops at {known}: a model trained so would not stop. Correct "
                "eos_token_id in its generation_config.json, or the template."
            )
        return self._decode(ids[:1])

    def _decode(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text


def split_answer(answer: str) -> tuple[str, str] | None:
    r"""A short answer as its working and its final lines, which hold the last box.

    The final part is the paragraph of the last ``\boxed`` and what follows; in an answer of one
    paragraph, the line, with a lone ``\[`` above it. None where there is no box.
    """
    text = answer.strip()
    if boxed_answer(text) is None:
        return None
    box = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    start = text.rfind("\n\n", 0, box)
    if start >= 0:
        return text[:start].strip("\n"), text[start:].strip("\n")
    lines = text[:box].split("\n")
    first = len(lines) - 1
    if first and _LONE_OPENING.match(lines[first - 1]):
        first -= 1
    every = text.split("\n")
    return "\n".join(every[:first]).strip("\n"), "\n".join(every[first:])


def _limit(checkpoint: Checkpoint, max_tokens: int | None) -> int | None:
    window = checkpoint.window
    if max_tokens is not None and max_tokens < 1:
        raise DataError(f"max_tokens must be at least 1, got {max_tokens}.")
    if max_tokens is not None and window is not None and max_tokens > window:
        raise DataError(
            f"max_tokens is {max_tokens}, and the window of {checkpoint.name} holds {window}."
        )
    return window if max_tokens is None else max_tokens


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _generation_config(checkpoint: Checkpoint) -> Any:
    """The generation config of a checkpoint, as far as it names the end of a turn."""
    from types import SimpleNamespace

    path = checkpoint.folder / "generation_config.json"
    return SimpleNamespace(**read_json(path, DataError)) if path.exists() else None
