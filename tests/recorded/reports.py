"""Reports over recorded runs, grading, importing and inspecting: their texts and their numbers."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.recorded.command import laconic, laconic_json
from tests.recorded.compare import TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Callable

HERE: Final = Path(__file__).parent
LOGS: Final = HERE.parent / "samples" / "logs"
#: Reports by name: the runs, further flags.
REPORTS: Final[dict[str, tuple[str, ...]]] = {
    "report-lab": ("runs/lab",),
    "report-planted": ("runs/planted", "--baseline", "system1", "--margin", "0.1"),
    "report-two-tasks": (
        *("runs/lab/system1", "runs/lab/system2", "runs/lab/merged"),
        *("runs/planted/system1", "runs/planted/system2", "runs/planted/merged"),
    ),
}
SUFFIXES: Final = ("html", "md", "json", "csv", "tex", "txt")
#: Logs by the tool that wrote them: the files, further flags.
IMPORTS: Final[dict[str, tuple[str, ...]]] = {
    "lm-eval": ("logs/lm_eval/samples_*.jsonl", "--tokenizer", "models/system1"),
    "lighteval": ("logs/lighteval/details/system1/*/*.parquet",),
    "inspect": ("logs/inspect/epochs.json",),
    "inspect-archive": ("logs/inspect/epochs.eval", "--gzip"),
    "evalscope": ("logs/evalscope/reviews/system2/*.jsonl",),
    "qwen-math": ("logs/qwen_math/*.jsonl", "--tokenizer", "models/system1", "--cap", "896"),
    "skythought": ("logs/skythought/results.json", "--task", "lab"),
    "skythought-first": ("logs/skythought/first/results.json", "--task", "lab"),
    "rows": ("rows.jsonl", "--task", "sums", "--data", "sums.jsonl", "--map", "length=tokens"),
}
#: Keys of run.json that tell of the machine, the day or the command.
PASSING: Final = ("versions", "command", "device", "started", "finished")
#: Entries of a merge's plan that tell of the machine.
MACHINE: Final = {"bytes_disk_free", "bytes_peak_memory"}


def names() -> list[str]:
    """Every piece of this part."""
    return [*_pieces(), *REPORTS, *(f"import-{name}" for name in IMPORTS)]


def tolerance(name: str) -> float:
    """The relative difference that counts as none."""
    del name
    return TOLERANCE


def prepare(folder: Path) -> None:
    """Copy the recorded runs and the logs of other tools."""
    shutil.copytree(HERE / "runs", folder / "runs")
    shutil.copytree(LOGS, folder / "logs")
    laconic("lab", "write", "models", folder=folder)
    problems = [{"id": i, "problem": f"What is {i} + {i}?", "answer": 2 * i} for i in range(5)]
    answers = [rf"So it is \boxed{{{i + i // 3 + i}}}." for i in range(5)]
    rows = [{"id": i, "response": text, "tokens": 9 + i} for i, text in enumerate(answers)]
    for name, content in (("sums", problems), ("rows", rows)):
        text = "".join(f"{json.dumps(row)}\n" for row in content)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def observe(name: str, folder: Path) -> Any:
    """What a piece comes to."""
    if name in REPORTS:
        return _unversioned(_report(name, folder))
    if name.startswith("import-"):
        return _unversioned(_import(name.removeprefix("import-"), folder))
    return _unversioned(_pieces()[name](folder))


def _pieces() -> dict[str, Callable[[Path], Any]]:
    return {
        "report-of-the-terminal": lambda folder: {
            "text": laconic("report", "runs/lab", folder=folder).splitlines(),
            "details": laconic("report", "runs/planted", "--details", folder=folder).splitlines(),
        },
        "report-as-the-paper": lambda folder: {
            form: laconic(
                "report", "runs/lab", "--layout", "l2s", "--format", form, folder=folder
            ).splitlines()
            for form in ("text", "md", "csv", "tex")
        },
        "report-compare": _compare,
        "grade": _grade,
        "grade-again": _grade_again,
        "inspect": lambda folder: laconic_json(
            "inspect", "lab:base", "lab:system1", "lab:system2", "--json", "-", folder=folder
        ),
        "inspect-text": lambda folder: laconic(
            "inspect",
            *("lab:system1", "lab:system2", "--candidate", "lab:base", "--layers"),
            folder=folder,
        ).splitlines(),
        "merge-plan": _merge_plan,
    }


def _report(name: str, folder: Path) -> dict[str, Any]:
    outputs = [f"{name}/report.{suffix}" for suffix in SUFFIXES]
    flags = [word for output in outputs for word in ("-o", output)]
    laconic("report", *REPORTS[name], *flags, folder=folder)
    texts = {
        suffix: (folder / output).read_text(encoding="utf-8")
        for suffix, output in zip(SUFFIXES, outputs, strict=True)
    }
    whole = {
        "html": _page(texts["html"]),
        "json": json.loads(texts["json"]),
        "csv": [[_value(cell) for cell in row] for row in csv.reader(texts["csv"].splitlines())],
        **{suffix: texts[suffix].splitlines() for suffix in ("md", "tex", "txt")},
    }
    # What several tasks add to a report is in these; the other forms are those of one task.
    return {k: whole[k] for k in ("json", "md", "tex")} if name == "report-two-tasks" else whole


class _Page(HTMLParser):
    """The visible text of a page, and its embedded data by id."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.data: dict[str, Any] = {}
        self._inside: tuple[str, str, str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "style"}:
            told = dict(attrs)
            self._inside = (tag, told.get("type") or "", told.get("id") or "")

    def handle_endtag(self, tag: str) -> None:
        if self._inside is not None and tag == self._inside[0]:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is None:
            if words := " ".join(data.split()):
                self.text.append(words)
            return
        _, kind, name = self._inside
        if kind == "application/json":
            self.data[name] = json.loads(data)
        elif kind == "text/plain" and name != "plotly":
            # Answers and which problem is whose: texts, no numbers that a machine could round.
            unpacked = json.loads(gzip.decompress(base64.b64decode(data)))
            text = json.dumps(unpacked, sort_keys=True)
            self.data[name] = hashlib.sha256(text.encode()).hexdigest()


