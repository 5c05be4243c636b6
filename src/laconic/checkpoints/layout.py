"""A checkpoint's layout: which tensors are embedding, output head and layers of its text model.

The names that nearly all checkpoints have are known here. For any other, transformers is asked
(`laconic.checkpoints.architecture`); where it does not know the model, the recipe names the head.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from laconic.checkpoints.architecture import ask
from laconic.checkpoints.configs import TEXT, text_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from laconic.checkpoints.header import TensorSpec

EMBED: Final = "model.embed_tokens.weight"
HEAD: Final = "lm_head.weight"
Role = Literal["embedding", "head", ""]
#: A part that some checkpoints lack: towers for images and sound and what connects them to the
#: text model, and multi-token prediction (MTP) layers.
Kind = Literal["towers", "mtp"]
#: The embeddings that need no asking, each with the head of the same model.
PLAIN: Final = {
    EMBED: HEAD,
    "model.language_model.embed_tokens.weight": HEAD,
    "language_model.model.embed_tokens.weight": "language_model.lm_head.weight",
}
#: Classes that have no output head over the tokens.
HEADLESS: Final = re.compile("Classification|QuestionAnswering|MultipleChoice|Reward|Retrieval")
#: A layer of a text model that predicts a token ahead, told by what only such layers hold.
AHEAD: Final = re.compile(r"(.*\.layers\.\d+\.)(?:eh_proj|enorm|hnorm|shared_head)\.")
MTP: Final = re.compile(r"(?:^|\.)(?:mtp|nextn)\w*\.")
#: A tower, a projector or a talker: a component of the name before the first number.
TOWER: Final = re.compile(
    r"(?:^|\.)(?:\w*(?:visi(?:on|ual)|visual|image|video|audio|speech|projector|tower|connector"
    r"|resampler|qformer)\w*|mlp1|vpm|apm|language_projection|query_tokens|talker|token2wav"
    r"|code2wav)(?:\.|$)"
)
#: What configs call the number of layers.
COUNTS: Final = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


@dataclass(frozen=True)
class Depth:
    """The layers of the text model; no other numbered tensors count.

    Attributes:
        prefix: What stands before a layer's number in the names of its tensors.
        count: How many layers there are.
    """

    prefix: str = ""
    count: int = 0

    def of(self, name: str) -> int | None:
        """The layer that a tensor belongs to; None outside the text model's layers."""
        stack, number = _block(name)
        return (
            number if stack == self.prefix and number is not None and number < self.count else None
        )

    def outside(self, names: Iterable[str]) -> dict[str, int]:
        """How many numbered blocks there are elsewhere, by what stands before their numbers."""
        found = _stacks(name for name in names if self.of(name) is None)
        return {stack: len(numbers) for stack, numbers in found.items()}


@dataclass(frozen=True)
class Layout:
    """Which tensors are embedding, head, layers and other parts, by their names on disk.

    Attributes:
        embedding: The input embedding; None if it is not known.
        head: The output head, also if it is tied and not stored; None if it is not known.
        depth: The text model's layers.
        parts: The tensors of parts that some checkpoints lack; none of them is in a layer.
    """

    embedding: str | None
    head: str | None
    depth: Depth
    parts: Mapping[str, Kind] = field(default_factory=dict)

    @property
    def by_token(self) -> tuple[str, ...]:
        """The names of the tensors with one row for each token."""
        bias = self.head.removesuffix("weight") + "bias" if self.head else None
        return tuple(name for name in (self.embedding, self.head, bias) if name)

    def role(self, name: str) -> Role:
        """Whether a tensor is the embedding, or of the head."""
        if name == self.embedding:
            return "embedding"
        return "head" if name in self.by_token else ""


def find_layout(
    config: Mapping[str, Any], specs: Mapping[str, TensorSpec], head: str | None = None
) -> Layout:
    """The layout of a checkpoint.

    Args:
        config: Its config.
        specs: Its tensors.
        head: Its head as a recipe names it, where neither names nor transformers tell.

    """
    embedding, found = (
        _places(config, specs) if head is None else (_twin(specs, config, head), head)
    )
    depth = find_depth(specs, config, embedding)
    parts = {name: kind for name, kind in kinds_of(specs).items() if depth.of(name) is None}
    return Layout(embedding, found, depth, parts)


def _places(
    config: Mapping[str, Any], specs: Mapping[str, TensorSpec]
) -> tuple[str | None, str | None]:
    """Embedding and head: by their usual names, else as transformers has them."""
    known = [name for name in PLAIN if name in specs]
    if len(known) != 1:
        return ask(config, [name for name in specs if _block(name)[1] is None])
    stored = [name for name in set(PLAIN.values()) if name in specs]
    if len(stored) == 1:
        return known[0], stored[0]
    headless = any(HEADLESS.search(name) for name in config.get("architectures") or ())
    return known[0], None if headless else PLAIN[known[0]]


