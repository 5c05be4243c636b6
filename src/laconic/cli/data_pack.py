"""``laconic data pack``: selected answers become what a trainer reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from laconic.cli.options import AllowCode, Cache, Json, Output
from laconic.cli.terminal import err, out, progress_bar, verdicts
from laconic.errors import DataError

if TYPE_CHECKING:
    from laconic.data.pools import Pools

BUILD = "Examples:\n\nlaconic data build recipe.yaml -o built"
PACK = (
    "Examples:\n\n"
    "laconic data pack short=short.jsonl long=long.jsonl --model lab:system2 --policy keep "
    "-o data\n\n"
    "laconic data pack short=short.jsonl long=long.jsonl --append "
    "--model deepseek-ai/DeepSeek-R1-Distill-Qwen-7B --max-tokens 16384 -o data\n\n"
    "laconic data pack pairs=pairs.jsonl --model merged --policy keep -o pairs"
)


def pack(
    pools: Annotated[
        list[str],
        typer.Argument(metavar="NAME=FILE...", help="A pool's name and the file of its rows."),
    ],
    model: Annotated[
        str, typer.Option(help="The checkpoint to be trained: its tokenizer is used.")
    ],
    output: Output,
    policy: Annotated[
        Literal["think_short", "empty_think", "keep", "raw"],
        typer.Option(
            help="How an answer without a thought is written: all but its last lines as the "
            "thought, behind an empty thought, as it is, or as it is and no prompt opens a thought."
        ),
    ] = "think_short",
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ROLE", help="The role of a pool in the mixture; default: its name."
        ),
    ] = None,
    template: Annotated[
        Path | None, typer.Option(help="Write with this chat template, a Jinja file.")
    ] = None,
    append: Annotated[
        bool,
        typer.Option(
            "--append",
            help="Append answers to the prompt that the template makes, instead of formatting them "
            "with the template.",
        ),
    ] = False,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Leave out rows with more tokens, prompt included; default: the window."),
    ] = None,
    rejected: Annotated[
        Literal["right", "any"],
        typer.Option(
            help="What the second answer of a pair must be: right (short before long), or any "
            "(right before wrong, too)."
        ),
    ] = "right",
    allow_code: AllowCode = False,
    cache: Cache = True,
    as_json: Json = False,
) -> None:
    """Encode pools for a model, prove every row, and write them for the trainer.

    One closed thought, an end that is learnt, a prompt as the model is given
    it, a text that survives the tokenizer, an answer that the grader still
    finds right: a row that fails is left out and counted.
    """
    from laconic.data.answers import read_selection
    from laconic.data.pack import pack as encode

    files = dict(_named(text, "NAME=FILE", "short=short.jsonl") for text in pools)
    if len(files) < len(pools):
        raise DataError("Two pools have one name. Give each a name of its own.")
    with progress_bar("Packing") as progress:
        packed = encode(
            {name: read_selection(Path(file)) for name, file in files.items()},
            model,
            output,
            policy=policy,
            roles=dict(_named(text, "NAME=ROLE", "easy=short") for text in role or ()),
            template=template,
            append=append,
            max_tokens=max_tokens,
            rejected=rejected,
            allow_code=allow_code,
            grades=verdicts(use=cache),
            progress=progress,
        )
    _show(packed, output, as_json=as_json)


def build(
    recipe: Annotated[Path, typer.Argument(help="What to sample, select and pack: a YAML file.")],
    output: Output,
    as_json: Json = False,
) -> None:
    """Sample, select, decontaminate and pack as one recipe says.

    The folder holds the runs, the selected rows and, last, packed. After an
    interruption the same command goes on.
    """
    from laconic.data.build import build as make
    from laconic.data.build import read_data_recipe

    with progress_bar("Building") as progress:
        packed = make(read_data_recipe(recipe), output, progress=progress)
    _show(packed, packed.folder, as_json=as_json)


def _show(packed: Pools, output: Path, *, as_json: bool) -> None:
    """Print the statistics of a packed folder."""
    from laconic.data.pack import STATISTICS

    if as_json:
        statistics = json.loads((packed.folder / "statistics.json").read_text(encoding="utf-8"))
        out.print_json(json.dumps(statistics))
        return
    page = (packed.folder / STATISTICS).read_text(encoding="utf-8")
    out.print(page, end="", markup=False, soft_wrap=True)
    err.print(f"Packed {', '.join(packed.pools)} into {output}.", markup=False, soft_wrap=True)


def _named(text: str, form: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise DataError(f"'{text}': write {form}, such as {example}.")
    return name, value
