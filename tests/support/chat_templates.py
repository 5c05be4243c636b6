"""Toy checkpoints whose chat templates behave as those of well-known models do."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

if TYPE_CHECKING:
    from tests.conftest import MakeCheckpoint

BOS, END = "<\uff5cbegin\uff5c>", "<\uff5cend\uff5c>"
USER, ASSISTANT = "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"
#: ChatML with a system turn of its own where none is given; answers stand as they are.
QWEN25 = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{ '<|im_start|>system\\nBe helpful.<|im_end|>\\n' }}{%- endif -%}"
    "{%- for turn in messages -%}"
    "{{ '<|im_start|>' + turn['role'] + '\\n' + turn['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
#: ChatML that splits the last answer at its thought, writes both anew, and adds an empty thought.
QWEN3 = (
    "{%- for turn in messages -%}"
    "{%- if turn['role'] == 'user' -%}"
    "{{ '<|im_start|>user\\n' + turn['content'] + '<|im_end|>\\n' }}"
    "{%- else -%}"
    "{%- set parts = turn['content'].split('</think>') -%}"
    "{%- set thought = parts[0].split('<think>')[-1].strip('\\n') if parts|length > 1 else '' -%}"
    "{{ '<|im_start|>assistant\\n<think>\\n' + thought + '\\n</think>\\n\\n' }}"
    "{{ parts[-1].lstrip('\\n') + '<|im_end|>\\n' }}"
    "{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
_ASKED = (
    "{{ bos_token }}{%- for turn in messages -%}"
    "{%- if turn['role'] == 'user' -%}{{ '<\uff5cUser\uff5c>' + turn['content'] }}"
    "{%- else -%}{{ '<\uff5cAssistant\uff5c>' + ANSWER + '<\uff5cend\uff5c>' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<\uff5cAssistant\uff5c><think>\\n' }}{%- endif -%}"
)
#: Opens a thought when asked to generate, and deletes everything up to </think> of an answer.
R1 = _ASKED.replace("ANSWER", "turn['content'].split('</think>')[-1]")
#: The same, and keeps answers.
R1_TRAINING = _ASKED.replace("ANSWER", "turn['content']")
SPECIAL = (BOS, END, USER, ASSISTANT, "<|im_start|>", "<|im_end|>", "<|endoftext|>")


def chat_model(
    make: MakeCheckpoint,
    name: str,
    template: str,
    end: str = "<|im_end|>",
    *,
    begins: bool = False,
) -> Path:
    """A checkpoint with a byte-level tokenizer that joins line breaks, and a chat template.

    Args:
        make: The fixture that writes a checkpoint.
        name: Its folder.
        template: The chat template; none where it is empty.
        end: The token that ends a turn.
        begins: Whether the tokenizer puts BOS before every text, as Llama's do.
    """
    folder: Path = make(name)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, "\u010a\u010a"])}
    toy = Tokenizer(models.BPE(vocab=vocabulary, merges=[("\u010a", "\u010a")]))
    toy.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    toy.decoder = decoders.ByteLevel()
    toy.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    toy.add_tokens(
        [AddedToken(t, special=False, normalized=False) for t in ("<think>", "</think>")]
    )
    if begins:
        start = [(BOS, toy.token_to_id(BOS))]
        toy.post_processor = processors.TemplateProcessing(f"{BOS} $A", special_tokens=start)
    toy.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end, "bos_token": BOS}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    stops = {"eos_token_id": toy.token_to_id(end)}
    (folder / "generation_config.json").write_text(json.dumps(stops))
    (folder / "chat_template.jinja").write_text(template)
    if not template:
        (folder / "chat_template.jinja").unlink()
    model = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**model, "max_position_embeddings": 400}))
    return folder
