"""The options that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="A checkpoint folder, a Hub id or lab:NAME.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to create.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Margin = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="The loss of accuracy that is accepted, as a fraction: 0.02 is two points.",
    ),
]
Compress = Annotated[bool, typer.Option("--gzip", help="Compress the results: results.jsonl.gz.")]
Cache = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        help="Keep grading results in the user's cache folder, so that the same answer is "
        "compared with the same reference answer only once.",
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="A task, NAME[:key=value,...], or FILE.jsonl. Repeatable."),
]
TaskData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="A file or folder with the problems of the named tasks; default: from the Hub.",
    ),
]
Limit = Annotated[int | None, typer.Option(help="Only the first N problems.")]
MaxTokens = Annotated[
    int | None, typer.Option(help="The most tokens of a completion; default: the task's own limit.")
]
Temperature = Annotated[float, typer.Option(help="Sampling temperature; 0 is greedy decoding.")]
TopP = Annotated[
    float, typer.Option(help="Nucleus sampling: the probability mass to keep, in (0, 1].")
]
Seed = Annotated[int, typer.Option(help="The random seed.")]
Prompt = Annotated[
    str | None,
    typer.Option(
        help="A prompt's name (see laconic list prompts), or the text of a user message that "
        "contains {problem}; default: the problem alone."
    ),
]
Backend = Annotated[str, typer.Option(help="NAME[:key=value,...]; see: laconic list backends.")]
AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code", help="Allow running programs that the model writes, in a sandbox."
    ),
]
