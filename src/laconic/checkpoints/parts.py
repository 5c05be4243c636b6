"""Parts that one of the merged checkpoints may lack: towers, and multi-token prediction layers.

Multi-token prediction (MTP) layers draft tokens ahead; the text model does not read them, and
transformers leaves them out when it saves a model. So a fine-tune often lacks what its base has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.architecture import ask
from laconic.checkpoints.configs import TEXT, text_config
from laconic.errors import RecipeError

if TYPE_CHECKING:
    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.checkpoints.header import TensorSpec
    from laconic.checkpoints.layout import Kind

KINDS: Final[tuple[Kind, ...]] = ("towers", "mtp")
#: How messages call them.
WORDS: Final = {"towers": "tensors of towers", "mtp": "tensors of multi-token prediction layers"}
#: How configs say how many layers predict ahead.
MTP_COUNTS: Final = (
    "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers", "mtp_num_layers",
    "num_mtp_modules",
)  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """What becomes of the parts that are not merged.

    Attributes:
        system2: The System-2 model.
        apart: The tensors that are not merged; the checkpoints may differ in them.
        donors: Those of them that are copied, and from which checkpoint; the others are left out.
        notes: What is done, part by part.
        mtp: Whose MTP layers are written; None for none, or where they are merged.
        counts: Whether the config's number of MTP layers has to follow.
        text_only: Whether the output is the text model alone.
    """

    system2: Checkpoint
    apart: frozenset[str] = frozenset()
    donors: Mapping[str, Checkpoint] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    mtp: Checkpoint | None = None
    counts: bool = False
    text_only: bool = False

    def described(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The output's config, made to agree with the parts that are written."""
        made = dict(config)
        if self.counts:
            made = _counted(made, self.mtp.config if self.mtp else {})
        return _text_alone(made, self.system2.name) if self.text_only else made

    def written(self, specs: Iterable[TensorSpec]) -> tuple[TensorSpec, ...]:
        """The output's tensors under the names that they are stored by.

        Raises:
            RecipeError: Where the text model alone would not find its embedding under them.
        """
        if not self.text_only:
            return tuple(specs)
        made = tuple(replace(spec, stored_as=_text_name(spec.name)) for spec in specs)
        config = self.described(self.system2.config)
        if ask(config, [spec.stored_as or "" for spec in made])[0] is None:
            raise RecipeError(
                f"towers: drop, but {config['architectures'][0]} would not find the tensors of "
                f"{self.system2.name}, such as '{made[0].name}', under its own names. Write merge, "
                "system2 or base for 'towers'."
            )
        return made


def sort_parts(
    wanted: Mapping[str, str | None], base: Checkpoint | None, members: Sequence[Checkpoint]
) -> Parts:
    """Decide what becomes of towers and MTP layers.

    Where nothing is wanted, a part that all checkpoints have is merged. One that some lack is
    System 2's: copied from it, or left out where it has none, except for towers, without which the
    model could not be loaded: they come from a checkpoint that has them.

    Args:
        wanted: What a recipe says of ``towers`` and ``mtp``.
        base: The base, if any.
        members: Every checkpoint of the merge, System 2 the last.

    Raises:
        RecipeError: For a part that is wanted of a checkpoint that has none.
    """
    system2 = members[-1]
    made = Parts(system2)
    held = {id(member): member.layout.parts for member in members}
    for kind in KINDS:
        names = {key: {n for n, k in kinds.items() if k == kind} for key, kinds in held.items()}
        everything = frozenset().union(*names.values())
        choice = wanted.get(kind)
        same = all(own == everything for own in names.values())
        if not everything or (same and choice in (None, "merge")):
            continue
        owners = [member for member in members if names[id(member)]]
        donor = _donor(kind, choice, base, system2, owners, members)
        own = names[id(donor)] if donor else set()
        copied = dict.fromkeys(sorted(own), donor) if donor else {}
        made = replace(
            made,
            apart=made.apart | everything,
            donors={**made.donors, **copied},
            notes=(*made.notes, _note(kind, choice, donor, len(everything), owners, members)),
        )
        if kind == "mtp":
            made = replace(made, mtp=donor, counts=True)
        elif donor is None:
            made = replace(made, text_only=True)
    return made


def _donor(
    kind: Kind,
    wanted: str | None,
    base: Checkpoint | None,
    system2: Checkpoint,
    owners: Sequence[Checkpoint],
    members: Sequence[Checkpoint],
) -> Checkpoint | None:
    """Whose part is written; None where it is left out."""
    if wanted == "drop":
        return None
    if wanted is None:
        if kind == "mtp":
            return system2 if system2 in owners else None
        return next(m for m in (system2, base, *owners) if m in owners)
    others = f"Write another of merge, system2, base and drop for '{kind}'."
    if wanted == "merge":
        lacks = [m.name for m in members if m not in owners]
        why = f"{', '.join(lacks)} has none" if lacks else "they have not the same ones"
        raise RecipeError(f"{kind}: merge, but of the {WORDS[kind]} {why}. {others}")
    donor = base if wanted == "base" else system2
    if donor is None:
        raise RecipeError(f"{kind}: base, but the recipe has no base. {others}")
    if donor not in owners:
        raise RecipeError(
            f"{kind}: {wanted}, but {donor.name} has no {WORDS[kind]}; "
            f"{', '.join(m.name for m in owners)} has. {others}"
        )
    return donor


def _note(
    kind: Kind,
    wanted: str | None,
    donor: Checkpoint | None,
    count: int,
    owners: Sequence[Checkpoint],
    members: Sequence[Checkpoint],
) -> str:
    """What is done with a part, and the key that would change it."""
    taken = f"copied unmerged from {donor.name}" if donor else "left out"
    if donor is None and kind == "towers":
        taken += ", and the result is the text model alone"
    lacking = ", ".join(m.name for m in dict.fromkeys(members) if m not in owners)
    why = f" (none in {lacking})" if lacking else ""
    how = f"as '{kind}: {wanted}' says" if wanted else f"'{kind}' in the recipe changes that"
    return f"{count} {WORDS[kind]}{why} are {taken}; {how}."


def _counted(config: Mapping[str, Any], donor: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the numbers of MTP layers of another; 0 where that has none."""
    made = dict(config)
    for key in MTP_COUNTS:
        if key in config or donor.get(key) is not None:
            made[key] = donor.get(key) or 0
    for key in TEXT:
        if isinstance(config.get(key), dict):
            inner = donor.get(key)
            made[key] = _counted(config[key], inner if isinstance(inner, dict) else {})
    return made


def _text_name(name: str) -> str:
    """A tensor's name in the text model alone."""
    return re.sub(r"(^|\.)(?:language|text)_model\.", r"\1", name)


def _text_alone(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The config of the text model alone.

    Raises:
        RecipeError: Where transformers knows no class for it.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    inner = text_config(config)
    kind = inner.get("model_type")
    classes = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind) if isinstance(kind, str) else None
    if inner is config or classes is None:
        raise RecipeError(
            f"towers: drop, but transformers has no class for the text model of {name} alone "
            f"(model type {kind!r}). Write merge, system2 or base for 'towers'."
        )
    shared = ("dtype", "torch_dtype", "eos_token_id", "bos_token_id", "pad_token_id",
              "tie_word_embeddings", "transformers_version")  # fmt: skip
    top = {key: config[key] for key in shared if key in config}
    return {**top, **inner, "architectures": [classes if isinstance(classes, str) else classes[0]]}
