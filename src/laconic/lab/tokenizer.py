"""The lab's tokenizer: whole words of its grammar, else single bytes, and the chat template.

Tools read it as what its config says, a Qwen2 tokenizer: byte-level, with the grammar's words as
added tokens and no merges. Digits and variables are single tokens, the same in a question and in
its working; any text survives the round trip. `encode` is the same map in plain Python.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from laconic.errors import LaconicError
from laconic.files.json import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast

PAD: Final = "<|pad|>"
UNKNOWN: Final = "<|unknown|>"
START: Final = "<|im_start|>"
END: Final = "<|im_end|>"
SPECIAL: Final = (PAD, END, START, UNKNOWN)
THINKING: Final = ("<think>", "</think>")
WORDS: Final = (
    *("\\boxed", "Work", " mod", "user", "assistant", "system", "So", " the", " answer", " is"),
    *("Wait", "Hmm", " wait", " let", " me", " check", " once", " more", " so", " not", " OK"),
)
#: The bytes of plain ASCII text; the other bytes follow behind all that is trained.
PLAIN: Final = (ord("\n"), *range(32, 127))
WHOLE: Final = {token: index for index, token in enumerate((*SPECIAL, *THINKING, *WORDS))}
BYTES: Final = {
    byte: len(WHOLE) + index
    for index, byte in enumerate((*PLAIN, *(b for b in range(256) if b not in PLAIN)))
}
#: How many ids the lab's texts use: what the networks are trained with.
TRAINED: Final = len(WHOLE) + len(PLAIN)
#: How many ids there are.
SIZE: Final = len(WHOLE) + len(BYTES)
#: Longest first, so that no word hides a longer one; whatever is not a word goes byte by byte.
PIECE: Final = re.compile(
    "|".join([*map(re.escape, sorted(WHOLE, key=len, reverse=True)), r"[\s\S]"])
)
#: Qwen2's own splitting; without merges it does not matter, but tools expect it.
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


def encode(text: str) -> list[int]:
    """The token ids of a text; special tokens are written as themselves."""
    ids: list[int] = []
    for piece in PIECE.findall(text):
        ids += [WHOLE[piece]] if piece in WHOLE else [BYTES[byte] for byte in piece.encode()]
    return ids


def decode(ids: Iterable[int]) -> str:
    """The text of some token ids, special tokens included."""
    written = {index: token.encode() for token, index in WHOLE.items()}
    written |= {index: bytes([byte]) for byte, index in BYTES.items()}
    return b"".join(written[index] for index in ids).decode(errors="replace")


def prompt(question: str) -> str:
    """A question as the chat template writes it, up to where the model begins to answer."""
    return f"{START}user\n{question}{END}\n{START}assistant\n"


def build(window: int) -> PreTrainedTokenizerFast:
    """The same tokenizer for transformers, with its chat template.

    Args:
        window: Tokens of prompt and response together that its model can hold.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from transformers import PreTrainedTokenizerFast

    letters = _letters()
    vocabulary = WHOLE | {letters[byte]: index for byte, index in BYTES.items()}
    core = Tokenizer(models.BPE(vocabulary, []))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = Sequence(
        [Split(Regex(SPLIT), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    words = (*THINKING, *WORDS)
    core.add_tokens([AddedToken(word, special=False, normalized=False) for word in words])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers' own
        tokenizer_object=core,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        padding_side="left",
        model_max_length=window,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def save(target: Path, window: int) -> None:
    """Write the tokenizer's files into the folder of a model with that window."""
    build(window).save_pretrained(target)
    settings = target / "tokenizer_config.json"
    named = read_json(settings, LaconicError)
    named["tokenizer_class"] = "Qwen2Tokenizer"  # known to transformers 4 and 5
    settings.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")


def _letters() -> list[str]:
    """How byte-level BPE writes the bytes 0 to 255: printable ones as they are, others above."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]
