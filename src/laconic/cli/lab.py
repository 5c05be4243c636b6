"""``laconic lab``: the miniature model family."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from laconic.cli.options import Margin, Seed
from laconic.cli.terminal import out, progress_bar
from laconic.errors import LaconicError
from laconic.files import sync_all

#: Trainings of each arm where nobody says how many.
SEEDS = 3


class _LabGroup(TyperGroup):
    """Lets ``laconic lab DIR`` stand beside ``laconic lab train DIR``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read a first word that is no command as the folder to write the lab to."""
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["write", *args]
        return super().parse_args(ctx, args)


lab = typer.Typer(
    cls=_LabGroup,
    no_args_is_help=True,
    help="A miniature model family in which overthinking is real: laconic lab DIR writes it.",
)


@lab.command(name="write")
def lab_write(directory: Annotated[Path, typer.Argument(help="The folder to create.")]) -> None:
    """Write the shipped models (base, system1, system2) to a folder."""
    from laconic.lab import write

    folder = write(directory)
    sync_all(folder)
    out.print(f"Wrote the lab's models to {folder}.", soft_wrap=True)


@lab.command(
    name="train",
    epilog="Examples:\n\nlaconic lab train mine --seed 1\n\n"
    "laconic lab train large --size medium --device cuda",
)
def lab_train(
    directory: Annotated[Path, typer.Argument(help="The folder to create.")],
    size: Annotated[
        str, typer.Option(help="tiny, mini (what ships), small, or medium (for a GPU).")
    ] = "mini",
    seed: Seed = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; part of what is equal.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train the family from nothing; a stopped training goes on behind its last phase."""
    from laconic.lab import train

    with progress_bar("Training") as progress:
        folder = train(
            directory, size=size, seed=seed, threads=threads, device=device, progress=progress
        )
    sync_all(folder)
    out.print(f"Trained the lab's models into {folder}.", soft_wrap=True)


@lab.command(name="variants", epilog="Example:\n\nlaconic lab variants variants")
def lab_variants(
    directory: Annotated[Path, typer.Argument(help="The folder to create.")],
) -> None:
    """Write the shipped models in the other shapes that checkpoints come in."""
    from laconic.lab import VARIANTS, write_variants

    folder = write_variants(directory)
    sync_all(folder)
    out.print(f"Wrote {', '.join(VARIANTS)} to {folder}.", soft_wrap=True)


@lab.command(name="demo")
def lab_demo(
    directory: Annotated[Path, typer.Argument(help="The folder to create.")],
    dev: Annotated[int, typer.Option(min=5, help="Problems for choosing.")] = 1000,
    test: Annotated[int, typer.Option(min=5, help="Fresh problems for the verdict.")] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="Processes that evaluate.")] = 2,
    margin: Margin = 0.02,
) -> None:
    """Do the main job on the lab pair: merge, measure, choose, prove, draw."""
    from laconic.lab.demo import demo

    with progress_bar("Demo") as progress:
        found = demo(
            directory, dev=dev, test=test, workers=workers, margin=margin, progress=progress
        )
    out.print(found.to_text(), markup=False, soft_wrap=True)


@lab.command(
    name="study",
    epilog="Examples:\n\nlaconic lab study merging study\n\n"
    "laconic lab study merging study --family tiny=trained-tiny --family small=trained-small\n\n"
    "laconic lab study tldr training --seeds 3",
)
def lab_study(
    which: Annotated[
        Literal["merging", "tldr"],
        typer.Argument(help="merging: every method. tldr: training, every arm."),
    ],
    directory: Annotated[Path, typer.Argument(help="The folder to create, or to go on in.")],
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
    """Ask the papers' questions of the lab: one command, all tables and pictures.

    Takes about an hour of two cores. What a stopped study finished is used again.
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
    from laconic.lab.study import study, write_page

    with progress_bar("Study") as progress:
        found = study(
            directory, dev=dev, test=test, families=families, workers=workers, progress=progress
        )
    return write_page(found, directory)


def _study_training(directory: Path, dev: int, test: int, seeds: int, workers: int) -> Path:
    from laconic.lab.study.tldr import Scale, study_tldr
    from laconic.lab.study.tldr.page import write_tldr_page

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
