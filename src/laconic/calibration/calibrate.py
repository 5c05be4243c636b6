"""Calibration: statistics of a model that merging methods need, measured over a few samples."""

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
#: With fewer samples than this, the user gets a warning.
FEW: Final = 10
DTYPES: Final = ("auto", "float32", "bfloat16", "float16")
Reduce = Literal["none", "tensor"]


@dataclass(frozen=True)
class CalibrationOptions:
    """How a calibration computes. Only `dtype` and `batch_tokens` can change the last digits.

    Attributes:
        device: ``cpu``, ``cuda``, or ``auto``, which takes a GPU if there is one.
        dtype: The type that the model computes in; ``auto`` is float32 on a CPU and the
            checkpoint's own type on a GPU. Statistics are summed in float32 or float64.
        batch_tokens: The most tokens of a batch, padding included.
        threads: CPU threads; 0 keeps torch's own number.
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
        skeletons: The model, and the model that it is compared with, if any.
        samples: The samples that the models read.
        settings: Everything else that decides the statistics, by name.
        cost: The estimated memory, disk and time.
        options: How it computes.
        notes: What the user should know, in sentences.
    """

    kind: Kind
    skeletons: tuple[Skeleton, ...]
    samples: Samples
    settings: Mapping[str, Any]
    cost: Cost
    options: CalibrationOptions
    notes: tuple[str, ...] = field(default=())

    @property
    def digest(self) -> str:
        """A digest of everything that decides the bytes of the output."""
        ids = [(item.ids, item.start) for item in self.samples.items]
        models = [skeleton.checkpoint.fingerprint for skeleton in self.skeletons]
        decisive = [self.kind, models, dict(self.settings), self.options.batch_tokens, ids]
        return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]

    def describe(self) -> dict[str, Any]:
        """The plan as plain values, for ``--dry-run`` and for other programs."""
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
    selection: SampleSelection | None = None,
    reduce: Reduce = "none",
    labels: Labels = "sampled",
    options: CalibrationOptions | None = None,
) -> CalibrationPlan:
    """Check a calibration before it starts; no weights are read.

    Args:
        model: The checkpoint to measure.
        data: A file of rows, a run's folder, or ``random`` for ``fisher``.
        kind: Which statistics.
        against: The model to compare it with, for ``mutual_information``.
        selection: Which samples of the data are used.
        reduce: For ``fisher``: ``tensor`` keeps one number for each tensor.
        labels: For ``fisher``: the tokens whose log-likelihood is differentiated.
        options: How it computes.

    Raises:
        CalibrationError: For options, models or data that do not fit together.
        CheckpointError: For a checkpoint that cannot be read, or whose weights are packed.
    """
    options, selection = options or CalibrationOptions(), selection or SampleSelection()
    _check_kind(kind, data, against=against, reduce=reduce)
    device, threads = _device(options.device), options.threads
    if threads < 0 or options.batch_tokens < 1:
        raise CalibrationError("--batch-tokens must be at least 1, and --threads at least 0.")
    models = [open_weights(model), *([] if against is None else [open_weights(against)])]
    skeletons = tuple(_skeleton(each, device, options.dtype) for each in models)
    samples = load_samples(models[0], data, selection, rows=skeletons[0].rows)
    _check_samples(samples, kind)
    if against is not None:
        _check_pair(skeletons, samples)
    settings: dict[str, Any] = {
        "answers": selection.answers,
        "raw": selection.raw,
        "max_tokens": selection.max_tokens,
        "limit": selection.limit,
        "pick": selection.pick,
        "seed": selection.seed,
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
        batch_tokens=options.batch_tokens,
        whole=whole,
    )
    notes = _notes(samples, selection, kind)
    return CalibrationPlan(kind, skeletons, samples, settings, cost, options, notes)


def calibrate(
    plan: CalibrationPlan, output: str | Path, *, progress: Progress = silent
) -> Calibration:
    """Measure the statistics and write them to a file.

    The file appears only when it is complete. If a calibration was stopped, the same call with the
    same output continues it and writes the same bytes.

    Args:
        plan: The result of `prepare`.
        output: The file to write; an existing file is replaced.
        progress: Called before each piece of work.

    Returns:
        The calibration. Findings, such as experts that no token reached, go to the log.

    Raises:
        CalibrationError: If memory or disk are too small, if a value is not finite (the message
            names the place and the sample), or if the file cannot be written.
    """
    from laconic.calibration.work import WorkFolder

    target = Path(output).expanduser()
    if target.is_dir():
        raise CalibrationError(
            f"{target} is a folder. Give the file to write: -o stats.safetensors"
        )
    check_cost(plan.cost, target, plan.skeletons[0].device)
    for note in plan.notes:
        logger.warning("%s", note)
    for skeleton in plan.skeletons:
        skeleton.checkpoint.fetch()
    with WorkFolder(target, plan.digest) as work, _threads(plan.options.threads):
        try:
            tensors = _measured(plan, work, progress)
            _value(plan, tensors).write(target)
        except OSError as error:
            raise CalibrationError(
                f"{work.folder} cannot be written: {error.strerror or error}. Finished work is "
                "kept there: solve the problem, then run the same command again."
            ) from error
        work.clear()
    return _value(plan, tensors)


