"""The calibration files that a recipe names, matched to its checkpoints before a merge."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from laconic.calibration.record import MERGE, Calibration, Kind, calibrate_command, read_calibration
from laconic.checkpoints.header import Header, open_header, samples_of
from laconic.errors import CalibrationError
from laconic.methods.contract.step_statistics import StepStatistics

if TYPE_CHECKING:
    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.merging.step import Step
    from laconic.methods.contract.traits import Whose

#: Statistics of fewer samples than this get a note.
FEW: Final = 10
#: The kinds whose files are small; others are checked tensor by tensor as they are merged.
SMALL: Final = {"activations", "sensitivity", "mutual_information"}
#: What a merge of two steps calls the result of the first.
STEP: Final = "step1"


@dataclass(frozen=True)
class StatisticsFile:
    """A calibration file that a step of a merge reads.

    Attributes:
        path: The file.
        calibration: What it holds.
        header: The file's header as it was opened.
        digest: Of its header and of pieces spread over it, to tell it from other files.
    """

    path: Path
    calibration: Calibration
    header: Header
    digest: str

    def facts(self) -> dict[str, Any]:
        """Which statistics these are, for a merge's record."""
        facts = self.calibration.facts()
        keys = ("kind", "model", "model_name", "data", "samples", "tokens")
        return {"file": str(self.path), "digest": self.digest, **{k: facts[k] for k in keys}}


@dataclass(frozen=True)
class RequiredStatistics:
    """Statistics that a step must have.

    Attributes:
        kind: The kind of statistics.
        of: The measured checkpoint, in words.
        model: The fingerprint of the measured checkpoint; of what a first merge gives, its digest.
        against: The fingerprint of the checkpoint it was compared with, if any.
        checkpoint: The measured checkpoint; None for what a first merge gives.
        command: The command that makes them.
    """

    kind: Kind
    of: str
    model: str
    against: str | None
    checkpoint: Checkpoint | None
    command: str

    def met_by(self, file: StatisticsFile) -> bool:
        """Whether a file holds these statistics."""
        record = file.calibration
        model = record.model if self.checkpoint else record.settings.get(MERGE)
        return (record.kind, model, record.against) == (self.kind, self.model, self.against)


def read_stats(
    step: Step,
    key: str,
    base: Checkpoint | None,
    models: Sequence[Checkpoint],
    first_merge: Callable[[], tuple[str, str]],
) -> tuple[Step, tuple[StatisticsFile, ...], tuple[str, ...]]:
    """Find each checkpoint's statistics among the files that a recipe names for a step.

    Args:
        step: The step.
        key: The recipe's key of its files, as ``--set`` takes it.
        base: The base, if any.
        models: The models.
        first_merge: Gives the digest of the merge without the step, and the command for it.

    Returns:
        The step with its statistics, the files, and what the user should know of them.

    Raises:
        CalibrationError: For files that are missing, damaged, too many, or of other checkpoints or
            kinds than the step reads; it ends with the command that makes the right ones.
    """
    if not step.traits.stats:
        return step, (), ()
    name = step.plugin.name
    needs = _needs(step, base, models, first_merge)
    commands = list(dict.fromkeys(need.command for need in needs))
    if not step.files:
        raise CalibrationError(
            f"{name} reads statistics, and the recipe names none: "
            f"{' and '.join(dict.fromkeys(f'{_words(n.kind)} of {n.of}' for n in needs))}. Make "
            f"them, then name {_files(len(commands))} as stats "
            f"({_flag(key, len(commands))}): {' && '.join(commands)}"
        )
    files = _read(step, needs)
    for file in files:
        if not any(need.met_by(file) for need in needs):
            left = [n.command for n in needs if not any(map(n.met_by, files))] or commands
            raise CalibrationError(_why_unused(name, file, needs) + f" {' && '.join(left)}")
        _check_finite(name, file, commands)
    chosen = [_matching_file(name, need, files) for need in needs]
    stats: dict[str, list[StepStatistics]] = {}
    for need, file in zip(needs, chosen, strict=True):
        stats.setdefault(need.kind, []).append(_statistics(need, file))
    by_kind = {kind: tuple(statistics) for kind, statistics in stats.items()}
    step = replace(step, stats=by_kind, remedy=f"Measure again: {' && '.join(commands)}")
    return step, tuple(files), tuple(_notes(name, chosen))


