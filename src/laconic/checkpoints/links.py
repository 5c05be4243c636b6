"""Links in a checkpoint's folder: followed inside it and in the Hub's cache, refused elsewhere.

A merge copies what stands beside the weights. A link in a folder from a stranger could make it copy
a private file into a model that is then published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path


def check_links(folder: Path) -> None:
    """Refuse a folder with a file that is a link to outside of it.

    Folders that are links are not looked into and not refused, except the one of chat templates.

    Raises:
        CheckpointError: Naming the file, and where its link leads.
    """
    templates = folder / "additional_chat_templates"
    for place in (folder, templates):
        if place.is_dir():
            for path in sorted(place.iterdir()):
                check_link(path, folder)


def check_link(path: Path, folder: Path) -> None:
    """Refuse a file of a folder that is a link to outside of it.

    In the Hub's cache, ``models--ORG--NAME/snapshots/COMMIT/FILE`` leads to
    ``models--ORG--NAME/blobs/``, which is allowed.

    Raises:
        CheckpointError: Naming the file, and where its link leads.
    """
    if not path.is_symlink() and not path.parent.is_symlink():
        return
    try:
        home, target = folder.resolve(), path.resolve()
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} is a link that leads nowhere: {error}.") from error
    if target.is_dir() and path.name != "additional_chat_templates":
        return
    cached = home.parent.name == "snapshots" and home.parent.parent.name.startswith("models--")
    blobs = home.parent.parent / "blobs"
    if target.is_relative_to(home) or (cached and target.is_relative_to(blobs)):
        return
    raise CheckpointError(
        f"{path} is a link to {target}, outside its folder. What it leads to could be any file of "
        "this machine. If you want it in the checkpoint, put the file itself there."
    )
