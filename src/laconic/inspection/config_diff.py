"""Differences of config, generation config, tokenizer, chat template and head."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.configs import setting
from laconic.checkpoints.model_files import GENERATION, template_of
from laconic.errors import CheckpointError
from laconic.files.json import read_json
from laconic.files.text import read_text
from laconic.files.yaml import load_yaml

if TYPE_CHECKING:
    from laconic.checkpoints.checkpoint import Checkpoint

#: Keys that tell how a config was written, and nothing about the model.
NOISE: Final = ("transformers_version", "_name_or_path", "torch_dtype", "dtype", "use_cache")
THINK: Final = "<think>"


@dataclass(frozen=True)
class Difference:
    """A setting that is not the same in all checkpoints.

    Attributes:
        where: Where the setting is: ``config``, ``generation``, ``tokenizer`` or ``weights``.
        key: The setting.
        values: Its value in each checkpoint as short text, the base first.
    """

    where: str
    key: str
    values: tuple[str, ...]


def differences(members: Sequence[Checkpoint]) -> tuple[Difference, ...]:
    """The settings that are not the same in all checkpoints.

    Raises:
        CheckpointError: If a file is damaged.
    """
    generation = [_generation(member) for member in members]
    facts = [
        *_of_keys("config", [member.config for member in members]),
        *_of_keys("generation", generation),
        Difference("tokenizer", "tokens", tuple(_tokens(m, members[0]) for m in members)),
        Difference("tokenizer", "stop token", tuple(map(_stop, members, generation))),
        Difference("tokenizer", "chat template", tuple(_templates(members))),
        Difference("weights", "output head", tuple("tied" if m.tied else "own" for m in members)),
    ]
    return tuple(fact for fact in facts if len(set(fact.values)) > 1)


def _generation(member: Checkpoint) -> Mapping[str, Any]:
    file = member.folder / GENERATION
    return read_json(file, CheckpointError) if file.exists() else {}


def parent_of(member: Checkpoint) -> str | None:
    """The base that a checkpoint's model card names; None if it names none."""
    card = member.folder / "README.md"
    try:
        text = read_text(card, CheckpointError) if card.is_file() else ""
        front = re.split(r"^---\s*$", text, flags=re.MULTILINE)[1] if text.startswith("---") else ""
        head = load_yaml(front, str(card), CheckpointError)
    except (CheckpointError, IndexError):
        return None
    named = head.get("base_model") if isinstance(head, dict) else None
    named = named[0] if isinstance(named, list) and len(named) == 1 else named
    return named if isinstance(named, str) and named else None


def same_model(said: str, member: Checkpoint) -> bool:
    """Whether a name on a card is the name of a checkpoint; owners and folders do not count."""
    own = Path(member.name.partition("@")[0]).name.casefold()
    return Path(said.partition("@")[0]).name.casefold() == own


def signs_of_swap(base: Checkpoint, model: Checkpoint) -> tuple[str, ...]:
    """Signs that the base was trained from the model, and not the model from the base."""
    parent = parent_of(base)
    template = template_of(base.tokenizer_folder), template_of(model.tokenizer_folder)
    thinks = [
        THINK in (text or "") or THINK in member.vocabulary().values()
        for text, member in zip(template, (base, model), strict=True)
    ]
    signs = (
        (parent is not None and same_model(parent, model), f"its card names {parent} as its base"),
        (not base.tied and model.tied, f"its head is untied and that of {model.name} is tied"),
        (template[0] and not template[1], f"it has a chat template and {model.name} has none"),
        (thinks[0] and not thinks[1], f"it knows {THINK} and {model.name} does not"),
    )
    return tuple(words for there, words in signs if there)


def _of_keys(where: str, tables: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """The keys of several files in which they differ; nested keys are joined with dots."""
    flat = [dict(_flat(table)) for table in tables]
    names = dict.fromkeys(key for table in flat for key in table)
    return [
        Difference(where, key, tuple(_brief(table[key]) if key in table else "-" for table in flat))
        for key in names
        if key.rpartition(".")[2] not in NOISE
    ]


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The values of a nested mapping, with the keys that lead to them joined with dots."""
    values: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            values += _flat(value, f"{prefix}{key}.")
        else:
            values.append((f"{prefix}{key}", value))
    return values


def _brief(value: object) -> str:
    """A value as text; more than 40 characters are cut, and their number is given."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 40 else f"{text[:24]}... ({len(text)} characters)"


def _tokens(member: Checkpoint, base: Checkpoint) -> str:
    """The number of tokens, and the number of ids that mean another token in the base."""
    own, theirs = member.vocabulary(), base.vocabulary()
    if not own:
        return "no tokenizer.json"
    other = sum(theirs.get(i) != token for i, token in own.items()) if theirs else 0
    return f"{len(own):,}" + (f", {other:,} others at an id" if other else "")


def _stop(member: Checkpoint, generation: Mapping[str, Any]) -> str:
    """The ids and strings of the tokens that end a completion."""
    stop = generation.get("eos_token_id", setting(member.config, "eos_token_id"))
    ids = stop if isinstance(stop, list) else [stop]
    known = member.vocabulary()
    return ", ".join(f"{i} {known[i]}" if i in known else str(i) for i in ids)


def _templates(members: Sequence[Checkpoint]) -> list[str]:
    """A letter for each chat template; equal templates have the same letter."""
    texts = [template_of(member.tokenizer_folder) for member in members]
    letters: dict[str, str] = {}
    for text in texts:
        if text is not None:
            letters.setdefault(text, f"{chr(ord('A') + len(letters))} ({len(text):,} characters)")
    return ["none" if text is None else letters[text] for text in texts]
