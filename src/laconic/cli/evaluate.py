"""``laconic eval``: what is asked of a model, and what it would cost."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from laconic.cli.options import (
    AllowCode,
    Backend,
    Compress,
    Json,
    Limit,
    MaxTokens,
    Model,
    Output,
    Prompt,
    Seed,
    TaskData,
    Tasks,
)
from laconic.cli.terminal import out, progress_bar
from laconic.errors import LaconicError

EPILOG = (
    "Examples:\n\n"
    "laconic eval lab:system2 --task lab --limit 100 -o runs/system2\n\n"
    "laconic eval merged --task problems.jsonl --max-tokens 8192 --temperature 0.6 --repeats 4 "
    "-o runs/merged\n\n"
    "laconic eval merged --task lab:split=dev --backend transformers:batch=64 -o runs/dev\n\n"
    "laconic eval merged --task gsm8k --data problems --prompt boxed -o runs/gsm8k\n\n"
    "laconic eval merged --preset l2s-7b -o runs/merged\n\n"
    "laconic eval Qwen/Qwen2.5-Math-7B --preset l2s-7b:role=system1 --dry-run -o runs/system1\n\n"
    "laconic eval merged --task humaneval --allow-code -o runs/code"
)


def evaluate(
    model: Model,
    output: Output,
    task: Tasks = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="A paper's evaluation protocol, NAME[:role=system1]; see laconic list presets."
        ),
    ] = None,
    data: TaskData = None,
    limit: Limit = None,
    max_tokens: MaxTokens = None,
    repeats: Annotated[
        int | None, typer.Option(help="Completions per problem; default: 1.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature; 0, the default, is greedy decoding.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Nucleus sampling: the probability mass to keep, in (0, 1]; default: 1."),
    ] = None,
    seed: Seed = 0,
    prompt: Prompt = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="How each question is put, NAME[:key=value,...] (laconic list strategies); "
            "default: the prompt's own, mostly single."
        ),
    ] = None,
    backend: Backend = "transformers",
    compress: Compress = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show the first prompt and the cost; generate nothing."),
    ] = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Measure a model's accuracy and length on tasks.

    Results are kept as they come: after an interruption the same command
    goes on where it stopped.
    """
    from laconic.evaluation.evaluate import PLAIN, preview
    from laconic.evaluation.evaluate import evaluate as run_evaluation
    from laconic.reporting.report import compare
    from laconic.runs.experiment import Sampling

    fixed = {"temperature": temperature, "top-p": top_p, "repeats": repeats, "prompt": prompt}
    given = [name for name, value in fixed.items() if value is not None]
    if preset and given:
        raise LaconicError(
            f"--preset {preset} is a protocol, and says itself what --{given[0]} is. Leave one of "
            "the two out."
        )
    asked: dict[str, Any] = {
        "sampling": Sampling(
            max_tokens=max_tokens,
            temperature=0.0 if temperature is None else temperature,
            top_p=1.0 if top_p is None else top_p,
            repeats=1 if repeats is None else repeats,
            seed=seed,
        ),
        "backend": backend,
        "limit": limit,
        "prompt": PLAIN if prompt is None else prompt,
        "data": data,
        "preset": preset,
        "strategy": strategy,
    }
    if dry_run:
        _show(preview(model, task or (), **asked), as_json=as_json)
        return
    with progress_bar("Evaluating") as progress:
        run = run_evaluation(
            model,
            task or (),
            **asked,
            allow_code=allow_code,
            output=output,
            compress=compress,
            progress=progress,
        )
    comparison = compare([run], baseline=run.name)
    out.print(
        comparison.to_json() if as_json else comparison.to_text(), markup=False, soft_wrap=True
    )


def prompts() -> list[dict[str, Any]]:
    """Every prompt as JSON holds it."""
    from laconic.tasks.contract.prompts import PROMPTS

    return [
        {"name": name, "family": "prompt", "summary": prompt.help, "text": prompt.text}
        for name, prompt in PROMPTS.items()
    ]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(name="eval", epilog=EPILOG)(evaluate)


def _show(shown: dict[str, Any], *, as_json: bool) -> None:
    """Print a preview: facts line by line, then the first prompt as the model is given it."""
    if as_json:
        out.print_json(json.dumps(shown))
        return
    lines = [
        f"completions: {shown['completions']:,} of {shown['problems']:,} problems",
        f"tokens: {shown['most_tokens']:,} at most to generate, {shown['prompt_tokens']:,} in "
        f"prompts, of which the longest has {shown['longest_prompt']:,}",
        "budget: " + ", ".join(f"{task} {n:,}" for task, n in shown["max_tokens"].items()),
    ]
    told = {"prompt", "problems", "completions", "prompt_tokens", "longest_prompt", "most_tokens"}
    lines += [f"{key}: {value}" for key, value in shown.items() if key not in {*told, "max_tokens"}]
    begun = shown["prompt"].rstrip()
    opened = begun.rfind("<think>") > begun.rfind("</think>")
    thought = "opens a thought: it ends in <think>" if opened else "opens no thought"
    lines += [f"the first prompt, which {thought}:", "", shown["prompt"]]
    out.print("\n".join(lines), markup=False, soft_wrap=True)
