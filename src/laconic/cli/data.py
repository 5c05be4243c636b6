"""``laconic data``: from models' answers to packed training data, a verb a step."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from laconic.cli.data_pack import BUILD, PACK, build, pack
from laconic.cli.grade import EPILOG as GRADE_EXAMPLES
from laconic.cli.grade import grade
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
    Temperature,
    TopP,
)
from laconic.cli.terminal import progress_bar, say
from laconic.errors import DataError

if TYPE_CHECKING:
    from laconic.data.answers import Selection

data = typer.Typer(
    no_args_is_help=True,
    help="Build training data: sample answers, select, check, decontaminate and pack them.",
)
File = Annotated[Path, typer.Option("--output", "-o", help="The JSONL file to write.")]
Rows = Annotated[Path, typer.Argument(help="Answers or pairs: JSONL of select or another tool.")]
SAMPLE = (
    "Examples:\n\n"
    "laconic data sample lab:system2 --task lab:split=train,size=200 -k 4 -o runs/long\n\n"
    "laconic data sample Qwen/Qwen2.5-7B-Instruct --task problems.jsonl -k 8 --prompt boxed "
    "--backend vllm -o runs/short\n\n"
    "laconic data sample MODEL --task problems.jsonl -k 1 --temperature 0 -o runs/greedy"
)
SELECT = (
    "Examples:\n\n"
    "laconic data select runs/short --rule shortest --levels 1-4 --limit 200 -o short.jsonl\n\n"
    "laconic data select runs/long --rule longest --difficulty hard --reference runs/short "
    "-o long.jsonl\n\n"
    "laconic data select runs/long --rule pairs --ratio 2 -o pairs.jsonl"
)
LINT = (
    "Examples:\n\nlaconic data lint short.jsonl\n\n"
    "laconic data lint answers.jsonl --max-tokens 8192 -o clean.jsonl"
)
DECONTAMINATE = (
    "Examples:\n\n"
    "laconic data decontaminate long.jsonl --against math500 --against aime24 -o clean.jsonl\n\n"
    "laconic data decontaminate long.jsonl --against dev.jsonl --overlap 0.5 -o clean.jsonl\n\n"
    "laconic data decontaminate short.jsonl --against lab:split=dev --ngram 0 -o clean.jsonl"
)


@data.command(epilog=SAMPLE)
def sample(
    model: Model,
    task: Annotated[
        list[str], typer.Option(help="A task, NAME[:key=value,...], or FILE.jsonl. Repeatable.")
    ],
    output: Output,
    answers: Annotated[int, typer.Option("--answers", "-k", help="Answers to each problem.")] = 8,
    temperature: Temperature = 0.7,
    top_p: TopP = 0.95,
    max_tokens: MaxTokens = None,
    limit: Limit = None,
    seed: Seed = 0,
    prompt: Prompt = None,
    task_data: TaskData = None,
    backend: Backend = "transformers",
    compress: Compress = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Sample several answers to each problem: a run, graded as it comes.

    It is laconic eval with other defaults: the folder is a run, the report
    reads it, and after an interruption the same command goes on.
    """
    from laconic.data.sample import sample as draw
    from laconic.data.select import Filter, difficulties
    from laconic.evaluation.evaluate import PLAIN

    with progress_bar("Sampling") as progress:
        run = draw(
            model,
            task,
            output,
            answers=answers,
            temperature=temperature,
            top_p=top_p,
            max_tokens=max_tokens,
            seed=seed,
            backend=backend,
            limit=limit,
            prompt=prompt or PLAIN,
            data=task_data,
            allow_code=allow_code,
            compress=compress,
            progress=progress,
        )
    n, right = len(run.results), sum(result.correct for result in run.results)
    mean = sum(result.length for result in run.results) / n
    ease: dict[str, int] = dict(difficulties([run], Filter()))
    facts = {"folder": str(output), "answers": n, "right": right, "mean_tokens": mean, **ease}
    shares = ", ".join(f"{count:,} {name}" for name, count in ease.items())
    text = (
        f"{n:,} answers in {output}: {right / n:.1%} right, {mean:,.0f} tokens a piece\n"
        f"problems by share of right answers: {shares}"
    )
    say(facts, text, as_json=as_json)


