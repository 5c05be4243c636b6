"""Reading config.json, checking its types, and comparing it with that of another model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.rotary import (
    LOCALS,
    SHARES,
    TABLES,
    THETAS,
    rotary,
    rotary_differences,
    with_rotary,
)
from laconic.errors import CheckpointError
from laconic.files.json import read_json

if TYPE_CHECKING:
    from pathlib import Path

#: Where the configs of models with towers keep the language model's settings.
TEXT: Final = ("text_config", "llm_config", "language_config", "thinker_config")
#: What two configs must agree on for their weights to mean the same.
ARCHITECTURE: Final = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "hidden_act", "rms_norm_eps", "layer_norm_eps", "num_experts_per_tok",
    "norm_topk_prob", "routed_scaling_factor", "query_pre_attn_scalar", "attn_logit_softcapping",
    "final_logit_softcapping", "attention_multiplier", "residual_multiplier",
    "embedding_multiplier", "logits_scaling",
)  # fmt: skip
#: Nested settings that are no part of the architecture.
ASIDE: Final = ("quantization_config", "generation_config", "compression_config")


@dataclass(frozen=True)
class ConfigComparison:
    """The differences of two configs that change what the weights compute.

    Attributes:
        architecture: {setting: (first, second)}, by the names of settings in config.json.
        rotation: The same for the rotary settings of the text model.
        left_open: Whether one config leaves a value to the default of the model's class.
    """

    architecture: Mapping[str, tuple[Any, Any]]
    rotation: Mapping[str, tuple[Any, Any]]
    left_open: bool


def compare_configs(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> ConfigComparison:
    """Compare the settings of two configs that change what the weights compute.

    Nested configs are compared, too. If the configs are written differently or leave values out,
    both are first completed by their class, provided that the installed transformers knows it.
    """
    found = _compared(mine, theirs)
    if not (found.architecture or found.rotation or found.left_open):
        return found
    whole = completed(mine), completed(theirs)
    return found if whole[0] is None or whole[1] is None else _compared(whole[0], whole[1])


def _compared(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> ConfigComparison:
    """The comparison of two configs as they are written."""
    parts, others = _parts(mine), _parts(theirs)
    differing: dict[str, tuple[Any, Any]] = {}
    rotation: dict[str, tuple[Any, Any]] = {}
    left_open = False
    for path in parts.keys() & others.keys():
        one, two = parts[path], others[path]
        for key in ARCHITECTURE:
            pair = one.get(key), two.get(key)
            if None in pair:
                left_open |= pair != (None, None)
            elif pair[0] != pair[1]:
                differing[f"{path}{key}"] = pair
        widths = _head_width(one), _head_width(two)
        if None not in widths and widths[0] != widths[1]:
            differing[f"{path}the width of an attention head"] = widths
        if path and not (_rotates(one) and _rotates(two)):
            continue
        said, unsaid = rotary_differences(rotary(one), rotary(two))
        left_open |= unsaid
        if path:
            differing |= {f"{path}{key}": pair for key, pair in said.items()}
        else:
            rotation |= said
    return ConfigComparison(dict(sorted(differing.items())), rotation, left_open)


def completed(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """A config with every value that it leaves out, as its class in transformers fills it in.

    None where the installed transformers does not know the class, or cannot read the config.
    """
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        return None
    plain = {k: v for k, v in config.items() if k not in ("auto_map", *ASIDE) and k[:1] != "_"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made: dict[str, Any] = CONFIG_MAPPING[kind].from_dict(copy.deepcopy(plain)).to_dict()
    except Exception:  # noqa: BLE001  # a class may raise anything; then the config stays as written
        return None
    return made


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that speaks of the text model; all of it where there is no such part."""
    for key in TEXT:
        if isinstance(inner := config.get(key), dict) and inner:
            return text_config(inner)
    return config


def setting(config: Mapping[str, Any], key: str, default: object = None) -> Any:
    """A config's value for a key, of its text model's settings where the top has none."""
    values = config.get(key), text_config(config).get(key)
    return next((value for value in values if value is not None), default)


def turned(config: Mapping[str, Any], donor: Mapping[str, Any]) -> dict[str, Any]:
    """A config with the rotary settings and the context window of another."""
    return _turned(config, _view(donor))


