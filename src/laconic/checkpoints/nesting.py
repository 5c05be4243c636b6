"""Names of one tensor in the layouts that a model with towers is stored in.

The Hub's layout (``language_model.model.layers.0``, or plain ``model.layers.0``) is another than
the one in which transformers names the modules that peft adapts, such as
``model.language_model.layers.0``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

#: Words of names that layouts put elsewhere, or leave out.
NESTING: Final = ("model", "language_model", "vision_model")


def short_names(names: Iterable[str]) -> dict[str, str | None]:
    """Tensors by their names without the words that layouts differ in; None where two share one."""
    found: dict[str, str | None] = {}
    for name in names:
        short = _short(name)
        found[short] = None if short in found else name
    return found


def name_in(held: Container[str], short: Mapping[str, str | None], name: str) -> str:
    """What a checkpoint calls a tensor; the name itself where it has none like it.

    Args:
        held: The checkpoint's tensors.
        short: The same by `short_names`.
        name: A name in any layout.
    """
    return name if name in held else short.get(_short(name)) or name


def _short(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in NESTING)
