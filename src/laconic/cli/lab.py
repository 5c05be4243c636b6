"""``laconic lab``: the miniature model family."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from laconic.cli.options import Margin, Seed
from laconic.cli.terminal import out, progress_bar
from laconic.files.atomic import sync_all

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
    threads: Annotated[
        int,
        typer.Option(min=1, help="CPU threads; another number gives slightly different models."),
    ] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train the family from scratch; a stopped training continues after its last finished phase."""
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
    """Write the shipped models in other checkpoint layouts."""
    from laconic.lab import VARIANTS, write_variants

    folder = write_variants(directory)
    sync_all(folder)
    out.print(f"Wrote {', '.join(VARIANTS)} to {folder}.", soft_wrap=True)


@lab.command(name="demo")
def lab_demo(
    directory: Annotated[Path, typer.Argument(help="The folder to create.")],
    dev: Annotated[
        int, typer.Option(min=5, help="Number of problems to choose the merge on.")
    ] = 1000,
    test: Annotated[
        int, typer.Option(min=5, help="Number of other problems to test it on.")
    ] = 1000,
    workers: Annotated[int, typer.Option(min=1, help="How many processes evaluate.")] = 2,
    margin: Margin = 0.02,
) -> None:
    """Do the main job on the lab pair: merge, measure, choose, prove, draw."""
    from laconic.lab.demo import demo

    with progress_bar("Demo") as progress:
        found = demo(
            directory, dev=dev, test=test, workers=workers, margin=margin, progress=progress
        )
    out.print(found.to_text(), markup=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the verb and its subcommands to the command line."""
    app.add_typer(lab, name="lab", subcommand_metavar="DIR | COMMAND [ARGS]...")
