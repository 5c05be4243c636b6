"""Merging: a plan becomes a checkpoint."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from laconic.checkpoints.checkpoint import Checkpoint
from laconic.checkpoints.writer import SHARD_BYTES, CheckpointWriter, check_free
from laconic.errors import BackendError, CalibrationError, CheckpointError, RecipeError, WorkerError
from laconic.files.json import write_json
from laconic.merging.card import model_card
from laconic.merging.engine.cluster import connected, spread
from laconic.merging.engine.options import ExecutionOptions
from laconic.merging.engine.streaming import Engine
from laconic.merging.plan import Plan, plan
from laconic.runtime import Progress, silent, versions

if TYPE_CHECKING:
    from laconic.merging.recipe import Recipe

logger = logging.getLogger(__name__)

#: The tokenizer of a result of at least so many bytes is compared with its file, which takes
#: transformers about two seconds to import; that of a smaller one is when it is first loaded.
CHECKED_BYTES: Final = 4 << 30


def merge(
    recipe: Recipe,
    output: str | Path,
    *,
    progress: Progress = silent,
    shard_bytes: int = SHARD_BYTES,
    hash_inputs: bool = False,
    options: ExecutionOptions | None = None,
) -> Checkpoint:
    """Merge checkpoints into a new folder.

    The folder appears only when it is whole. A merge that was killed goes on where it stopped when
    the same recipe is merged into the same folder again.

    Args:
        recipe: What to merge and how.
        output: The folder to create; must be missing or empty.
        progress: Told after each tensor.
        shard_bytes: The most tensor bytes of one weight file; 5 GB by default. It does not change
            the values.
        hash_inputs: Whether run.json is to hold a hash of every input file in full; that can take
            longer than the merge.
        options: Where and how fast: device, threads, a Ray cluster. It does not change the values
            either.

    Returns:
        The merged checkpoint, opened.

    Raises:
        RecipeError: As for `plan`.
        CheckpointError: As for `plan`; for an output folder in use, a full disk, or a value that
            is not finite, naming tensor and model.
        WorkerError: Where the workers of a Ray cluster cannot be had, see other files, or died.
    """
    planned = plan(recipe, output, hash_inputs=hash_inputs)
    return execute(planned, output, progress=progress, shard_bytes=shard_bytes, options=options)


def execute(
    plan: Plan,
    output: str | Path,
    *,
    progress: Progress = silent,
    shard_bytes: int = SHARD_BYTES,
    options: ExecutionOptions | None = None,
) -> Checkpoint:
    """Carry out a plan; arguments and errors as for `merge`."""
    target = Path(output).expanduser()
    check_free(target)
    for note in plan.notes:
        logger.warning("%s", note)
    options = options or ExecutionOptions()
    with connected(options.ray):
        plan.fetch()
        merged = _write(plan, target, progress=progress, shard_bytes=shard_bytes, options=options)
    if sum(spec.nbytes for spec in plan.specs) >= CHECKED_BYTES:
        _check_tokenizer(merged)
    return merged


def _check_tokenizer(merged: Checkpoint) -> None:
    """Warn where transformers loads a result's tokenizer otherwise than its tokenizer.json says."""
    from laconic.checkpoints.tokenizer import load_tokenizer

    try:
        load_tokenizer(merged)
    except BackendError as error:
        logger.warning("%s", error)


def _write(
    plan: Plan, target: Path, *, progress: Progress, shard_bytes: int, options: ExecutionOptions
) -> Checkpoint:
    """Carry out a plan whose weights are on this machine."""
    stamps = [
        *(model.stamps for model in plan.fetched),
        *(file.header.stamp for file in plan.statistics),
    ]
    digest = f"{plan.digest}/{shard_bytes}/{stamps}"
    with CheckpointWriter(target, plan.specs, digest=digest, shard_bytes=shard_bytes) as writer:
        try:
            engine = Engine(plan, options, writer, progress)
            writer.open()
            if options.ray is None:
                engine.run()
            else:
                spread(engine, writer)
            for model in plan.fetched:
                model.check_unchanged()
            for file in plan.statistics:
                file.header.check(file.path)
            late_notes = tuple(n for n in engine.unchanged_models() if n not in plan.notes)
            for note in late_notes:
                logger.warning("%s", note)
            _write_model_files(plan, writer.work, (*plan.notes, *late_notes), engine.options.device)
            return Checkpoint(writer.publish())
        except OSError as error:
            lost = f" ({error.filename})" if isinstance(error, FileNotFoundError) else ""
            raise CheckpointError(
                f"{target} cannot be written: {error.strerror or error}{lost}. {_kept(writer)}"
            ) from error
        except WorkerError as error:
            raise WorkerError(f"{error} {_kept(writer)}") from error
        except (RecipeError, CheckpointError, CalibrationError):
            writer.discard()
            raise


def _kept(writer: CheckpointWriter) -> str:
    """What becomes of a stopped merge's work, where the user can remove the cause."""
    if not writer.stands():
        return f"{writer.work}, where it was being made, is gone: merge again."
    if not writer.finished:
        writer.discard()
        return f"Nothing was left in {writer.target}."
    return (
        f"What is finished is kept in {writer.work}: run the same command again when this is "
        "mended."
    )


def _write_model_files(plan: Plan, folder: Path, notes: tuple[str, ...], device: str) -> None:
    """Everything beside the weights: config, tokenizer, templates, card, run.json."""
    plan.model_files.write(folder, rows=plan.rows, tied=plan.tied, dtype=plan.recipe.dtype)
    record = {
        "schema": 1,
        "kind": "merge",
        "complete": True,
        "recipe": plan.recipe.to_dict(),
        "digest": plan.digest,
        "inputs": plan.identities(),
        "statistics": [file.facts() for file in plan.statistics],
        "system2": plan.system2.name,
        "seed": plan.recipe.seed,
        "notes": list(notes),
        "device": device,
        "versions": versions("numpy", "numba", "torch"),
        "command": sys.argv,
    }
    write_json(folder / "run.json", record)
    (folder / "README.md").write_text(model_card(plan.recipe, record), encoding="utf-8")
