"""A merge divided over the workers of a Ray cluster, one output file at a time, on shared storage.

One worker at a time writes a file: on network file systems, two machines that write to the same
page of a file lose bytes.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from laconic.checkpoints.writer import CheckpointWriter, WeightFile
from laconic.errors import LaconicError, RecipeError, WorkerError
from laconic.merging.engine.streaming import Engine
from laconic.merging.plan import Plan, plan
from laconic.runtime import silent, versions

if TYPE_CHECKING:
    from laconic.checkpoints.header import TensorSpec
    from laconic.merging.engine.members import Array
    from laconic.merging.engine.options import ExecutionOptions
    from laconic.merging.engine.streaming import Limits
    from laconic.merging.engine.thresholds import CountRequest
    from laconic.merging.recipe import Recipe
    from laconic.methods.contract.ranking import Trim

    OverModel = Mapping[tuple[int, Trim], Mapping[str, Limits]]

#: The packages whose versions decide the bytes; they must be the same on all machines.
PACKAGES: Final = ("numpy", "numba", "torch")
#: How long a cluster's address may take to answer, in seconds.
PATIENCE: Final = 10
SHARED: Final = (
    "The checkpoints, the Hub's cache and the output's parent folder must be on storage that all "
    "machines see under the same paths."
)


def check_address(address: str, device: str) -> None:
    """Refuse to divide a merge where Ray is not installed, or cannot do it.

    Raises:
        RecipeError: Saying what to do instead.
    """
    if device != "cpu":
        raise RecipeError(f"Workers merge on processors, not on '{device}': leave the device out.")
    if address not in {"auto", "local"} and not address.rpartition(":")[2].isdigit():
        raise RecipeError(f"ray '{address}': write auto, local or HOST:PORT.")
    if "://" in address:
        raise RecipeError(
            f"ray '{address}': run the merge on a machine of the cluster, which sees the same "
            "storage, with auto or HOST:PORT."
        )
    spec = importlib.util.find_spec("ray")
    if spec is None or spec.origin is None:  # a folder that happens to be called ray has no origin
        raise RecipeError(
            "Dividing a merge over workers needs Ray: pip install 'laconic[ray]', on all machines."
        )


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be part of a Ray cluster for a while; without an address, or inside one already, do nothing.

    Raises:
        WorkerError: Where no cluster answers.
    """
    ray = None if address is None else _ray()
    if ray is None or ray.is_initialized():
        yield
        return
    extra: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        _knock(str(address))
        ray.init(address, log_to_driver=False, logging_level="error", **extra)
    except (OSError, RuntimeError, ValueError) as error:
        raise WorkerError(
            f"No Ray cluster answers at '{address}' ({_first_line(error)}). Start one with 'ray "
            "start --head', or use local."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def spread(engine: Engine, writer: CheckpointWriter) -> None:
    """Let the workers merge every tensor that is not finished; this process notes what is.

    Args:
        engine: Of this process.
        writer: Its writer, open.

    Raises:
        CheckpointError: For a value that is not finite, naming tensor and model.
        WorkerError: Where workers see other files than this process, or died again and again.
        OSError: Where a worker cannot write.
    """
    writer.close()
    files = {
        file: [spec for spec in specs if spec.name not in writer.finished]
        for file, specs in writer.shards.items()
    }
    files = {file: specs for file, specs in files.items() if specs}
    workers = _Workers(engine, writer.work.resolve(), len(files))
    engine.make_counter = partial(_RemoteCounter, workers, writer)
    if files:
        engine.find_over_model()
    limits = workers.ray.put(engine.over_model)
    jobs = [
        (file, writer.shards[file], [spec.name for spec in left], limits)
        for file, left in sorted(files.items(), key=lambda item: -sum(s.nbytes for s in item[1]))
    ]
    for name, facts in workers.run(_merge, jobs):
        engine.note(name, facts["moved"])


@dataclass(frozen=True)
class _WorkerJob:
    """What every worker must know."""

    recipe: Recipe
    digest: str
    versions: dict[str, str]
    folder: str
    work: Path
    options: ExecutionOptions


class _Workers:
    """Runs generator functions on the cluster's workers, spread over its machines."""

    def __init__(self, engine: Engine, work: Path, files: int) -> None:
        self.ray = _ray()
        self.threads = self._threads(engine.options.threads, files)
        options = replace(engine.options, ray=None, threads=self.threads)
        self.job = self.ray.put(
            _WorkerJob(
                recipe=engine.plan.recipe,
                digest=engine.plan.digest,
                versions=versions(*PACKAGES),
                folder=str(Path.cwd()),
                work=work,
                options=options,
            )
        )
        self.environment = _environment(engine.plan)

    def run(self, function: Any, jobs: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """What a function yields for each of some arguments, as it comes."""
        task = self.ray.remote(function).options(
            num_cpus=self.threads,
            num_returns="streaming",
            scheduling_strategy="SPREAD",
            runtime_env=self.environment,
        )
        running = [task.remote(self.job, *arguments) for arguments in jobs]
        try:
            while running:
                (ready, *_), _ = self.ray.wait(running, num_returns=1)
                try:
                    yield self._value(next(ready))
                except StopIteration:
                    running.remove(ready)
        finally:
            for left in running:
                self.ray.cancel(left)

    def _value(self, reference: Any) -> Any:
        """A worker's answer, or its error as it raised it."""
        failures = self.ray.exceptions
        try:
            return self.ray.get(reference)
        except failures.RayTaskError as error:
            if isinstance(error.cause, LaconicError | OSError):
                raise error.cause from None
            raise
        except failures.RayError as error:
            raise WorkerError(
                f"A worker died again and again, or its machine did ({_first_line(error)})."
            ) from error

    def _threads(self, threads: int | None, files: int) -> int:
        """How many processors a worker takes: as many as there are for each file."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        processors = [int(resources.get("CPU", 0)) for resources in nodes]
        most = max(processors, default=0)
        if most < (threads or 1):
            raise WorkerError(
                f"No machine of the Ray cluster has {threads or 1} processors: the largest has "
                f"{most}. Ask for fewer threads, or add machines."
            )
        return threads or min(most, max(1, sum(processors) // max(1, files)))


class _RemoteCounter:
    """Counts the magnitudes of tensors together, each worker those of an output file."""

    def __init__(
        self, workers: _Workers, writer: CheckpointWriter, engine: Engine, chains: Any, number: int
    ) -> None:
        names = {chain.members.name for chain in chains}
        self.parts = [
            (file, specs, merged)
            for file, specs in writer.shards.items()
            if (merged := [spec.name for spec in specs if spec.name in names])
        ]
        self.workers = workers
        self.engine = engine
        self.number = number

    def __call__(self, request: CountRequest) -> Array:
        limits = self.workers.ray.put(self.engine.over_model)
        jobs = [(*part, limits, self.number, request) for part in self.parts]
        total = np.zeros((), np.int64)
        for done, counts in enumerate(self.workers.run(_count, jobs), start=1):
            total = total + counts
            self.engine.progress(done, len(jobs), "threshold")
        return total


def _merge(
    job: _WorkerJob, file: str, specs: Sequence[TensorSpec], names: Sequence[str], limits: OverModel
) -> Iterator[tuple[str, dict[str, Any]]]:
    """In a worker: merge some tensors of a weight file; each one's name and facts, when it is."""
    with _worker_engine(job, file, specs, names, limits) as (engine, weight_file):
        for name in engine.merge_tensors():
            yield name, weight_file.facts.pop(name)


def _count(
    job: _WorkerJob,
    file: str,
    specs: Sequence[TensorSpec],
    names: Sequence[str],
    limits: OverModel,
    number: int,
    request: CountRequest,
) -> Iterator[Array]:
    """In a worker: the counts over some tensors of a weight file, as `Engine.count` has them."""
    with _worker_engine(job, file, specs, names, limits) as (engine, _):
        yield engine.count(names, number, request)


@contextmanager
def _worker_engine(
    job: _WorkerJob, file: str, specs: Sequence[TensorSpec], names: Sequence[str], limits: OverModel
) -> Iterator[tuple[Engine, WeightFile]]:
    """In a worker: an engine for some tensors of a weight file, once its plan is the same.

    Raises:
        WorkerError: Where this worker sees other files or packages than the job's process.
    """
    here = f"The worker on {platform.node()}"
    installed = versions(*PACKAGES)
    if differ := [
        f"{k} {v}, not {job.versions[k]}" for k, v in installed.items() if v != job.versions[k]
    ]:
        raise WorkerError(f"{here} has {', '.join(differ)}. Install the same on all machines.")
    with chdir(job.folder) if Path(job.folder).is_dir() else nullcontext():
        try:
            planned = plan(job.recipe)
        except LaconicError as error:
            raise WorkerError(f"{here} cannot make the same plan: {error} {SHARED}") from None
        missing = [path for model in planned.fetched for path in model.missing]
        if planned.digest != job.digest or missing:
            raise WorkerError(f"{here} sees other checkpoints than the first machine. {SHARED}")
        others = {spec.name for spec in planned.specs}.difference(names)
        try:
            weight_file = WeightFile(job.work / file, specs, others)
        except FileNotFoundError:
            raise WorkerError(f"{here} does not see {job.work / file}. {SHARED}") from None
        with weight_file:
            engine = Engine(planned, job.options, weight_file, silent)
            engine.over_model.update(limits)
            yield engine, weight_file


def _environment(plan: Plan) -> dict[str, Any]:
    """What lets workers find models of the Hub where the first machine has put them."""
    if all(model.snapshot is None for model in plan.fetched):
        return {}
    from huggingface_hub.constants import HF_HUB_CACHE

    return {"env_vars": {"HF_HUB_CACHE": HF_HUB_CACHE, "HF_HUB_OFFLINE": "1"}}


def _ray() -> Any:
    """Ray, which is imported where it is asked for."""
    return importlib.import_module("ray")


def _knock(address: str) -> None:
    """Fail at once where nobody listens at ``host:port``; Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if host:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n", 1)[0] or type(error).__name__).rstrip(".")
