"""Which runs a report is about: run folders found at any depth, and a short name for each."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from laconic.errors import RunError
from laconic.files.text import regular
from laconic.reporting.history import incomplete_candidates
from laconic.runs.run import GZIPPED_RESULTS, RESULTS, is_run, read_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from laconic.runs.run import Run


def load(paths: Iterable[str | Path]) -> list[Run]:
    """Read every run in the given folders, complete or not.

    Args:
        paths: Run folders, or folders that hold run folders at any depth. A folder whose run.json
            is of another kind (a merged model, a search) is passed over and looked into; the
            candidates that a search dropped are left out.

    Returns:
        The runs, in the order of the paths and sorted within each; a folder given twice counts
        once. Each is called like its folder, with as many parent folders as tell it from others;
        folders of one name that hold one model on different tasks make one run.

    Raises:
        RunError: For a path that is no folder, a damaged run, or where no run is found.
    """
    folders = _folders(paths)
    runs = {resolved: read_run(folder) for resolved, folder in folders.items()}
    homes = _homes(runs)
    groups: dict[str, list[Path]] = defaultdict(list)
    for folder in runs:
        groups[homes[folder].name].append(folder)
    found: dict[Path, Run] = {}
    place: dict[Path, Path] = {}
    for group in groups.values():
        for home, members in _together(group, runs, homes):
            found[home] = _joined([runs[folder] for folder in members])
            place |= dict.fromkeys(members, home)
    ordered = list(dict.fromkeys(place[folder] for folder in runs))
    names = short_names(ordered)
    return [found[home].renamed(name) for home, name in zip(ordered, names, strict=True)]


def find(paths: Iterable[str | Path]) -> list[Run]:
    """Read every run folder in the given folders, each as a run of its own.

    Takes and raises what `load` does.
    """
    return [read_run(folder) for folder in _folders(paths).values()]


def join(runs: Iterable[Run]) -> list[Run]:
    """Make one run of those of one name, where a model was asked different tasks one by one.

    Args:
        runs: Runs; those whose name is theirs alone stay as they are.

    Raises:
        RunError: Where runs of one name share a task, or differ in model, sampling or engine.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.name].append(run)
    for name, group in groups.items():
        if not _joinable(group):
            raise RunError(
                f"The runs called '{name}' share a task or were measured differently. Rename one: "
                "run.renamed('...')."
            )
    return [_joined(group) for group in groups.values()]


def short_names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: the end of its path, as short as tells it from all others.

    Args:
        folders: Different absolute paths.
    """
    depths = [1] * len(folders)
    while True:
        names = [
            "/".join(folder.parts[-depth:]) for folder, depth in zip(folders, depths, strict=True)
        ]
        counts = Counter(names)
        longer = [
            depth + (counts[name] > 1 and depth < len(folder.parts))
            for folder, name, depth in zip(folders, names, depths, strict=True)
        ]
        if longer == depths:
            return names
        depths = longer


def _folders(paths: Iterable[str | Path]) -> dict[Path, Path]:
    """The run folders in the given folders, as given, by their absolute paths."""
    given = [Path(path) for path in paths]
    folders: dict[Path, Path] = {}
    early: dict[Path, frozenset[Path]] = {}
    for path in given:
        if not path.is_dir():
            state = "is a file, not a folder" if path.exists() else "does not exist"
            raise RunError(f"{path} {state}. Give run folders, or folders that hold them.")
        for folder in _search(path):
            study = folder.parent.parent.resolve()
            if study not in early:
                early[study] = incomplete_candidates(study)
            if folder.resolve() not in early[study]:
                folders.setdefault(folder.resolve(), folder)
    if not folders:
        raise RunError(
            f"No runs in {', '.join(map(str, given)) or 'an empty list of folders'}. Measure a "
            "model first: laconic eval MODEL --task TASK -o FOLDER"
        )
    return folders


def _homes(runs: Mapping[Path, Run]) -> dict[Path, Path]:
    """The folder whose name is a run's: its own, or its parent.

    The parent where the folder is called like its only task, and either that task has other such
    folders or the parent other such tasks.
    """
    tasks = {
        folder
        for folder, run in runs.items()
        if [t.name for t in run.experiment.tasks] == [folder.name]
    }
    names, parents = Counter(f.name for f in tasks), Counter(f.parent for f in tasks)
    return {
        folder: folder.parent
        if folder in tasks and (names[folder.name] > 1 or parents[folder.parent] > 1)
        else folder
        for folder in runs
    }


def _together(
    group: Sequence[Path], runs: Mapping[Path, Run], homes: Mapping[Path, Path]
) -> Iterator[tuple[Path, list[Path]]]:
    """Which folders of one name make one run, and the folder that names it."""
    if _joinable([runs[folder] for folder in group]):
        yield homes[group[0]], list(group)
        return
    by_home: dict[Path, list[Path]] = defaultdict(list)
    for folder in group:
        by_home[homes[folder]].append(folder)
    for home, members in by_home.items():
        if _joinable([runs[folder] for folder in members]):
            yield home, members
        else:
            yield from ((folder, [folder]) for folder in members)


def _joinable(runs: Sequence[Run]) -> bool:
    """Whether runs are of one model, measured alike, on different tasks."""
    tasks = [task.name for run in runs for task in run.experiment.tasks]
    settings = {
        replace(
            run.experiment,
            model="",
            tasks=(),
            sampling=replace(run.experiment.sampling, max_tokens=None, repeats=1),
        )
        for run in runs
    }
    return len(settings) == 1 and len(set(tasks)) == len(tasks)


def _joined(runs: Sequence[Run]) -> Run:
    """One run of several; each task keeps its budget and its repeats."""
    first = runs[0]
    if len(runs) == 1:
        return first
    tasks = tuple(
        replace(task, repeats=task.repeats or run.experiment.sampling.repeats)
        for run in runs
        for task in run.experiment.tasks
    )
    return replace(
        first,
        experiment=replace(first.experiment, tasks=tasks),
        results=tuple(result for run in runs for result in run.results),
        complete=all(run.complete for run in runs),
        provenance=first.provenance | {"notes": _notes(runs)},
    )


def _notes(runs: Sequence[Run]) -> list[str]:
    """What any of several runs has to say of itself, once."""
    notes: dict[str, None] = {}
    for run in runs:
        said = run.provenance.get("notes")
        notes |= dict.fromkeys(map(str, said if isinstance(said, list) else ()))
    return list(notes)


def _search(folder: Path) -> Iterator[Path]:
    """The run folders in a folder, itself included, in the order of their paths."""
    for where, inner, files in os.walk(folder):
        here = Path(where)
        if is_run(here) or _broken(here, files):
            inner.clear()
            yield here
        inner.sort()


def _broken(folder: Path, files: Sequence[str]) -> bool:
    """Whether a run.json that cannot be read stands beside results: a run nobody should lose."""
    if "run.json" not in files or not {RESULTS, GZIPPED_RESULTS} & set(files):
        return False
    try:
        json.loads(regular(folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return False