@data.command(epilog=SELECT)
def select(
    runs: Annotated[list[Path], typer.Argument(help="Run folders: answers compete by problem.")],
    output: File,
    rule: Annotated[
        Literal["shortest", "longest", "balanced", "all", "pairs"],
        typer.Option(
            help="Of each problem's right answers: one of them, all, or the shortest preferred to "
            "the longest; balanced takes lengths as evenly as can be."
        ),
    ] = "shortest",
    levels: Annotated[
        str | None, typer.Option(help="Only problems of these levels: 5, 1-3 or 1,2,4-5.")
    ] = None,
    difficulty: Annotated[
        list[str] | None,
        typer.Option(help="easy, medium or hard by --reference. Repeatable."),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="The run whose share of right answers says how difficult a problem is."),
    ] = None,
    easy: Annotated[float, typer.Option(help="The share from which a problem is easy.")] = 2 / 3,
    hard: Annotated[float, typer.Option(help="The share below which it is hard.")] = 1 / 3,
    min_tokens: Annotated[int | None, typer.Option(help="The fewest tokens of an answer.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens of an answer.")] = None,
    max_markers: Annotated[
        int | None, typer.Option(help="How often an answer may hold any one marker.")
    ] = None,
    marker: Annotated[
        list[str] | None,
        typer.Option(help="A word that marks reflection; default: the TL;DR loader's eleven."),
    ] = None,
    ratio: Annotated[
        float, typer.Option(help="For pairs: how many times the shorter's tokens the longer has.")
    ] = 1.5,
    limit: Annotated[int | None, typer.Option(help="The most rows, drawn by the seed.")] = None,
    seed: Seed = 0,
    task: Annotated[
        str | None,
        typer.Option(help="Train on the words of this task, not on those the run asked in."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="With --task: a prompt's name, or a turn with {problem}.")
    ] = None,
    task_data: TaskData = None,
    as_json: Json = False,
) -> None:
    """Select right answers of runs for a pool; every other answer is counted by reason."""
    from laconic.data.answers import write_selection
    from laconic.data.select import MARKERS, Filter, parse_levels
    from laconic.data.select import select as choose
    from laconic.evaluation.evaluate import PLAIN
    from laconic.runs.run import read_run
    from laconic.tasks.contract.task import load_task

    if task is None and (prompt or task_data):
        raise DataError("--prompt and --data word the problems of a task: say which (--task).")
    wanted = Filter(
        levels=parse_levels(levels) if levels else (),
        ease=tuple(difficulty or ()),  # type: ignore[arg-type]  # checked there
        easy=easy,
        hard=hard,
        min_tokens=min_tokens,
        max_tokens=max_tokens,
        max_markers=max_markers,
        markers=tuple(marker or MARKERS),
    )
    chosen = choose(
        [read_run(folder) for folder in runs],
        rule,
        wanted=wanted,
        reference=[read_run(folder) for folder in reference or ()],
        ratio=ratio,
        limit=limit,
        seed=seed,
        questions=load_task(task, prompt=prompt or PLAIN, data=task_data) if task else None,
    )
    write_selection(chosen, output)
    _tell(chosen, chosen.dropped, f"Selected {_counted(chosen)} into {output}.", as_json=as_json)


