"""The lab's tokenizer: Qwen2's, with a vocabulary of bytes and of the few words the lab writes.

It is byte-level BPE with Qwen2's own splitting and special tokens, so every tool that reads a Qwen2
folder reads it, and any text survives the round trip. Digits and variables are single tokens, the
same in a question and in its working. `encode` is the same map for the lab's texts in plain Python.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast

PAD: Final = "<|endoftext|>"
START: Final = "<|im_start|>"
END: Final = "<|im_end|>"
SPECIAL: Final = (PAD, START, END)
THINKING: Final = ("<think>", "</think>")
WORDS: Final = (
    *("assistant", " answer", "system", " check", "boxed", " more", " once", " wait", "user"),
    *("Wait", "Work", "Hmm", " let", " mod", " not", " the", " OK", " is", " me", " so", "So"),
)
SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
#: Tokens of prompt and response together that a lab model can hold.
WINDOW: Final = 1024


def _letters() -> str:
    """How byte-level BPE writes the bytes 0 to 255: printable ones as they are, others above."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return "".join(chr(byte if byte in printable else next(spare)) for byte in range(256))


LETTERS: Final = _letters()


def _written(text: str) -> str:
    """A text in the letters of byte-level BPE."""
    return "".join(LETTERS[byte] for byte in text.encode())


def _merges() -> dict[tuple[str, str], str]:
    """How words grow, from their end, so that a space before a variable stays a token of its own.

    Long words come first: a short one must not take letters from them.
    """
    made: dict[tuple[str, str], str] = {}
    for word in sorted(map(_written, WORDS), key=len, reverse=True):
        for start in range(len(word) - 2, -1, -1):
            made[word[start], word[start + 1 :]] = word[start:]
    return made


MERGES: Final = _merges()
VOCABULARY: Final = {
    token: index
    for index, token in enumerate(
        [*LETTERS, *dict.fromkeys(MERGES.values()), *SPECIAL, *THINKING],
    )
}
_WHOLE: Final = {**{word: _written(word) for word in WORDS}, **{s: s for s in SPECIAL + THINKING}}
_TOKEN: Final = re.compile(
    "|".join([*map(re.escape, sorted(_WHOLE, key=len, reverse=True)), r"[\s\S]"])
)


def encode(text: str) -> list[int]:
    """The token ids of a text in the lab's grammar; special tokens are written as themselves."""
    ids: list[int] = []
    for piece in _TOKEN.findall(text):
        if piece in _WHOLE:
            ids.append(VOCABULARY[_WHOLE[piece]])
        else:
            ids.extend(piece.encode())  # a byte's id is its value
    return ids


def decode(ids: Iterable[int]) -> str:
    """The text of some token ids, special tokens included."""
    tokens = list(VOCABULARY)
    written = "".join(tokens[index] for index in ids)
    return bytes(LETTERS.index(letter) for letter in written).decode(errors="replace")


def prompt(question: str) -> str:
    """A question as the chat template writes it, up to where the model begins to answer."""
    return f"{START}user\n{question}{END}\n{START}assistant\n"


def build() -> PreTrainedTokenizerFast:
    """The same tokenizer for transformers, with its chat template."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from transformers import PreTrainedTokenizerFast

    plain = {t: i for t, i in VOCABULARY.items() if t not in SPECIAL + THINKING}
    core = Tokenizer(models.BPE(plain, list(MERGES)))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = Sequence(
        [Split(Regex(SPLIT), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in THINKING])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers' own
        tokenizer_object=core,
        unk_token=PAD,
        pad_token=PAD,
        eos_token=END,
        padding_side="left",
        model_max_length=WINDOW,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def save(target: Path) -> None:
    """Write the tokenizer's files into a model folder."""
    build().save_pretrained(target)
    settings = target / "tokenizer_config.json"
    named = json.loads(settings.read_text(encoding="utf-8"))
    named["tokenizer_class"] = "Qwen2Tokenizer"  # known to transformers 4 and 5, and loads these
    settings.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")
