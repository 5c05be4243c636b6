"""What transformers knows of an architecture: where embedding and head are, by the names on disk.

The class that a config names is built without weights. Its own names may differ from the disk's:
the table of conversions that transformers loads checkpoints with leads from one to the other.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Place = tuple[str | None, str | None]


def ask(config: Mapping[str, Any], names: Iterable[str]) -> Place:
    """The names on disk of a model's embedding and head, also of one that is not stored.

    Args:
        config: The checkpoint's config.
        names: Its tensors outside the layers.

    Returns:
        Both None where transformers does not know the model.
    """
    return _ask(json.dumps(config, sort_keys=True), tuple(sorted(names)))


@lru_cache(maxsize=16)
def _ask(config: str, names: tuple[str, ...]) -> Place:
    try:
        model = _build(json.loads(config))
        return _places(model, names) if model is not None else (None, None)
    except Exception:  # noqa: BLE001  # a class may raise anything for a config it does not know
        return None, None


def _build(config: dict[str, Any]) -> Any:
    """The model of a config without weights; None where transformers has no class for it."""
    import torch
    import transformers
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as WITH_IMAGES

    if config.get("model_type") not in CONFIG_MAPPING:
        return None
    settings = CONFIG_MAPPING[config["model_type"]].from_dict(config)
    named = [getattr(transformers, name, None) for name in config.get("architectures") or ()]
    kinds = [
        kind[type(settings)]
        for kind in (MODEL_FOR_CAUSAL_LM_MAPPING, WITH_IMAGES)
        if type(settings) in kind
    ]
    made: Any = next((kind for kind in (*named, *kinds) if kind is not None), None)
    if made is None:
        return None
    with torch.device("meta"):
        return made(settings)


def _places(model: Any, names: tuple[str, ...]) -> Place:
    """The names on disk of a model's embedding and head.

    One that is not stored has the name that it would have beside the other.
    """
    modules = {module: name for name, module in model.named_modules()}
    embedding, head = (
        f"{modules[module]}.weight" if module in modules else ""
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    loaded, stored = _renamings(model)
    on_disk = {loaded(name): name for name in names}
    found, own = on_disk.get(embedding), on_disk.get(head)
    if found is None and own is not None and embedding:
        found = stored(embedding) if stored(head) == own else embedding
    elif own is None and found is not None and head:
        named = stored(head) if stored(embedding) == found else head
        own = named if loaded(named) == head else head
    return found, own


def _renamings(model: Any) -> tuple[Callable[[str], str], Callable[[str], str]]:
    """From a name on disk to the model's, and back, as transformers loads and saves."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming, rename_source_key
    except ImportError:
        return (lambda name: name), (lambda name: name)
    steps = get_model_conversion_mapping(model, add_legacy=False)
    there = [step for step in steps if isinstance(step, WeightRenaming)]
    back: list[Any] = [step.reverse_transform() for step in reversed(there)]
    held = model.state_dict()

    def loaded(name: str) -> str:
        renamed: str = rename_source_key(name, there, [], model.base_model_prefix, held)[0]
        return renamed

    def stored(name: str) -> str:
        renamed: str = rename_source_key(name, back, [])[0]
        return renamed

    return loaded, stored
