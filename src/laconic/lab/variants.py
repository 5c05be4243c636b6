"""The shipped models in the other shapes that checkpoints come in: same answers, other files.

Each is derived, not trained, and stands for a trap that real pairs set: heads of their own,
vocabularies of another order and size, another architecture, shards, too short a window.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.layout import EMBED, HEAD
from laconic.errors import LaconicError
from laconic.files.json import read_json
from laconic.lab import tokenizer
from laconic.lab.family import WEIGHTS, building, folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    State = dict[str, Tensor]

SHARD: Final = "700KB"
SHORT_WINDOW: Final = 256
#: Token strings that the other vocabulary has besides the lab's own.
EXTRA: Final = tuple(f"<|extra_{i}|>" for i in range(5))


def write_variants(target: Path) -> Path:
    """Write every variant of the shipped models into a new folder, one folder each.

    Args:
        target: A folder that does not exist yet, or is empty.

    Raises:
        LaconicError: The target holds something.
    """
    with building(target) as partial:
        for name, (member, make) in VARIANTS.items():
            shutil.copytree(folder(member), partial / name)
            make(partial / name)
    return target


def untie(model: Path) -> None:
    """Give the model a head of its own, equal to its embedding (R1-Distill-Qwen-1.5B has one)."""
    state = _load(model)
    _save(model, {**state, HEAD: state[EMBED].clone()})
    _configure(model, {"tie_word_embeddings": False})


def shard(model: Path) -> None:
    """Split the weights over several files with an index."""
    from huggingface_hub import save_torch_state_dict

    state = _load(model)
    (model / WEIGHTS).unlink()
    save_torch_state_dict(state, model, max_shard_size=SHARD, metadata={"format": "pt"})


def shorten_window(model: Path) -> None:
    """A config with a window too short for thought, as Qwen2.5-Math's 4,096 is beside R1's."""
    _configure(model, {"max_position_embeddings": SHORT_WINDOW})


def convert_to_llama(model: Path) -> None:
    """The same function as a Llama: its attention has biases, that of the output zero."""
    state = _load(model)
    for name, value in list(state.items()):
        if name.endswith("q_proj.bias"):
            output = name.replace("q_proj", "o_proj")
            state[output] = value.new_zeros(len(state[output.replace("bias", "weight")]))
    _save(model, state)
    _configure(
        model,
        {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": True,
            "mlp_bias": False,
        },
    )
    _configure(model, {"tokenizer_class": "PreTrainedTokenizerFast"}, "tokenizer_config.json")


def revocabulate(model: Path) -> None:
    """Another vocabulary: the lab's special tokens behind all others, and five tokens more."""
    first = len(tokenizer.SPECIAL)
    order = [*range(first, tokenizer.SIZE), *range(first)]
    moved = {old: new for new, old in enumerate(order)}
    state = _load(model)
    rows = state[EMBED][order]
    unknown = state[EMBED][tokenizer.WHOLE[tokenizer.UNKNOWN]].expand(len(EXTRA), -1)
    import torch

    _save(model, {**state, EMBED: torch.cat([rows, unknown])})
    path = model / "tokenizer.json"
    words = read_json(path, LaconicError)
    words["model"]["vocab"] = {t: moved[i] for t, i in words["model"]["vocab"].items()}
    added = [{**token, "id": moved[token["id"]]} for token in words["added_tokens"]]
    like = next(token for token in words["added_tokens"] if token["content"] == tokenizer.UNKNOWN)
    added += [{**like, "id": tokenizer.SIZE + i, "content": token} for i, token in enumerate(EXTRA)]
    words["added_tokens"] = sorted(added, key=lambda token: token["id"])
    path.write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
    ids = {
        "eos_token_id": moved[tokenizer.WHOLE[tokenizer.END]],
        "pad_token_id": moved[tokenizer.WHOLE[tokenizer.PAD]],
    }
    _configure(model, {**ids, "vocab_size": tokenizer.SIZE + len(EXTRA)})
    _configure(model, ids, "generation_config.json")


#: Name of the variant -> the shipped model it comes from, and what makes it.
VARIANTS: Final[Mapping[str, tuple[str, Callable[[Path], None]]]] = {
    "system2-untied": ("system2", untie),
    "system2-sharded": ("system2", shard),
    "system2-other-vocabulary": ("system2", revocabulate),
    "system2-llama": ("system2", convert_to_llama),
    "base-short-window": ("base", shorten_window),
}


def _load(model: Path) -> State:
    from safetensors.torch import load_file

    return load_file(model / WEIGHTS)


def _save(model: Path, state: State) -> None:
    from safetensors.torch import save_file

    save_file(state, model / WEIGHTS, metadata={"format": "pt"})


def _configure(model: Path, values: Mapping[str, Any], file: str = "config.json") -> None:
    path = model / file
    config = read_json(path, LaconicError)
    path.write_text(json.dumps({**config, **values}, indent=2) + "\n", encoding="utf-8")
