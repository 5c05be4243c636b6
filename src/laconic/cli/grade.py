"""``laconic grade``: score stored completions again, and audit the grader."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from laconic.cli.options import Cache, Json
from laconic.cli.terminal import out, progress_bar, verdicts

if TYPE_CHECKING:
    from laconic.evaluation.regrade import Regrading

EPILOG = (
    "Examples:\n\nlaconic grade runs\n\nlaconic grade runs/merged --audit --dry-run\n\n"
    "laconic grade runs --against exact --json\n\nlaconic grade --check-golds problems.jsonl\n\n"
    "laconic grade --check-golds gsm8k humaneval --data problems --allow-code"
)


def grade(
    paths: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run folders, or folders that hold some.")
    ],
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="List disagreements, timeouts, errors and answers missing or not in a box.",
        ),
    ] = False,
    against: Annotated[
        Literal["exact"] | None,
        typer.Option(
            help="Compare with a second grader: exact compares with the reference answer as text."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Grade, but write nothing.")] = False,
    check_golds: Annotated[
        bool,
        typer.Option(
            "--check-golds",
            help="Take tasks or JSONL files; list reference answers the grader cannot read.",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="For --check-golds: a file or folder with the problems of the named tasks."
        ),
    ] = None,
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code", help="Allow running programs that models wrote, in a sandbox."
        ),
    ] = False,
    cache: Cache = True,
    as_json: Json = False,
) -> None:
    """Grade the stored answers of runs again, without generating.

    Each folder's verdicts are replaced at once; where the earlier grader said
    otherwise, its verdict is kept beside the new one for the audit.
    """
    if check_golds:
        _check_golds(paths, data, allow_code=allow_code, as_json=as_json)
        return
    from laconic.evaluation.regrade import keep, regrade
    from laconic.reporting.run_folders import find
    from laconic.scoring.score import Grader

    runs = find(paths)
    told: list[dict[str, Any]] = []
    with Grader(allow_code=allow_code, grades=verdicts(use=cache)) as grader:
        for run in runs:
            with progress_bar(f"Grading {run.name}") as progress:
                graded = regrade(run, grader, against=against, progress=progress)
            if not dry_run:
                keep(graded)
            if as_json:
                told.append(_record(graded, audit=audit))
            else:
                out.print("\n".join(_lines(graded, audit=audit)), markup=False, soft_wrap=True)
    if as_json:
        out.print_json(json.dumps(told))


def _lines(graded: Regrading, *, audit: bool) -> list[str]:
    n = len(graded.run.results)
    outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(graded.outcomes.items()))
    lines = [
        f"{graded.run.folder}: {graded.correct:,} of {n:,} right, before {graded.earlier_correct:,}"
        f" ({graded.changed:,} changed; {graded.earlier_grader}, now "
        f"{graded.run.experiment.grader})",
        f"  {outcomes or 'no answers yet'}",
    ]
    lines += [f"  {warning}" for warning in graded.unread]
    if graded.against:
        lines.append(f"  {graded.against[0]}: {graded.against[1]:,} right")
    for finding in graded.findings if audit else ():
        note = f" ({finding.note})" if finding.note else ""
        lines.append(
            f"  {finding.why}{note}: {finding.task} {finding.id} #{finding.repeat}: "
            f"{finding.outcome}, gold {finding.gold!r}, answer {finding.answer!r}"
        )
    return lines


def _record(graded: Regrading, *, audit: bool) -> dict[str, Any]:
    record: dict[str, Any] = {
        "folder": str(graded.run.folder),
        "n": len(graded.run.results),
        "correct": graded.correct,
        "grader": graded.run.experiment.grader,
        "earlier_correct": graded.earlier_correct,
        "earlier_grader": graded.earlier_grader,
        "changed": graded.changed,
        "outcomes": dict(graded.outcomes),
        "warnings": list(graded.unread),
    }
    if graded.against:
        record["against"] = {"grader": graded.against[0], "correct": graded.against[1]}
    if audit:
        record["audit"] = [asdict(finding) for finding in graded.findings]
    return record


def _check_golds(paths: list[str], data: Path | None, *, allow_code: bool, as_json: bool) -> None:
    from laconic.scoring.check_references import check_golds
    from laconic.scoring.score import Grader
    from laconic.tasks.contract.task import load_task

    told: list[dict[str, Any]] = []
    with Grader(allow_code=allow_code) as grader:
        for task in [load_task(path, data=data) for path in paths]:
            with progress_bar(f"Checking {task.name}") as progress:
                checks = check_golds(task.samples, grader, progress)
            poor = [check for check in checks if check.means in {"words", "none"}]
            told.append({"task": task.name, "n": len(checks), "poor": list(map(asdict, poor))})
            if not as_json:
                what = "golds only match verbatim"
                if any(sample.kind == "program" for sample in task.samples):
                    what = "exams are failed by the set's own programs"
                lines = [f"{task.name}: {len(poor):,} of {len(checks):,} {what}"]
                lines += [f"  {check.id}: {check.gold!r} {check.reason}".rstrip() for check in poor]
                out.print("\n".join(lines), markup=False, soft_wrap=True)
    if as_json:
        out.print_json(json.dumps(told))


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(name="grade", epilog=EPILOG)(grade)
