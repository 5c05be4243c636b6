"""The lab's models: where the shipped ones are, and how to train them from random weights."""

from __future__ import annotations

import hashlib
import json
import platform
import random
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.layout import EMBED
from laconic.errors import LaconicError, did_you_mean
from laconic.files.atomic import writing, writing_folder
from laconic.files.json import read_json, write_json
from laconic.lab import corpus, tokenizer
from laconic.lab.fit import fit, misread, network
from laconic.lab.phases import MEMBERS, MISREAD, PHASES, Phase
from laconic.lab.sizes import MINI, Size, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    Progress = Callable[[int, int, str], None]
    State = dict[str, Tensor]

SHIPPED: Final = Path(__file__).parent / "models"
RECORD: Final = "lab.json"
WEIGHTS: Final = "model.safetensors"
#: Dev problems by which a phase is judged.
PROBLEMS: Final = 400
#: The source files that influence the trained weights.
MODULES: Final = ("corpus", "family", "fit", "phases", "sizes", "styles", "tokenizer")


@dataclass(frozen=True)
class LabPlan:
    """The options of a training run, in addition to the recipe in `laconic.lab.phases`.

    Attributes:
        size: A key of `SIZES`.
        seed: The only source of randomness.
        threads: torch threads.
        device: ``cpu`` or ``cuda``.
    """

    size: str = MINI
    seed: int = 0
    threads: int = 1
    device: str = "cpu"

    @property
    def command(self) -> str:
        """The command that starts this training."""
        options = f"--size {self.size} --seed {self.seed} --threads {self.threads}"
        return f"laconic lab train DIR {options} --device {self.device}"


def members() -> tuple[str, ...]:
    """The names of the three models: base, system1 (fast) and system2 (thinking)."""
    return MEMBERS


def folder(name: str) -> Path:
    """The folder of a shipped model, readable by transformers.

    Raises:
        LaconicError: For an unknown name.
    """
    if name not in MEMBERS:
        raise LaconicError(f"The lab has no model '{name}'. {did_you_mean(name, MEMBERS)}")
    return SHIPPED / name


def write(target: Path) -> Path:
    """Copy the shipped family into a new folder: base, system1, system2 and lab.json.

    Args:
        target: A folder that does not exist yet, or is empty.

    Raises:
        LaconicError: If the target is not empty.
    """
    with building(target) as partial:
        for name in MEMBERS:
            shutil.copytree(SHIPPED / name, partial / name)
        shutil.copy(SHIPPED / RECORD, partial / RECORD)
    return target


