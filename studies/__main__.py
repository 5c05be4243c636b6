"""The command line of the studies: ``python -m studies merging DIR`` or ``tldr DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from laconic.cli import run
from laconic.cli.terminal import out, progress_bar
from laconic.errors import LaconicError

#: Trainings of each arm where nobody says how many.
SEEDS = 3

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command(
    epilog="Examples:\n\npython -m studies merging study\n\n"
    "python -m studies merging study --family tiny=trained-tiny --family small=trained-small\n\n"
    "python -m studies tldr training --seeds 3",
)
def study(
    which: Annotated[
        Literal["merging", "tldr"],
        typer.Argument(help="merging: every merge method. tldr: every way of training."),
    ],
    directory: Annotated[Path, typer.Argument(help="The folder to create or to continue in.")],
    dev: Annotated[int, typer.Option(min=5, help="Problems for choosing.")] = 200,
    test: Annotated[int, typer.Option(min=10, help="Fresh problems for the figures.")] = 1000,
    family: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SIZE=DIR", help="Merging: a family of laconic lab train; may be repeated."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Tldr: trainings of each arm, 3 by default.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = 2,
) -> None:
    """Repeat a paper's experiments on the lab and write a page with all tables and pictures.

    Takes about an hour of two cores. A stopped study continues where it stopped.
    """
    if which == "tldr":
        if family:
            raise LaconicError("--family belongs to the study merging; tldr trains what ships.")
        page = _study_training(directory, dev, test, seeds or SEEDS, workers)
    else:
        if seeds is not None:
            raise LaconicError("--seeds belongs to the study tldr; merging trains nothing.")
        page = _study_merging(directory, dev, test, _named_folders(family or []), workers)
    out.print(f"Wrote {page} and its pictures.", soft_wrap=True)


def _study_merging(
    directory: Path, dev: int, test: int, families: dict[str, Path], workers: int
) -> Path:
    from studies.merging.page import write_page
    from studies.merging.study import study

    with progress_bar("Study") as progress:
        found = study(
            directory, dev=dev, test=test, families=families, workers=workers, progress=progress
        )
    return write_page(found, directory)


def _study_training(directory: Path, dev: int, test: int, seeds: int, workers: int) -> Path:
    from studies.tldr.arms import Scale
    from studies.tldr.page import write_tldr_page
    from studies.tldr.study import study_tldr

    with progress_bar("Study") as progress:
        found = study_tldr(
            directory,
            scale=Scale(dev=dev, test=test),
            seeds=range(1, seeds + 1),
            workers=workers,
            progress=progress,
        )
    return write_tldr_page(found, directory)


def _named_folders(words: list[str]) -> dict[str, Path]:
    """``SIZE=DIR`` words as folders by size."""
    found = {}
    for word in words:
        name, equals, folder = word.partition("=")
        missing = [m for m in ("base", "system1", "system2") if not (Path(folder) / m).is_dir()]
        if not (name and equals) or missing:
            raise LaconicError(
                f"--family {word}: expected SIZE=DIR, where DIR is a folder of laconic lab train"
                + (f" (it has no {missing[0]})." if folder and missing else ".")
            )
        found[name] = Path(folder)
    return found


if __name__ == "__main__":
    run(app)