def kinds_of(names: Iterable[str]) -> dict[str, Kind]:
    """Which of some tensors belong to towers or MTP layers, by their names."""
    names = tuple(names)
    ahead = tuple({found[1] for name in names if (found := AHEAD.match(name))})
    towers: dict[str, bool] = {}
    kinds: dict[str, Kind] = {}
    for name in names:
        stack, number = _block(name)
        before = name if number is None else stack
        if before not in towers:
            towers[before] = bool(TOWER.search(before))
        if towers[before]:
            kinds[name] = "towers"
        elif MTP.search(name) or (ahead and name.startswith(ahead)):
            kinds[name] = "mtp"
    return kinds


def find_depth(
    names: Iterable[str], config: Mapping[str, Any] | None = None, embedding: str | None = None
) -> Depth:
    """The layers of a text model, told by its config and by where its embedding is.

    Of several numbered stacks outside towers and MTP layers it is the one that has at least as many
    blocks as the config says, shares the longest path with the embedding, lies least deep, and has
    most blocks.
    """
    names = tuple(names)
    apart = kinds_of(names)
    stacks = _stacks(name for name in names if name not in apart) or _stacks(names)
    if not stacks:
        return Depth()
    inner = text_config(config or {})
    said = next((inner[key] for key in COUNTS if isinstance(inner.get(key), int)), None)

    def rank(stack: str) -> tuple[bool, int, int, int]:
        shared = 0
        for mine, theirs in zip(stack.split("."), (embedding or "").split("."), strict=False):
            if mine != theirs:
                break
            shared += 1
        return max(stacks[stack]) + 1 >= (said or 0), shared, -stack.count("."), len(stacks[stack])

    chosen = max(sorted(stacks), key=rank)
    size = 1 + max(stacks[chosen])
    return Depth(chosen, size if said is None else min(said, size))


def tie_flags(config: Mapping[str, Any]) -> set[bool]:
    """What a config says of a tied head, at its top and for the text model."""
    parts = (config, text_config(config))
    return {part["tie_word_embeddings"] for part in parts if _is_flag(part)}


def with_tie(config: Mapping[str, Any], *, tied: bool) -> dict[str, Any]:
    """A config that says at its top, and wherever it said so before, whether the head is tied."""
    made = {**config, "tie_word_embeddings": tied}
    for key in TEXT:
        if isinstance(inner := made.get(key), dict) and _is_flag(inner):
            made[key] = {**inner, "tie_word_embeddings": tied}
    return made


def with_rows(config: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """A config whose text model has so many rows of tokens; other models' counts stay."""
    made, was = dict(config), text_config(config).get("vocab_size")
    if was is None:
        return made
    if made.get("vocab_size") == was:
        made["vocab_size"] = rows
    for key in TEXT:
        if isinstance(inner := made.get(key), dict) and inner.get("vocab_size") == was:
            made[key] = {**inner, "vocab_size": rows}
    return made


def kept_as_head(config: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> bool:
    """Whether the one matrix of a tied model may be stored under the head's name alone."""
    rows = text_config(config).get("vocab_size")
    matrices = [
        name
        for name, spec in specs.items()
        if spec.shape[:1] == (rows,) and len(spec.shape) == 2 and _block(name)[1] is None
    ]
    alone = len(matrices) == 1 and re.search("head|out", matrices[0])
    return bool(alone) and True in tie_flags(config)


def natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """A sorting key that puts layer 2 before layer 10."""
    parts = re.split(r"(\d+)", name)
    return tuple((p.isdigit(), int(p) if p.isdigit() else 0, p) for p in parts)


def _is_flag(part: Mapping[str, Any]) -> bool:
    return isinstance(part.get("tie_word_embeddings"), bool)


def _stacks(names: Iterable[str]) -> dict[str, set[int]]:
    """The numbers of blocks, by what stands before them."""
    found: dict[str, set[int]] = defaultdict(set)
    for name in names:
        stack, number = _block(name)
        if number is not None:
            found[stack].add(number)
    return dict(found)


def _block(name: str) -> tuple[str, int | None]:
    """What stands before the first number among a name's parts, and the number."""
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return (name[: found.start()], int(found.group(1))) if found else ("", None)


def _twin(specs: Mapping[str, TensorSpec], config: Mapping[str, Any], head: str) -> str | None:
    """The embedding beside a named head: the only other matrix outside the layers that fits."""
    outside = {
        name: spec.shape
        for name, spec in specs.items()
        if len(spec.shape) == 2 and name != head and _block(name)[1] is None
    }
    rows = text_config(config).get("vocab_size")
    fitting = [
        name
        for name, shape in outside.items()
        if (shape == specs[head].shape if head in specs else shape[0] == rows)
    ]
    return fitting[0] if len(fitting) == 1 else None
