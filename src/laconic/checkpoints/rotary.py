"""Rotary settings of a config in one form, whichever way a transformers version wrote them.

Until version 4, transformers wrote ``rope_theta`` and ``partial_rotary_factor`` beside a
``rope_scaling``, and a second base frequency for sliding layers under a name of the family's own.
Since version 5 it writes all of them into ``rope_parameters``, by layer type where they differ.
Values that a config leaves to their defaults are filled in, so that equal rotations compare equal.

Source: transformers 5.23, ``modeling_rope_utils.py`` (the defaults of YaRN and LongRoPE).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The rotary settings, by layer type; one entry named "" where all layers share them.
Rotary = dict[str, dict[str, Any]]
#: How configs call the base frequency, the rotated share of a head, and the frequency of sliding
#: layers.
THETAS: Final = ("rope_theta", "rotary_emb_base", "global_rope_theta")
SHARES: Final = ("partial_rotary_factor", "rotary_pct")
LOCALS: Final = ("rope_local_base_freq", "local_rope_theta")
TABLES: Final = ("rope_parameters", "rope_scaling")
WINDOW: Final = "max_position_embeddings"
ORIGINAL: Final = "original_max_position_embeddings"
#: Everything in a config that decides how positions are rotated, and how many there are.
ROTARY_KEYS: Final = (*TABLES, *THETAS, *SHARES, *LOCALS, WINDOW, ORIGINAL)
#: Other names of a kind of rotation.
KINDS: Final = {"su": "longrope", "mrope": "default", "axial": "default"}
#: What scales a rotation; the default kind does not read it.
SCALING: Final = ("factor", "attention_factor", "beta_fast", "beta_slow", ORIGINAL)


def rotary(config: Mapping[str, Any]) -> Rotary:
    """The rotary settings of a text config, with defaults filled in.

    A value that only the model's class knows (a base frequency that the config leaves out) is
    absent.
    """
    table: dict[str, Any] = next((config[key] for key in TABLES if config.get(key)), {})
    common = {
        "rope_theta": _first(config, THETAS),
        "partial_rotary_factor": _first(config, SHARES),
    }
    kinds = {k: v or {} for k, v in table.items() if isinstance(v, dict)}
    if kinds:
        return {kind: _settings({**common, **_said(raw)}, config) for kind, raw in kinds.items()}
    settings = _settings({**common, **_said(table)}, config)
    local = _first(config, LOCALS)
    if local is None:
        return {"": settings}
    sliding = _settings({**common, "rope_theta": local}, config)
    return {"full_attention": settings, "sliding_attention": sliding}


def rotary_differences(mine: Rotary, theirs: Rotary) -> tuple[dict[str, tuple[Any, Any]], bool]:
    """Where two rotations differ, as {setting: (mine, theirs)}; whether a value is left open.

    A base frequency or a rotated share that one side leaves out differs from nothing: the model's
    class decides what it is.
    """
    found: dict[str, tuple[Any, Any]] = {}
    left_open = False
    layers = dict.fromkeys([*mine, *theirs])
    if len(layers) > 1:
        layers.pop("", None)
    for layer in layers:
        one, two = (side.get(layer, side.get("", {})) for side in (mine, theirs))
        for key in sorted(one.keys() | two.keys()):
            pair = one.get(key), two.get(key)
            if None in pair and key in ("rope_theta", "partial_rotary_factor"):
                left_open = True
            elif pair[0] != pair[1]:
                found[f"{key} of {layer} layers" if layer else key] = pair
    return found, left_open


def with_rotary(config: Mapping[str, Any], donor: Mapping[str, Any]) -> dict[str, Any]:
    """A text config with the rotary settings and the context window of another."""
    kept = {key: value for key, value in config.items() if key not in ROTARY_KEYS}
    return {**kept, **{key: donor[key] for key in ROTARY_KEYS if key in donor}}


def _settings(raw: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one kind of layer."""
    made = _said(raw)
    kind = made.pop("type", None)
    kind = made.pop("rope_type", None) or kind or "default"
    made["rope_type"] = kind = KINDS.get(kind, kind)
    if kind == "default" or (kind == "linear" and made.get("factor") == 1):
        made["rope_type"] = "default"
        return {key: value for key, value in made.items() if key not in SCALING}
    if kind in ("yarn", "longrope", "llama3"):
        made[ORIGINAL] = config.get(ORIGINAL) or made.get(ORIGINAL) or config.get(WINDOW)
    if kind == "yarn":
        _fill_yarn(made)
    if kind == "longrope":
        _fill_longrope(made, config.get(WINDOW))
    return {key: value for key, value in made.items() if value is not None}


def _fill_yarn(made: dict[str, Any]) -> None:
    """Write YaRN's defaults out: 32 and 1 for the ramp, and the factor of the attention."""
    factor, mscale = made.get("factor"), made.pop("mscale", None)
    every = made.pop("mscale_all_dim", None)
    made |= {
        "beta_fast": made.get("beta_fast") or 32,
        "beta_slow": made.get("beta_slow") or 1,
        "truncate": made.get("truncate", True),
        "mscale_all_dim": every or None,
    }
    if "attention_factor" not in made and _positive(factor):
        scales = (mscale, every) if mscale and every else (1, 0)
        above, below = (0.1 * scale * math.log(max(factor, 1)) + 1 for scale in scales)
        made["attention_factor"] = above / below
    if _positive(made.get("attention_factor")):
        made["attention_factor"] = round(made["attention_factor"], 6)


def _fill_longrope(made: dict[str, Any], window: Any) -> None:
    """Write LongRoPE's defaults out: the factor of the window, and that of the attention."""
    original = made.get(ORIGINAL)
    if "factor" not in made and _positive(window) and _positive(original):
        made["factor"] = window / original
    factor = made.get("factor")
    if "attention_factor" not in made and _positive(factor) and _positive(original):
        grows = factor > 1 and original > 1
        said = math.sqrt(1 + math.log(factor) / math.log(original)) if grows else 1.0
        made["attention_factor"] = said
    if _positive(made.get("attention_factor")):
        made["attention_factor"] = round(made["attention_factor"], 6)


def _said(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)


def _positive(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