def _measured(plan: CalibrationPlan, work: WorkFolder, progress: Progress) -> dict[str, Tensor]:
    """The statistics; the work folder is deleted where they cannot be computed at all."""
    import torch

    try:
        return _measure(plan, work, progress)
    except torch.OutOfMemoryError:
        raise CalibrationError(
            "The device has too little memory. Run the same command with a lower --batch-tokens or "
            "--max-tokens, --dtype bfloat16, or --device cpu."
        ) from None
    except CalibrationError:
        work.clear()
        raise


def _measure(plan: CalibrationPlan, work: WorkFolder, progress: Progress) -> dict[str, Tensor]:
    """The statistics, in the order of the layers."""
    from laconic.calibration.forward import make_batches, run_forward
    from laconic.calibration.gradients import run_gradients
    from laconic.calibration.information import MutualInformation
    from laconic.calibration.inputs import InputStatistics, findings

    kind, items = plan.kind, plan.samples.items
    skeleton = plan.skeletons[0]
    if kind == "sensitivity" or kind == "fisher":
        tensors = run_gradients(
            skeleton,
            items,
            work,
            progress,
            kind=kind,
            whole=plan.settings.get("reduce") == "none",
            labels=plan.settings.get("labels", "data"),
            seed=plan.settings["seed"],
        )
    else:
        groups = batches([len(item.ids) for item in items], plan.options.batch_tokens)
        observer: StageObserver = (
            InputStatistics(kind) if kind != "mutual_information" else MutualInformation(len(items))
        )
        padded = make_batches(items, groups, skeleton.device)
        tensors, facts = run_forward(plan.skeletons, padded, observer, work, progress)
        for note in findings(facts):
            logger.warning("%s", note)
    return {name: tensors[name] for name in sorted(tensors, key=natural)}


def _value(plan: CalibrationPlan, tensors: Mapping[str, Tensor]) -> Calibration:
    models = [skeleton.checkpoint for skeleton in plan.skeletons]
    return Calibration(
        kind=plan.kind,
        model=models[0].fingerprint,
        model_name=models[0].name,
        against=models[1].fingerprint if models[1:] else None,
        against_name=models[1].name if models[1:] else None,
        data=plan.samples.digest,
        data_name=plan.samples.name,
        samples=len(plan.samples.items),
        tokens=plan.samples.tokens,
        settings={**plan.settings, **merge_of(models[0].folder)},
        tensors=tensors,
    )


def _check_kind(kind: str, data: str, *, against: object, reduce: str) -> None:
    """Refuse options that do not belong to the kind of statistics."""
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
        raise CalibrationError(f"--data random is for fisher only; {kind} needs real data.")
    if reduce != "none" and kind != "fisher":
        raise CalibrationError(f"--reduce is for fisher only; {kind} does not use it.")


def _check_samples(samples: Samples, kind: Kind) -> None:
    """Refuse too few samples, and samples without the tokens that the statistics need."""
    count = len(samples.items)
    if kind == "mutual_information" and count < 2:
        raise CalibrationError(
            "mutual_information needs at least 2 samples, better 100, because it measures how "
            f"they differ; {samples.name} has {count}."
        )
    for item in samples.items:
        if kind == "sensitivity" and item.start >= len(item.ids):
            raise CalibrationError(
                f"{item.where} has no answer within the most tokens; sensitivity is the gradient "
                "of answers. Add an answer, remove the row, or give a higher --max-tokens."
            )
        if kind in ("sensitivity", "fisher") and len(item.ids) < 2:
            raise CalibrationError(
                f"{item.where} has one token only: there is no token to predict."
            )


def _check_pair(skeletons: tuple[Skeleton, ...], samples: Samples) -> None:
    """Refuse two models whose outputs cannot be compared token by token."""
    ours, theirs = skeletons
    for what, mine, other in (
        ("layers", ours.layers, theirs.layers),
        ("channels", ours.width, theirs.width),
    ):
        if mine != other:
            raise CalibrationError(
                f"{ours.checkpoint.name} has {mine} {what}, {theirs.checkpoint.name} has {other}: "
                "mutual_information compares models of the same shape."
            )
    if theirs.rows <= max(number for item in samples.items for number in item.ids):
        raise CalibrationError(
            f"The samples contain token ids above the {theirs.rows} of {theirs.checkpoint.name}. "
            "Compare models with the same tokenizer."
        )
    same_tokens(samples.items, ours.checkpoint, theirs.checkpoint)


def _notes(samples: Samples, selection: SampleSelection, kind: Kind) -> tuple[str, ...]:
    notes = []
    if len(samples.items) < FEW:
        notes.append(
            f"Only {len(samples.items)} samples: the statistics depend on which samples these are. "
            "The papers use 100."
        )
    if samples.cut:
        notes.append(
            f"{samples.cut} of {len(samples.items)} samples were cut at {selection.max_tokens} "
            "tokens (--max-tokens), or at the model's window, at their end."
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
    """Use a number of CPU threads; 0 keeps torch's own number."""
    with using_threads(count) if count else nullcontext():
        yield
