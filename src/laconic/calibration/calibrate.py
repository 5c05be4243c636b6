"""Calibration: what merging methods need to know of a model, measured over a few samples."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from laconic.calibration.estimate import Cost, check_cost, estimate
from laconic.calibration.record import KINDS, Calibration, Kind, merge_of
from laconic.calibration.samples import (
    RANDOM,
    Samples,
    SampleSelection,
    batches,
    load_samples,
    same_tokens,
)
from laconic.checkpoints.adapter import open_weights
from laconic.checkpoints.layout import natural
from laconic.errors import CalibrationError, did_you_mean
from laconic.runtime import Progress, silent, using_threads, versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from laconic.calibration.forward import StageObserver
    from laconic.calibration.gradients import Labels
    from laconic.calibration.model import Skeleton
    from laconic.calibration.work import WorkFolder
    from laconic.checkpoints.checkpoint import Checkpoint

logger = logging.getLogger(__name__)
#: Fewer samples than this are measured, but with a warning.
FEW: Final = 10
DTYPES: Final = ("auto", "float32", "bfloat16", "float16")
Reduce = Literal["none", "tensor"]


@dataclass(frozen=True)
class CalibrationOptions:
    """Where and how fast; of these only the type and the batches touch the last digits.

    Attributes:
        device: ``auto`` takes a GPU where there is one; else ``cpu`` or ``cuda``.
        dtype: What the model computes in; ``auto`` is float32 on a CPU, and the checkpoint's own
            type on a GPU. Statistics are summed in float32 or float64.
        batch_tokens: The most tokens of a batch, padding included.
        threads: CPU threads; 0 is torch's own number.
    """

    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: int = 4096
    threads: int = 0


@dataclass(frozen=True)
class CalibrationPlan:
    """A calibration that was checked and can start.

    Attributes:
        kind: Which statistics.
        skeletons: The model, and the one it is compared with, if any.
        samples: What they are shown.
        settings: What else decides the figures.
        cost: What it takes, estimated.
        notes: What the user should know.
        means: Where and how fast.
    """

    kind: Kind
    skeletons: tuple[Skeleton, ...]
    samples: Samples
    settings: Mapping[str, Any]
    cost: Cost
    means: CalibrationOptions
    notes: tuple[str, ...] = field(default=())

    @property
    def digest(self) -> str:
        """Of all that decides the bytes of the output."""
        ids = [(item.ids, item.start) for item in self.samples.items]
        models = [skeleton.checkpoint.fingerprint for skeleton in self.skeletons]
        told = [self.kind, models, dict(self.settings), self.means.batch_tokens, ids]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """The measurement as plain values, for people and programs."""
        return {
            "stats": self.kind,
            "models": [skeleton.checkpoint.name for skeleton in self.skeletons],
            "data": self.samples.name,
            "samples": len(self.samples.items),
            "tokens": self.samples.tokens,
            "cut": self.samples.cut,
            "settings": dict(self.settings),
            "bytes_memory": self.cost.memory,
            "bytes_disk": self.cost.disk,
            "seconds": round(self.cost.seconds, 1),
            "notes": list(self.notes),
        }


def prepare(
    model: str | Path | Checkpoint,
    data: str,
    kind: Kind,
    *,
    against: str | Path | Checkpoint | None = None,
    choice: SampleSelection | None = None,
    reduce: Reduce = "none",
    labels: Labels = "sampled",
    means: CalibrationOptions | None = None,
) -> CalibrationPlan:
    """Check a calibration against models and data; no weights are read.

    Args:
        model: The checkpoint to measure.
        data: A file of rows, a run's folder, or ``random`` for ``fisher``.
        kind: Which statistics.
        against: The model to compare it with, for ``mutual_information``.
        choice: What of the data is measured.
        reduce: For ``fisher``: ``tensor`` keeps one number for each tensor.
        labels: For ``fisher``: what gradients are taken of.
        means: Where and how fast.

    Raises:
        CalibrationError: For what does not fit together, or would not fit this machine.
        CheckpointError: For a checkpoint that cannot be read, or whose weights are packed.
    """
    means, choice = means or CalibrationOptions(), choice or SampleSelection()
    _check_kind(kind, data, against=against, reduce=reduce)
    device, threads = _device(means.device), means.threads
    if threads < 0 or means.batch_tokens < 1:
        raise CalibrationError("--batch-tokens must be at least 1, and --threads at least 0.")
    models = [open_weights(model), *([] if against is None else [open_weights(against)])]
    skeletons = tuple(_skeleton(each, device, means.dtype) for each in models)
    samples = load_samples(models[0], data, choice, rows=skeletons[0].rows)
    _check_samples(samples, kind)
    if against is not None:
        _check_pair(skeletons, samples)
    settings: dict[str, Any] = {
        "answers": choice.answers,
        "raw": choice.raw,
        "max_tokens": choice.max_tokens,
        "limit": choice.limit,
        "pick": choice.pick,
        "seed": choice.seed,
        "dtype": str(skeletons[0].dtype).removeprefix("torch."),
        "device": device,
        "versions": versions("torch", "transformers"),
    }
    if kind == "fisher":
        settings |= {"reduce": reduce, "labels": labels}
    whole = kind == "fisher" and reduce == "none"
    cost = estimate(
        skeletons,
        kind,
        [len(item.ids) for item in samples.items],
        batch_tokens=means.batch_tokens,
        whole=whole,
    )
    notes = _notes(samples, choice, kind)
    return CalibrationPlan(kind, skeletons, samples, settings, cost, means, notes)


def calibrate(
    measurement: CalibrationPlan, output: str | Path, *, progress: Progress = silent
) -> Calibration:
    """Measure, and write the calibration's file.

    The file appears only when it is whole. A calibration that was stopped goes on where it was when
    it is started again with the same output, and gives the same bytes.

    Args:
        measurement: What `prepare` gave.
        output: The file to write; one that is there is replaced.
        progress: Told before each piece of work.

    Returns:
        The calibration; its notes on what was found went to the log.

    Raises:
        CalibrationError: For a machine too small, a value that is not finite, naming where and in
            which sample, or a file that cannot be written.
    """
    from laconic.calibration.work import WorkFolder

    target = Path(output).expanduser()
    if target.is_dir():
        raise CalibrationError(
            f"{target} is a folder. Give the file to write: -o stats.safetensors"
        )
    check_cost(measurement.cost, target, measurement.skeletons[0].device)
    for note in measurement.notes:
        logger.warning("%s", note)
    for skeleton in measurement.skeletons:
        skeleton.checkpoint.fetch()
    with WorkFolder(target, measurement.digest) as work, _threads(measurement.means.threads):
        try:
            tensors = _measured(measurement, work, progress)
            _value(measurement, tensors).write(target)
        except OSError as error:
            raise CalibrationError(
                f"{work.folder} cannot be written: {error.strerror or error}. What is finished is "
                "kept there: run the same command again when this is mended."
            ) from error
        work.clear()
    return _value(measurement, tensors)


def _measured(
    measurement: CalibrationPlan, work: WorkFolder, progress: Progress
) -> dict[str, Tensor]:
    """The statistics; where they cannot be had, nothing is kept."""
    import torch

    try:
        return _measure(measurement, work, progress)
    except torch.OutOfMemoryError:
        raise CalibrationError(
            "The device's memory is too small. Run the same command with a lower --batch-tokens or "
            "--max-tokens, --dtype bfloat16, or --device cpu."
        ) from None
    except CalibrationError:
        work.clear()
        raise


def _measure(
    measurement: CalibrationPlan, work: WorkFolder, progress: Progress
) -> dict[str, Tensor]:
    """The statistics, in the order of the layers."""
    from laconic.calibration.forward import make_batches, run_forward
    from laconic.calibration.gradients import run_gradients
    from laconic.calibration.information import MutualInformation
    from laconic.calibration.inputs import InputStatistics, findings

    kind, items = measurement.kind, measurement.samples.items
    skeleton = measurement.skeletons[0]
    if kind == "sensitivity" or kind == "fisher":
        tensors = run_gradients(
            skeleton,
            items,
            work,
            progress,
            kind=kind,
            whole=measurement.settings.get("reduce") == "none",
            labels=measurement.settings.get("labels", "data"),
            seed=measurement.settings["seed"],
        )
    else:
        groups = batches([len(item.ids) for item in items], measurement.means.batch_tokens)
        watch: StageObserver = (
            InputStatistics(kind) if kind != "mutual_information" else MutualInformation(len(items))
        )
        made = make_batches(items, groups, skeleton.device)
        tensors, facts = run_forward(measurement.skeletons, made, watch, work, progress)
        for note in findings(facts):
            logger.warning("%s", note)
    return {name: tensors[name] for name in sorted(tensors, key=natural)}


def _value(measurement: CalibrationPlan, tensors: Mapping[str, Tensor]) -> Calibration:
    models = [skeleton.checkpoint for skeleton in measurement.skeletons]
    return Calibration(
        kind=measurement.kind,
        model=models[0].fingerprint,
        model_name=models[0].name,
        against=models[1].fingerprint if models[1:] else None,
        against_name=models[1].name if models[1:] else None,
        data=measurement.samples.digest,
        data_name=measurement.samples.name,
        samples=len(measurement.samples.items),
        tokens=measurement.samples.tokens,
        settings={**measurement.settings, **merge_of(models[0].folder)},
        tensors=tensors,
    )


def _check_kind(kind: str, data: str, *, against: object, reduce: str) -> None:
    """Refuse what statistics cannot be asked for together."""
    if kind not in KINDS:
        raise CalibrationError(f"--stats {kind}: {did_you_mean(kind, KINDS)}")
    if kind == "mutual_information" and against is None:
        raise CalibrationError(
            "mutual_information compares two models: give the second with --against MODEL (for "
            "acm, the merged model beside its base)."
        )
    if kind != "mutual_information" and against is not None:
        raise CalibrationError(f"--against is for mutual_information; {kind} measures one model.")
    if data == RANDOM and kind != "fisher":
        raise CalibrationError(
            f"--data random is for fisher, which can do without data; {kind} needs some."
        )
    if reduce != "none" and kind != "fisher":
        raise CalibrationError(f"--reduce is for fisher; {kind} has no use for it.")


def _check_samples(samples: Samples, kind: Kind) -> None:
    """Refuse samples too few, or without what the statistics are taken of."""
    count = len(samples.items)
    if kind == "mutual_information" and count < 2:
        raise CalibrationError(
            "mutual_information needs at least 2 samples, better 100: what counts is how they "
            f"differ; {samples.name} has {count}."
        )
    for item in samples.items:
        if kind == "sensitivity" and item.start >= len(item.ids):
            raise CalibrationError(
                f"{item.where} has no answer within the most tokens; sensitivity is the gradient "
                "of answers. Add one, leave the row out, or give a higher --max-tokens."
            )
        if kind in ("sensitivity", "fisher") and len(item.ids) < 2:
            raise CalibrationError(f"{item.where} has one token only, and none to predict.")


def _check_pair(skeletons: tuple[Skeleton, ...], samples: Samples) -> None:
    """Refuse two models whose outputs cannot be laid side by side."""
    ours, theirs = skeletons
    for what, mine, other in (
        ("layers", ours.layers, theirs.layers),
        ("channels", ours.width, theirs.width),
    ):
        if mine != other:
            raise CalibrationError(
                f"{ours.checkpoint.name} has {mine} {what}, {theirs.checkpoint.name} has {other}: "
                "mutual_information compares models of one shape."
            )
    if theirs.rows <= max(number for item in samples.items for number in item.ids):
        raise CalibrationError(
            f"The samples hold tokens beyond the {theirs.rows} of {theirs.checkpoint.name}. Give "
            "models of one tokenizer."
        )
    same_tokens(samples.items, ours.checkpoint, theirs.checkpoint)


def _notes(samples: Samples, choice: SampleSelection, kind: Kind) -> tuple[str, ...]:
    notes = []
    if len(samples.items) < FEW:
        notes.append(
            f"Only {len(samples.items)} samples: the statistics depend on the choice of them. "
            "The papers take 100."
        )
    if samples.cut:
        notes.append(
            f"{samples.cut} of {len(samples.items)} samples were cut at {choice.max_tokens} tokens "
            "(--max-tokens), or at the model's window, at their end."
        )
    return tuple(notes)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise CalibrationError(f"--device {name}: {did_you_mean(name, ('auto', 'cpu', 'cuda'))}")
    if name == "cuda" and not torch.cuda.is_available():
        raise CalibrationError("--device cuda: there is no CUDA device here. Give cpu or auto.")
    return name


def _skeleton(checkpoint: Checkpoint, device: str, dtype: str) -> Skeleton:
    from laconic.calibration.model import Skeleton
    from laconic.checkpoints.header import FLOATS

    if dtype not in DTYPES:
        raise CalibrationError(f"--dtype {dtype}: {did_you_mean(dtype, DTYPES)}")
    if dtype == "auto":
        embedding = checkpoint.specs.get(checkpoint.layout.embedding or "")
        stored = FLOATS.get(embedding.dtype if embedding else "F32", "float32")
        dtype = "float32" if device == "cpu" else stored
    return Skeleton(checkpoint, device=device, dtype=dtype)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """A number of CPU threads; 0 leaves torch's own."""
    with using_threads(count) if count else nullcontext():
        yield
