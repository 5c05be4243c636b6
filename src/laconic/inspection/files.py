"""Writing the files of an inspection: paths are checked first, files appear complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laconic.errors import LaconicError
from laconic.files.atomic import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.inspection.inspect import Inspection

PICTURES: Final = (".png", ".svg")


def check(*, json: Path | None = None, picture: Path | None = None) -> None:
    """Refuse files that cannot be written, before any weight is read.

    Raises:
        LaconicError: If a picture has another suffix, if a path is a folder, or if its folder is
            missing.
    """
    if picture is not None and picture.suffix.lower() not in PICTURES:
        raise LaconicError(
            f"--picture {picture}: a picture is a {' or '.join(PICTURES)} file. Rename it."
        )
    for flag, path in (("--json", json), ("--picture", picture)):
        if path is not None and path.is_dir():
            raise LaconicError(f"{flag} {path} is a folder. Name a file in it.")
        if path is not None and not path.expanduser().absolute().parent.is_dir():
            raise LaconicError(f"{flag} {path}: there is no folder {path.parent}. Create it first.")


def write(
    inspection: Inspection, *, json: Path | None = None, picture: Path | None = None
) -> list[Path]:
    """Write an inspection's files; each appears complete or not at all.

    Returns:
        The files written.

    Raises:
        LaconicError: If a file cannot be written.
    """
    from laconic.inspection.record import to_json

    files: dict[Path, bytes] = {}
    if json is not None:
        files[json.expanduser()] = to_json(inspection).encode()
    if picture is not None:
        from laconic.inspection.picture import draw
        from laconic.reporting.writers.stills.canvas import rendered

        files[picture.expanduser()] = rendered(draw(inspection), picture.suffix.lower().lstrip("."))
    for path, content in files.items():
        try:
            write_file(path, content)
        except OSError as error:
            raise LaconicError(f"{path} cannot be written: {error.strerror}.") from error
    return list(files)
