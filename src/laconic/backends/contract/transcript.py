"""Turns generated token ids into a completion: its text, its length, the length of its thought."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from laconic.runs.run import Generation

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from laconic.runs.run import Finish


class Transcript:
    """Reads the token ids that an engine generated.

    ``</think>`` is counted by its token id; where the vocabulary has no such token, the text up to
    it is encoded and counted.

    Args:
        tokenizer: A transformers tokenizer.
        ends: The token ids that end a turn.
    """

    def __init__(self, tokenizer: Any, ends: Collection[int]) -> None:
        vocabulary = tokenizer.get_vocab()
        self._tokenizer = tokenizer
        self._close = vocabulary.get("</think>")
        self._open = vocabulary.get("<think>")
        self._hidden = {*tokenizer.all_special_ids, *ends} - {self._open, self._close}

    def read(
        self,
        ids: Sequence[int],
        *,
        prompt: str,
        prefill: str,
        finish: Finish,
        stops: Sequence[str] = (),
        prefix_ids: Sequence[int] = (),
    ) -> Generation:
        """A completion.

        Args:
            ids: Its token ids, the one that ends the turn included.
            prompt: The exact text that the model was given.
            prefill: How that text begins the model's turn.
            finish: Why it ended.
            stops: Texts that ended it; they and what follows them are left out of the text.
            prefix_ids: Token ids that the model was given behind that text.
        """
        text = self._tokenizer.decode(
            [token for token in ids if token not in self._hidden],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        for stop in stops:
            text = text.partition(stop)[0]
        thought = self._thought(ids, text)
        opened = (
            self._open in ids if self._open is not None else "<think>" in text
        ) or self._begun(prompt, prefill, prefix_ids)
        return Generation(
            text=text,
            length=len(ids),
            thinking_length=thought or (len(ids) if opened else 0),
            thinks=thought > 0,
            finish=finish,
            ids=tuple(ids),
        )

    def _begun(self, prompt: str, prefill: str, prefix_ids: Sequence[int]) -> bool:
        """Whether a thought is open where the completion begins."""
        begun = prefill.rfind("<think>") > prefill.rfind("</think>")
        begun = begun or prompt.rstrip().endswith("<think>")
        if prefix_ids:
            text = self._tokenizer.decode(list(prefix_ids), skip_special_tokens=False)
            opening, closing = text.rfind("<think>"), text.rfind("</think>")
            begun = opening > closing or (begun and closing < 0)
        return begun

    def _thought(self, ids: Sequence[int], text: str) -> int:
        """The tokens up to and including the last ``</think>``, 0 where there is none."""
        if self._close is not None:
            return len(ids) - ids[::-1].index(self._close) if self._close in ids else 0
        before, tag, _ = text.rpartition("</think>")
        return len(self._tokenizer.encode(before + tag, add_special_tokens=False)) if tag else 0


def end_tokens(generation_config: Any, tokenizer: Any) -> set[int]:
    """The tokens that end a turn: the generation config's, if there is one, and the tokenizer's."""
    named = getattr(generation_config, "eos_token_id", None)
    ends = set(named if isinstance(named, list) else [named]) | {tokenizer.eos_token_id}
    return {int(token) for token in ends if token is not None}
