"""Writes the tables of docs/methods.md from the plug-ins themselves: python docs/generate.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from laconic.method import ADJUSTMENTS, METHODS, TRANSFORMS

if TYPE_CHECKING:
    from laconic.registry import Plugin, Registry

PAGE = Path(__file__).with_name("methods.md")
HEAD = """# Methods, transforms and adjustments

Transforms change the task vectors before the method, adjustments change its result; any of them
combine. `laconic show NAME` prints the whole text. `python docs/generate.py` writes this page.
"""


def page() -> str:
    """The whole page."""
    kinds: tuple[tuple[str, Registry[Any]], ...] = (
        ("Methods", METHODS),
        ("Transforms (`before`)", TRANSFORMS),
        ("Adjustments (`after`)", ADJUSTMENTS),
    )
    return "\n".join([HEAD, *(section(title, registry.all()) for title, registry in kinds)])


def section(title: str, plugins: tuple[Plugin[Any], ...]) -> str:
    """One table."""
    rows = [f"| `{p.name}` | {p.summary} | {knobs(p)} | {p.source} |" for p in plugins]
    head = f"## {title}\n\n| name | what | parameters | source |\n|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def knobs(plugin: Plugin[Any]) -> str:
    """The parameters with range and default."""
    return (
        "<br>".join(
            f"`{p.name}` = {p.default}: {p.kind.replace('|', 'or')}" for p in plugin.parameters
        )
        or "none"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