@data.command(epilog=LINT)
def lint(
    rows: Rows,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the sound rows: a JSONL file.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens of an answer.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 2 if anything is found.")] = False,
    as_json: Json = False,
) -> None:
    """Look for what is wrong in texts: stray brackets, open thoughts, cut answers and so on."""
    from laconic.data.answers import read_selection, write_selection
    from laconic.data.lint import CHECKS
    from laconic.data.lint import lint as check

    selection = read_selection(rows)
    sound, faults = check(selection, max_tokens=max_tokens)
    if output is not None and sound.rows:
        write_selection(sound, output)
    counts = Counter(faults.values())
    lines = [f"{rows}: {len(sound.rows):,} of {len(selection.rows):,} rows are sound"]
    for reason, count in counts.most_common():
        first = next(name for name, one in faults.items() if one == reason)
        lines.append(f"  {reason}: {count:,}, {first} first: {CHECKS[reason]}")
    say({"rows": len(sound.rows), "faults": faults}, "\n".join(lines), as_json=as_json)
    if not sound.rows:
        raise DataError(f"No row of {rows} is sound: there is nothing to write.")
    if strict and faults:
        raise DataError(f"{len(faults):,} rows of {rows} are not sound. Drop them: -o FILE.")


@data.command(epilog=DECONTAMINATE)
def decontaminate(
    rows: Rows,
    against: Annotated[
        list[str], typer.Option(help="A benchmark or dev set: a task or a file. Repeatable.")
    ],
    output: File,
    ngram: Annotated[
        int,
        typer.Option(help="Words of a shared run that give a row away; 0: whole problems only."),
    ] = 13,
    overlap: Annotated[
        float,
        typer.Option(
            help="The share of a question's runs that must be shared; 0: any one will do."
        ),
    ] = 0.0,
    task_data: TaskData = None,
    as_json: Json = False,
) -> None:
    """Take out rows whose question is also a benchmark's problem, whole or by a run of words.

    Give every set that will choose or judge the model. What is taken out, and
    because of which problem, is written beside the rows (NAME.overlaps.json).
    """
    from laconic.data.answers import read_selection, write_selection
    from laconic.data.decontaminate import decontaminate as clean
    from laconic.files.json import write_json
    from laconic.tasks.contract.task import load_task

    selection = read_selection(rows)
    tasks = [load_task(one, data=task_data) for one in against]
    kept, overlaps = clean(selection, tasks, n=ngram, share=overlap)
    if not kept.rows:
        raise DataError(
            f"No row of {rows} is left: all {len(overlaps):,} share words with "
            f"{', '.join(against)}, {overlaps[0].id} with {overlaps[0].problem}. Give --overlap or "
            "--ngram 0 if the problems are only worded alike, as the lab's are."
        )
    write_selection(kept, output)
    told = list(map(asdict, overlaps))
    write_json(output.with_name(output.name.removesuffix(".jsonl") + ".overlaps.json"), told)
    lines = [f"Kept {_counted(kept)} of {len(selection.rows):,} in {output}."]
    for one in overlaps[:10]:
        how = "is" if one.how == "whole" else f"shares '{one.how}' with"
        lines.append(f"  {one.id} {how} {one.problem}")
    lines += [f"  and {len(overlaps) - 10:,} more"] if len(overlaps) > 10 else []
    say({"rows": len(kept.rows), "overlaps": told}, "\n".join(lines), as_json=as_json)


data.command(epilog=PACK)(pack)
data.command(epilog=BUILD)(build)
data.command(name="grade", epilog=GRADE_EXAMPLES)(grade)


def _counted(selection: Selection) -> str:
    count = len(selection.rows)
    return f"{count:,} {'pairs' if selection.kind == 'pairs' else 'answers'}"


def _tell(selection: Selection, dropped: Any, text: str, *, as_json: bool) -> None:
    from laconic.data.answers import describe

    facts = {
        "rows": len(selection.rows),
        "kind": selection.kind,
        "dropped": dict(dropped),
        "failed": list(selection.failed),
    }
    lines = [text]
    if dropped:
        lines.append(f"  left out: {describe(dropped)}")
    if selection.failed:
        lines.append(f"  no answer to {len(selection.failed):,} problems was right")
    say(facts, "\n".join(lines), as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the verbs ``data ...`` to the command line."""
    app.add_typer(data, name="data")