def train(
    target: Path,
    *,
    size: str = MINI,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Path:
    """Train all models from random weights; about 15 minutes on one CPU core for the shipped size.

    If a phase of a seed needs further rounds, each takes about four minutes more. Equal seeds give
    equal bytes for the same kind of CPU, number of threads and package versions. A killed call
    resumes after its last finished phase, which is kept in ``<target>.phases`` until all are done.

    Args:
        target: A folder that does not exist yet, or is empty.
        size: A key of `SIZES`.
        seed: The only source of randomness.
        threads: torch threads; one is the fastest for such a small network.
        device: ``cpu`` or ``cuda``.
        progress: Called with (steps done, steps in all, phase).

    Raises:
        LaconicError: If the target is not empty, or if there is no such size or device.
    """
    from laconic.backends.contract.decoding import using_threads

    shape, plan = size_of(size), LabPlan(size, seed, threads, check_device(device))
    with building(target) as partial, using_threads(threads):
        kept = target.with_name(f"{target.name}.phases")
        kept.mkdir(parents=True, exist_ok=True)
        made = train_phases(PHASES, kept, plan, progress=progress)
        for name in MEMBERS:
            export(made[name][0], partial / name, shape)
        record = {
            "command": plan.command,
            **origin(plan),
            "phases": {phase.name: made[phase.name][1] for phase in PHASES},
            "files": {name: sha256((partial / name / WEIGHTS).read_bytes()) for name in MEMBERS},
        }
        (partial / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(kept)
    return target


def train_phases(
    phases: Sequence[Phase], kept: Path, plan: LabPlan, *, progress: Progress | None = None
) -> dict[str, tuple[State, dict[str, Any]]]:
    """Train phases in order, or load those that an earlier call finished.

    A phase with a remedy continues for further rounds while too many dev problems are misread.

    Args:
        phases: In an order in which every start comes first.
        kept: The folder of finished phases.
        plan: Size, seed and device; setting the threads is the caller's work.
        progress: Called with (steps done, steps in all, phase).

    Returns:
        By phase: its weights and its record, which holds that of the round before.
    """
    from safetensors.torch import load_file, save_file

    made: dict[str, tuple[State, dict[str, Any]]] = {}
    keys: dict[str | None, str] = {None: json.dumps(origin(plan), sort_keys=True)}
    for phase in chain.from_iterable(phase.rounds() for phase in phases):
        before = made[phase.name][1] if phase.round else {}
        if before and before["misread"] <= MISREAD:
            continue
        keys[phase.name] = sha256(f"{keys[phase.start]} {phase}".encode())[:16]
        weights = kept / f"{phase.name}-{keys[phase.name]}.safetensors"
        record = weights.with_suffix(".json")
        if not weights.exists():
            start = made[phase.start][0] if phase.start else None
            state, done = train_phase(phase, start, plan, progress=progress)
            write_json(record, done)
            with writing(weights) as partial:
                save_file(state, partial)
        done = read_json(record, LaconicError)
        made[phase.name] = load_file(weights), done | ({"before": before} if before else {})
    return made


def train_phase(
    phase: Phase, start: State | None, plan: LabPlan, *, progress: Progress | None = None
) -> tuple[State, dict[str, Any]]:
    """Train one phase.

    Args:
        phase: What to train.
        start: The weights that it starts from; None for random weights.
        plan: Size, device, and the seed, which decides every random draw together with the phase.
        progress: Called with (steps done, steps in all, phase).

    Returns:
        The weights, bfloat16 for the models that ship, and what lab.json says about the phase.
    """
    import torch

    began = time.process_time()
    size = size_of(plan.size)
    rng = random.Random(f"laconic lab {plan.seed} {phase.title}")
    wanted = [replace(part, count=part.count * size.texts) for part in phase.parts]
    parts = [corpus.texts(part, rng, size.levels) for part in wanted]
    budget = phase.budget * size.batch
    batches = [batch for part in parts for batch in corpus.batches(part, budget=budget, rng=rng)]
    model = network(size, plan.seed if start is None else None)
    if start is not None:
        model.load_state_dict({name: value.float() for name, value in start.items()}, strict=False)
    schedule = replace(phase.schedule, rate=phase.schedule.rate * size.rate)
    model.to(torch.device(plan.device))  # type: ignore[arg-type]  # the decorated method
    losses = fit(model, batches, schedule, label=phase.title, progress=progress)
    dtype = torch.bfloat16 if phase.name in MEMBERS else torch.float32
    state = {name: value.detach().to("cpu", dtype) for name, value in model.named_parameters()}
    seen = {}
    if phase.remedy:
        problems = corpus.readings(phase.remedy[0].style, PROBLEMS, size.levels)
        seen = {"misread": misread(model, problems)}
    return state, {
        "corpus": corpus.digest(text for part in parts for text in part),
        "weights": digest(state),
        "steps": len(losses),
        "tokens": sum(len(text.ids) for part in parts for text in part),
        "last_loss": round(sum(losses[-50:]) / len(losses[-50:]), 4),
        **seen,
        "cpu_seconds": round(time.process_time() - began),
    }


def export(state: State, target: Path, size: Size) -> None:
    """Write weights as a Hugging Face folder: config, generation config, tokenizer, template.

    Ids that no lab text uses get the embedding of the unknown token, which is never generated.
    """
    import torch
    from safetensors.torch import save_file

    model: Any = network(size)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = "bfloat16"
    model.config.vocab_size = tokenizer.SIZE
    model.config.save_pretrained(target)
    model.generation_config.save_pretrained(target)
    rows = state[EMBED]
    unknown = rows[tokenizer.WHOLE[tokenizer.UNKNOWN]].expand(tokenizer.SIZE - len(rows), -1)
    whole = {**state, EMBED: torch.cat([rows, unknown])}
    save_file(whole, target / WEIGHTS, metadata={"format": "pt"})
    tokenizer.save(target, size.window)


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """An empty folder to fill, which becomes the target when the block ends without an error.

    Raises:
        LaconicError: If the target is not empty.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise LaconicError(f"{target} already holds something. Give a folder that does not exist.")
    with writing_folder(target) as partial:
        yield partial


def check_device(name: str) -> str:
    """The device, if there is one.

    Raises:
        LaconicError: For a name that is not ``cpu`` or ``cuda``, or a GPU that is not there.
    """
    import torch

    if name not in {"cpu", "cuda"}:
        raise LaconicError(f"device '{name}': {did_you_mean(name, ('cpu', 'cuda'))}")
    if name == "cuda" and not torch.cuda.is_available():
        raise LaconicError("This machine has no GPU that torch can use. Train with --device cpu.")
    return name


def origin(plan: LabPlan) -> dict[str, Any]:
    """Everything except the recipe that influences the weights: options, versions, machine."""
    import tokenizers
    import torch
    import transformers

    return {
        **asdict(plan),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        **({"gpu": torch.cuda.get_device_name()} if plan.device == "cuda" else {}),
        "code": code_digest(),
    }


def code_digest() -> str:
    """A digest of the source files that influence the trained weights."""
    here = Path(__file__).parent
    files = [
        *(here / f"{name}.py" for name in MODULES),
        here.parent / "tasks/contract/arithmetic.py",
    ]
    return sha256(b"".join(path.read_bytes() for path in files))


def digest(state: State) -> str:
    """A fingerprint of some weights: names, types and bytes."""
    import torch

    state_bytes = (
        f"{name} {value.dtype}".encode() + value.contiguous().view(torch.uint8).numpy().tobytes()
        for name, value in sorted(state.items())
    )
    return sha256(b"".join(state_bytes))


def sha256(content: bytes) -> str:
    """The hex digest of some bytes."""
    return hashlib.sha256(content).hexdigest()