def check_shapes(step: Step, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse statistics whose shape is not that of their tensors.

    Args:
        step: A step with its statistics.
        shapes: The shape of each merged tensor.

    Raises:
        CalibrationError: Naming the tensor, with the command that makes others.
    """
    for kind, several in step.stats.items():
        for measured in several:
            for name, shape in shapes.items():
                if name not in measured:
                    continue
                own_shape, right_shapes = tuple(measured[name].shape), _shapes(kind, shape)
                if right_shapes and own_shape not in right_shapes:
                    needed = " or ".join(str(list(right)) for right in right_shapes)
                    raise CalibrationError(
                        f"{step.plugin.name}: the {_words(kind)} of '{name}' have the shape "
                        f"{list(own_shape)}, and a tensor of shape {list(shape)} needs {needed}. "
                        "Another tokenizer in the recipe changes rows of embedding and head. "
                        f"{step.remedy}"
                    )


def _shapes(kind: str, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes that a tensor's statistics may have; none where anything goes."""
    match kind:
        case "activations":
            return [shape[-1:]]
        case "gram":
            return [shape[-1:] * 2]
        case "fisher":
            return [shape, ()]
        case "sensitivity":
            return [()]
    return []


def _needs(
    step: Step,
    base: Checkpoint | None,
    models: Sequence[Checkpoint],
    first_merge: Callable[[], tuple[str, str]],
) -> list[RequiredStatistics]:
    """The statistics that a step must have, the base's first."""
    needs = []
    for kind, whose in cast("Mapping[Kind, Whose]", step.traits.stats).items():
        if base is None and whose != "models":
            raise CalibrationError(
                f"{step.plugin.name} reads statistics of the base, and the recipe names no base. "
                "Add 'base: ...' (--base on the command line)."
            )
        if base is not None and whose == "merged":
            digest, command = first_merge()
            command = f"{command} && {calibrate_command(STEP, kind, base.name)}"
            of = f"what the recipe gives without {step.plugin.name}, against the base {base.name}"
            needs.append(RequiredStatistics(kind, of, digest, base.fingerprint, None, command))
            continue
        wanted = [("the base", base)] if base is not None and whose != "models" else []
        wanted += [("the model", model) for model in models if whose != "base"]
        for role, checkpoint in wanted:
            command = calibrate_command(checkpoint.name, kind)
            of = f"{role} {checkpoint.name}"
            needs.append(
                RequiredStatistics(kind, of, checkpoint.fingerprint, None, checkpoint, command)
            )
    return needs


def _read(step: Step, needs: Sequence[RequiredStatistics]) -> list[StatisticsFile]:
    """The files, read as far as their headers; for a missing one, the command that makes it."""
    files: list[StatisticsFile] = []
    failed: list[tuple[str, CalibrationError]] = []
    for name in dict.fromkeys(step.files):
        path = Path(name).expanduser()
        try:
            calibration = read_calibration(path)
            digest = hashlib.sha256()
            for piece in samples_of(path):
                digest.update(piece)
            header = open_header(path)
        except CalibrationError as error:
            failed.append((name, error))
            continue
        files.append(StatisticsFile(path, calibration, header, digest.hexdigest()[:16]))
    if failed:
        name, why = failed[0]
        commands = list(dict.fromkeys(n.command for n in needs if not any(map(n.met_by, files))))
        if len(commands) == 1 and not Path(name).expanduser().exists():
            commands = [f"{commands[0].rpartition(' -o ')[0]} -o {shlex.quote(name)}"]
        raise CalibrationError(f"{step.plugin.name}: {why} {' && '.join(commands)}".rstrip())
    return files


def _why_unused(name: str, file: StatisticsFile, needs: Sequence[RequiredStatistics]) -> str:
    """Why a step cannot use a file."""
    record = file.calibration
    of_kind = [need for need in needs if need.kind == record.kind]
    if not of_kind:
        kinds = " and ".join(dict.fromkeys(_words(need.kind) for need in needs))
        return (
            f"{file.path} holds the {_words(record.kind)} of {record.model_name}; "
            f"{name} reads {kinds}."
        )
    wanted = " or ".join(need.of for need in of_kind)
    measured = record.model_name + (f" against {record.against_name}" if record.against else "")
    if any(
        need.checkpoint and need.checkpoint.name == record.model_name and not need.against
        for need in of_kind
    ):
        return (
            f"{file.path} was measured on {measured}, which has changed since: its weights or its "
            "config differ now."
        )
    return f"{file.path} was measured on {measured}; {name} reads statistics of {wanted}."


def _check_finite(name: str, file: StatisticsFile, commands: Sequence[str]) -> None:
    """Refuse values that are not finite, where there are few enough to look at all of them."""
    if file.calibration.kind in SMALL:
        for tensor, values in file.calibration.tensors.items():
            if not bool(values.isfinite().all()):
                raise CalibrationError(
                    f"{name}: {file.path} holds NaN or Inf for '{tensor}'. Measure again: "
                    f"{' && '.join(commands)}"
                )


def _matching_file(
    name: str, need: RequiredStatistics, files: Sequence[StatisticsFile]
) -> StatisticsFile:
    """The one file that holds the statistics that a step needs."""
    matching_files = [file for file in files if need.met_by(file)]
    if not matching_files:
        raise CalibrationError(
            f"{name} also reads {_words(need.kind)} of {need.of}, which none of its stats holds. "
            f"Make them and add their file: {need.command}"
        )
    if len(matching_files) > 1:
        paths = " and ".join(str(file.path) for file in matching_files)
        raise CalibrationError(
            f"{name}: {paths} both hold {_words(need.kind)} of {need.of}. Leave one out."
        )
    return matching_files[0]


def _statistics(need: RequiredStatistics, file: StatisticsFile) -> StepStatistics:
    """A file's statistics, in the form that steps read."""
    model, tensors = need.checkpoint, file.calibration.tensors
    if model is None:
        return StepStatistics(tensors)
    sizes = {name: math.prod(spec.shape) for name, spec in model.specs.items()}
    return StepStatistics(tensors, sizes, tied=model.tied, layout=model.layout)


def _notes(name: str, chosen: Sequence[StatisticsFile]) -> list[str]:
    """What the user should know of a step's files though it is no error."""
    records = {file.path: file.calibration for file in chosen}
    notes = [
        f"{name}: {path} was measured on {record.samples} sample{'s' * (record.samples > 1)}; "
        f"fewer than {FEW} say little."
        for path, record in records.items()
        if record.samples < FEW
    ]
    if len({record.data for record in records.values()}) > 1:
        of = " and ".join(f"{r.model_name} on {r.data_name}" for r in records.values())
        notes.append(
            f"{name}: its statistics are of different data ({of}). That is right where each model "
            "is measured on its own answers; else measure both on the same data."
        )
    return notes


def _words(kind: str) -> str:
    """A kind of statistics as people read it."""
    return {"gram": "Gram matrices", "fisher": "Fisher information"}.get(
        kind, kind.replace("_", " ")
    )


def _files(count: int) -> str:
    return "the file" if count == 1 else "the files"


def _flag(key: str, count: int) -> str:
    """How the command line names files as a step's."""
    return f"--set {key}=FILE" if count == 1 else f'--set \'{key}=["FILE", "FILE"]\''
