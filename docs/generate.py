"""Writes docs/methods.md and tasks.md, and the tables of training.md and import.md, from the code.

Run it as ``python docs/generate.py``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laconic.evaluation.protocols.load import PRESETS
from laconic.importing.formats import formats
from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS
from laconic.tasks.contract.prompts import PROMPTS
from laconic.tasks.contract.task import TASKS
from laconic.training.controllers.contract import CONTROLLERS

if TYPE_CHECKING:
    from laconic.registry import Plugin, Registry

PAGE = Path(__file__).with_name("methods.md")
TASKS_PAGE = Path(__file__).with_name("tasks.md")
TRAINING = Path(__file__).with_name("training.md")
IMPORT = Path(__file__).with_name("import.md")
LOGS = re.compile(r"(?<=<!-- log formats -->\n).*?(?=<!-- end -->)", re.DOTALL)
TABLE = re.compile(r"(?<=<!-- controllers -->\n).*?(?=<!-- end -->)", re.DOTALL)
HEAD = """# Methods, transforms and adjustments

Transforms change the task vectors before the method, adjustments change its result; any of them
combine. `laconic show NAME` prints the whole text. `python docs/generate.py` writes this page.
"""
TASKS_HEAD = """# Tasks, prompts and presets

[Evaluation](evaluation.md) says how they are used. `python docs/generate.py` writes this page.
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


def tasks_page() -> str:
    """The page of tasks, prompts and presets."""
    tasks = [
        f"| `{p.name}` | {p.summary} | {knobs(p)} | {p.traits['max_tokens']:,} | {origin(p)} |"
        for p in TASKS.all()
    ]
    prompts = [f"| `{name}` | {prompt.help} |" for name, prompt in PROMPTS.items()]
    presets = []
    for preset in PRESETS.all():
        asked = ", ".join(t + (f" x {n}" if n > 1 else "") for t, n in preset.tasks.items())
        roles = "<br>".join(
            f"{role}: `{rule.prompt}`, {rule.max_tokens:,} tokens"
            for role, rule in preset.roles.items()
        )
        drawn = f"temperature {preset.temperature:g}" if preset.temperature else "greedy"
        presets.append(f"| `{preset.name}` | {asked} | {roles} | {drawn} | {preset.source} |")
    tables = (
        ("Tasks", "| name | what | parameters | budget | problems |", tasks),
        ("Prompts", "| name | what |", prompts),
        ("Presets", "| name | tasks (x answers a problem) | asked | drawn | source |", presets),
    )
    sections = [
        "\n".join([f"## {title}\n", head, "|---" * (head.count("|") - 1) + "|", *rows, ""])
        for title, head, rows in tables
    ]
    return "\n".join([TASKS_HEAD, *sections])


def origin(plugin: Plugin[Any]) -> str:
    """Where a task's problems come from."""
    dataset = plugin.traits["dataset"]
    if dataset is None:
        return "made on the spot"
    if not dataset.repo:
        return "a local file"
    return f"`{dataset.repo}`, `{dataset.file}` at `{dataset.revision[:12]}`"


def training_page() -> str:
    """The page on training with its table of controllers as they are now."""
    return TABLE.sub(lambda _: controllers(), TRAINING.read_text(encoding="utf-8"))


def import_page() -> str:
    """The page of importing logs, its table of formats from the formats themselves."""
    rows = [
        f"| {f.name} | {k.file} | {k.lengths} | {k.thoughts} | {k.cut} | {k.settings} |\n"
        for f in formats()
        for k in (f.kept,)
    ]
    head = (
        "| log | file | lengths | thought | cut | budget, sampling |\n|---|---|---|---|---|---|\n"
    )
    plain = (
        "| anything | rows: JSONL, a JSON array, Parquet | a column, usage, or `--tokenizer` | in "
        "the text, or a column | a column, or inferred | a column, or `--cap` |\n"
    )
    table = head + "".join(rows) + plain
    return LOGS.sub(lambda _: table, IMPORT.read_text(encoding="utf-8"))


def controllers() -> str:
    """The table of controllers: what each does to the weights w, its parameters, its source."""
    rows = ["| name | update | parameters | source |", "|---|---|---|---|"]
    for p in CONTROLLERS.all():
        formulas = re.findall(r"``(\w+ <- [^`]+)``", " ".join(p.help.split()))
        told = "<br>".join([p.summary, *(f"`{formula}`" for formula in formulas)])
        rows.append(f"| `{p.name}` | {told} | {knobs(p)} | {p.source} |")
    return "\n".join(rows) + "\n"


def knobs(plugin: Plugin[Any]) -> str:
    """The parameters with range and default."""
    return (
        "<br>".join(
            f"`{p.name}`{'' if p.required else f' = {p.default}'}: {p.kind.replace('|', 'or')}"
            for p in plugin.parameters
        )
        or "none"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    TASKS_PAGE.write_text(tasks_page(), encoding="utf-8")
    TRAINING.write_text(training_page(), encoding="utf-8")
    IMPORT.write_text(import_page(), encoding="utf-8")
