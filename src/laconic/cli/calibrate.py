"""``laconic calibrate``: what merging methods need to know of a model, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from laconic.cli.options import Json, Seed
from laconic.cli.terminal import progress_bar, say

EPILOG = (
    "Examples:\n\n"
    "laconic calibrate lab:base --data prompts.jsonl --stats gram -o stats/base.safetensors\n\n"
    "laconic calibrate lab:base --data runs/system1 --pick shortest-correct --limit 100 "
    "--stats activations -o stats/base.safetensors\n\n"
    "laconic calibrate lab:base --against merged --data prompts.jsonl --stats mutual_information "
    "-o stats/merged.safetensors\n\n"
    "laconic calibrate lab:base --data random --stats fisher --reduce tensor "
    "-o stats/fisher.safetensors"
)


def calibrate(
    model: Annotated[str, typer.Argument(help="The model to measure: a folder or Hub id.")],
    data: Annotated[
        str,
        typer.Option(
            help="A JSONL, CSV or Parquet file of questions and answers, a run's folder, or random."
        ),
    ],
    stats: Annotated[
        Literal["activations", "sensitivity", "gram", "fisher", "mutual_information"],
        typer.Option(
            help="activations for aim, sensitivity for sens, gram for regmean, fisher for "
            "fisher and fisher_layer, mutual_information for acm."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    against: Annotated[
        str | None, typer.Option(help="For mutual_information: the model to compare with.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Use this many rows from the start of a file; of a run, this many problems drawn "
            "by --seed (default: 100)."
        ),
    ] = None,
    pick: Annotated[
        Literal["correct", "shortest-correct", "longest-correct"] | None,
        typer.Option(
            help="Which right answer to use of each problem of a run; default: drawn by --seed."
        ),
    ] = None,
    answers: Annotated[
        bool | None,
        typer.Option(
            "--answers/--no-answers",
            help="Whether to read the answers too; default: yes, except for mutual_information.",
        ),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Join question and answer without the chat template.")
    ] = False,
    max_tokens: Annotated[
        int, typer.Option(help="The most tokens of a sample; longer samples are cut at the end.")
    ] = 2048,
    reduce: Annotated[
        Literal["none", "tensor"],
        typer.Option(help="For fisher: one value for each tensor instead of one for each element."),
    ] = "none",
    labels: Annotated[
        Literal["sampled", "data"],
        typer.Option(
            help="For fisher: gradients of tokens that the model samples, or of the data."
        ),
    ] = "sampled",
    seed: Seed = 0,
    device: Annotated[
        str, typer.Option(help="The device that computes: auto, cpu or cuda.")
    ] = "auto",
    dtype: Annotated[
        str, typer.Option(help="auto, float32, bfloat16 or float16; sums are always wider.")
    ] = "auto",
    batch_tokens: Annotated[
        int,
        typer.Option(
            help="The most tokens of a batch; a smaller number needs less memory and more time."
        ),
    ] = 4096,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves the number to torch.")] = 0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check the arguments and estimate memory, disk space and time."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure what aim, sens, acm, regmean and fisher need to know of a model.

    Activations, gram and mutual_information go layer by layer and load one
    layer's weights at a time. Sensitivity and fisher
    need the whole model. A calibration that is stopped goes on where it was.
    """
    from laconic.calibration.calibrate import CalibrationOptions, prepare
    from laconic.calibration.calibrate import calibrate as measure
    from laconic.calibration.samples import SampleSelection

    chosen = stats != "mutual_information" if answers is None else answers
    selection = SampleSelection(limit, pick, chosen, raw, max_tokens, seed)
    options = CalibrationOptions(device, dtype, batch_tokens, threads)
    measurement = prepare(
        model,
        data,
        stats,
        against=against,
        selection=selection,
        reduce=reduce,
        labels=labels,
        options=options,
    )
    if dry_run:
        facts = measurement.describe()
        say(facts, "\n".join(_lines(facts)), as_json=as_json)
        return
    with progress_bar("Calibrating") as progress:
        made = measure(measurement, output, progress=progress)
    facts = {"file": str(output), **made.facts(), "tensors": len(made.tensors)}
    text = f"Measured {stats} over {made.samples} samples, {made.tokens:,} tokens, into {output}."
    say(facts, text, as_json=as_json)


def _lines(facts: dict[str, Any]) -> list[str]:
    from laconic.checkpoints.resources import human

    settings = ", ".join(f"{k} {v}" for k, v in facts["settings"].items() if v is not None)
    return [
        f"stats: {facts['stats']} of {' against '.join(facts['models'])}",
        f"data: {facts['data']}, {facts['samples']} samples, {facts['tokens']:,} tokens",
        f"settings: {settings}",
        f"memory: about {human(facts['bytes_memory'])}",
        f"disk: about {human(facts['bytes_disk'])}",
        f"time: about {facts['seconds']:,.0f} s here",
        *(f"note: {note}" for note in facts["notes"]),
    ]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(name="calibrate", epilog=EPILOG)(calibrate)