def _turned(config: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    nested = _nested(config)
    if nested is None:
        return with_rotary(config, source)
    return {**with_rotary(config, {}), nested: _turned(config[nested], source)}


def _nested(config: Mapping[str, Any]) -> str | None:
    """Where a config keeps that of the text model; None where it stands at the top."""
    return next((key for key in TEXT if isinstance(config.get(key), dict) and config[key]), None)


def _parts(config: Mapping[str, Any], prefix: str = "") -> dict[str, Mapping[str, Any]]:
    """A config's parts by path: the text model's "", then towers such as "vision_config."."""
    found: dict[str, Mapping[str, Any]] = {prefix: _view(config)}
    for key, value in config.items():
        if key.endswith("_config") and isinstance(value, dict) and key not in ASIDE:
            inside = _parts(value, f"{prefix}{key}.")
            if key in TEXT:
                del inside[f"{prefix}{key}."]
            found |= inside
    return found


def _view(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a text model, nested or at the top, in one mapping."""
    top = {key: value for key, value in config.items() if key not in TEXT}
    nested = _nested(config)
    inner = _view(config[nested]) if nested else {}
    return {**top, **{k: v for k, v in inner.items() if v is not None and k != "model_type"}}


def _rotates(config: Mapping[str, Any]) -> bool:
    """Whether a part's config says anything of rotation."""
    return any(config.get(key) is not None for key in (*TABLES, *THETAS, *SHARES, *LOCALS))


def _head_width(config: Mapping[str, Any]) -> int | None:
    """How wide an attention head is: what the config says, else what follows from it."""
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    said = config.get("head_dim")
    if isinstance(said, int):
        return said
    return width // heads if isinstance(width, int) and isinstance(heads, int) and heads else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _each(check: Callable[[object], bool]) -> Callable[[object], bool]:
    """A check of a value, or of each value in a list: one for each layer, or each stop token."""
    return lambda value: all(map(check, value)) if isinstance(value, list) else check(value)


#: What a value must be, by key: the check, and how a message calls it. No value is allowed, too.
TYPES: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    **dict.fromkeys(
        ("hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings",
         "original_max_position_embeddings", "num_nextn_predict_layers",
         "mtp_num_hidden_layers"),
        (_is_whole, "a whole number"),
    ),
    **dict.fromkeys(
        ("intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim",
         "eos_token_id", "bos_token_id", "pad_token_id"),
        (_each(_is_whole), "a whole number"),
    ),
    **dict.fromkeys((*THETAS, *LOCALS, *SHARES), (_each(_is_number), "a number")),
    **dict.fromkeys(
        ("factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"),
        (_is_number, "a number"),
    ),
    **dict.fromkeys(
        ("tie_word_embeddings", "use_sliding_window"), (lambda v: isinstance(v, bool), "a boolean")
    ),
    **dict.fromkeys(
        (*TEXT, *TABLES), (lambda v: isinstance(v, dict), "a mapping")
    ),
    **dict.fromkeys(
        ("model_type", "rope_type"), (lambda v: isinstance(v, str), "text")
    ),
    "architectures": (
        lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v),
        "a list of class names",
    ),
}  # fmt: skip
#: Keys that are settings of rotation only inside its table.
IN_TABLE: Final = ("factor", "attention_factor", "beta_fast", "beta_slow", "mscale",
                   "mscale_all_dim", "rope_type")  # fmt: skip


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The content of a checkpoint's config.json.

    Args:
        folder: The checkpoint.
        name: How the user named it.

    Raises:
        CheckpointError: Where there is none, where it is damaged, and for a value of a type that
            its key cannot have.
    """
    path = folder / "config.json"
    if not path.exists():
        inside = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise CheckpointError(f"{name} is no checkpoint: it has no config.json (it has {inside}).")
    config = read_json(path, CheckpointError)
    _check_types(config, str(path))
    return config


def _check_types(config: Mapping[str, Any], where: str, *, table: bool = False) -> None:
    """Refuse a value whose type its key cannot have, at the top and in nested settings."""
    for key, value in config.items():
        check, wanted = TYPES.get(key, (None, ""))
        if check and value is not None and (table or key not in IN_TABLE) and not check(value):
            raise CheckpointError(
                f"{where} is damaged: {key} is {_brief(value)}, and must be {wanted}. Mend it, or "
                "fetch the checkpoint again."
            )
        if isinstance(value, dict) and (table or key in TABLES or key.endswith("_config")):
            _check_types(value, f"{key} in {where}", table=table or key in TABLES)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
