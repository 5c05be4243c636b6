"""The names that architectures give to their weights: the one table to extend for a new one.

An engine may keep in one parameter what a checkpoint on disk keeps in several tensors: it stacks
the experts of a layer, or puts the query, key and value matrices one above the other. To make
laconic read a further architecture of this kind, add an entry to `FUSED_WEIGHTS`; to make it
recognise a module by another word, add the word to one of the tuples. No other file changes.

`laconic.checkpoints.name_map` reads the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: Words by which a tensor's name tells the part of the model that it belongs to. A word is what
#: stands between two dots of the name.
EMBEDDINGS: Final = (
    "embed_tokens", "wte", "wpe", "tok_embeddings", "embed_in", "word_embeddings", "embeddings",
)  # fmt: skip
HEADS: Final = ("lm_head", "embed_out")
FEED_FORWARDS: Final = ("mlp", "feed_forward", "ffn", "block_sparse_moe")
#: The parameters of a module that holds all experts of a layer, each ``[expert, row, channel]``.
STACKED_GATE_UP: Final = "gate_up_proj"
STACKED_DOWN: Final = "down_proj"


@dataclass(frozen=True)
class FusedWeight:
    """A parameter of an engine that holds several tensors of the checkpoint.

    Attributes:
        parameter: How the parameter's name ends in the engine.
        tensors: How the names of its tensors end on disk, in the order in which their rows follow
            one another. ``{expert}`` stands for an expert's number: the parameter is then stacked,
            ``[expert, row, channel]``. What stands before the endings is the same in both names.
    """

    parameter: str
    tensors: tuple[str, ...]


def _experts(
    engine: str, disk: str, *, gate: str, up: str, down: str
) -> tuple[FusedWeight, FusedWeight]:
    """The two stacked parameters of a layer with gated experts.

    Args:
        engine: The module of the experts in the engine, such as ``.mlp.experts``.
        disk: The module of the experts on disk.
        gate: The word for an expert's gate matrix on disk.
        up: The word for its up matrix.
        down: The word for its down matrix.
    """
    one = f"{disk}.{{expert}}"
    return (
        FusedWeight(f"{engine}.{STACKED_GATE_UP}", (f"{one}.{gate}.weight", f"{one}.{up}.weight")),
        FusedWeight(f"{engine}.{STACKED_DOWN}", (f"{one}.{down}.weight",)),
    )


def _rows(engine: str, disk: tuple[str, ...]) -> tuple[FusedWeight, FusedWeight]:
    """The weight and the bias of a linear layer whose outputs are those of several on disk."""
    weight, bias = (
        FusedWeight(f"{engine}.{kind}", tuple(f"{module}.{kind}" for module in disk))
        for kind in ("weight", "bias")
    )
    return weight, bias


#: By the family that introduced the names; other architectures with the same names need no entry.
FUSED_WEIGHTS: Final[Mapping[str, tuple[FusedWeight, ...]]] = {
    # Qwen2-MoE and Qwen3-MoE, OLMoE, DeepSeek-V2 and -V3, GLM-4-MoE, FlexOlmo, Ernie 4.5 MoE.
    "qwen2_moe": _experts(
        ".mlp.experts", ".mlp.experts", gate="gate_proj", up="up_proj", down="down_proj"
    ),
    # Mixtral and MiniMax.
    "mixtral": (
        *_experts(".mlp.experts", ".block_sparse_moe.experts", gate="w1", up="w3", down="w2"),
        FusedWeight(".mlp.gate.weight", (".block_sparse_moe.gate.weight",)),
    ),
    "phimoe": (FusedWeight(".mlp.router.weight", (".block_sparse_moe.gate.weight",)),),
    "lfm2_moe": _experts(
        ".feed_forward.experts", ".feed_forward.experts", gate="w1", up="w3", down="w2"
    ),
    "jamba": _experts(
        ".feed_forward.experts",
        ".feed_forward.experts",
        gate="gate_proj",
        up="up_proj",
        down="down_proj",
    ),
    # Phi-3 names its fused matrices so on disk, too; vLLM fuses those of Llama and Qwen.
    "phi3": (
        *_rows(
            ".self_attn.qkv_proj",
            (".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj"),
        ),
        *_rows(".mlp.gate_up_proj", (".mlp.gate_proj", ".mlp.up_proj")),
    ),
}