def _page(text: str) -> dict[str, Any]:
    page = _Page()
    page.feed(text)
    return {"text": page.text, "data": page.data}


def _value(cell: str) -> str | float:
    """A cell of a CSV table: a number where it is one, so that its last digits may differ."""
    try:
        return float(cell)
    except ValueError:
        return cell


def _compare(folder: Path) -> dict[str, Any]:
    """The report from Python, by public names."""
    import laconic as package

    runs = [package.read_run(folder / "runs" / "lab" / name) for name in ("system2", "merged")]
    told = package.compare(runs, baseline="system2", margin=0.05)
    answers = [[r.id, r.correct, r.length, r.truncated, r.answer] for r in runs[1].results]
    return {"text": str(told).splitlines(), "results": answers}


def _grade(folder: Path) -> Any:
    flags = ("--audit", "--against", "exact", "--dry-run", "--json")
    return laconic_json("grade", "runs", *flags, folder=folder)


def _grade_again(folder: Path) -> dict[str, Any]:
    """A run with verdicts that an older grader gave otherwise."""
    run = folder / "graded"
    shutil.copytree(folder / "runs" / "planted" / "merged", run)
    lines = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    for line in lines[::3]:
        line["correct"] = not line["correct"]
        line["outcome"] = "correct" if line["correct"] else "wrong"
    (run / "results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    head = json.loads((run / "run.json").read_text())
    head["experiment"]["grader"] = "laconic/1"
    (run / "run.json").write_text(json.dumps(head))
    told = laconic_json("grade", "graded", "--json", folder=folder)
    return {"told": told, **_run(run)}


def _import(name: str, folder: Path) -> dict[str, Any]:
    pattern, *flags = IMPORTS[name]
    logs = sorted(path.relative_to(folder) for path in folder.glob(pattern))
    target = f"imported/{name}"
    text = laconic("import", *logs, *flags, "-o", target, folder=folder)
    return {"text": text.splitlines(), **_run(folder / target)}


def _run(run: Path) -> dict[str, Any]:
    """A run folder's files without what passes."""
    packed, plain = run / "results.jsonl.gz", run / "results.jsonl"
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes()
    head = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return {
        "run": {key: value for key, value in head.items() if key not in PASSING},
        "results": [json.loads(line) for line in content.decode().splitlines()],
        "files": sorted(path.name for path in run.iterdir()),
    }


def _merge_plan(folder: Path) -> Any:
    """What a dry run tells a program, without what it says of this machine."""
    flags = ("--base", "lab:base", "--model", "lab:system2=0.5", "--method", "ties", "--dry-run")
    steps = ("--before", "dare:density=0.6", "--after", "lines:first=0.4", "--set", "density=0.3")
    told = laconic_json("merge", *flags, *steps, "--json", "-o", "never", folder=folder)
    return {key: value for key, value in told.items() if key not in MACHINE}


def _unversioned(value: Any) -> Any:
    """A value without the version of the library that compares formulas."""
    text = json.dumps(value)
    return json.loads(re.sub(r"math-verify/[0-9.]+", "math-verify", text))
