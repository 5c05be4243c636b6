"""The options that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="A checkpoint folder, a Hub id or lab:NAME.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The folder to create.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Margin = Annotated[
    float, typer.Option(min=0, max=1, help="The loss of accuracy that counts as none, a fraction.")
]
Compress = Annotated[
    bool, typer.Option("--gzip", help="Keep the results gzipped: results.jsonl.gz.")
]
Cache = Annotated[
    bool,
    typer.Option(
        "--cache/--no-cache",
        help="Use and keep verdicts in the user's cache folder: the same answer to the same gold "
        "is compared once.",
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="A task, NAME[:key=value,...], or FILE.jsonl. Repeatable."),
]
TaskData = Annotated[
    Path | None,
    typer.Option(
        "--data", help="The problems of named tasks, a file or folder; default: the Hub's."
    ),
]
Limit = Annotated[int | None, typer.Option(help="Only the first N problems.")]
MaxTokens = Annotated[
    int | None, typer.Option(help="The budget of a completion; default: the task's own.")
]
Temperature = Annotated[float, typer.Option(help="0 is greedy.")]
TopP = Annotated[float, typer.Option(help="The probability mass kept, in (0, 1].")]
Seed = Annotated[int, typer.Option(help="The only source of randomness.")]
Prompt = Annotated[
    str | None,
    typer.Option(
        help="A prompt's name (laconic list prompts), or a user's turn with {problem}; default: "
        "the problem alone."
    ),
]
Backend = Annotated[str, typer.Option(help="NAME[:key=value,...]; see: laconic list backends.")]
AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", help="Run programs that the model writes, in a sandbox."),
]
