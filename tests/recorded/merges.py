"""Merges by recipes, and what ``laconic calibrate`` measures for them."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.recorded.checkpoints import digest, figures, write_small
from tests.recorded.command import laconic

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).parent
#: Statistics, by file: the kind, the model, further flags.
STATS: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "activations-base": ("activations", "lab:base", ()),
    "gram-system1": ("gram", "lab:system1", ()),
    "gram-system2": ("gram", "lab:system2", ()),
    "sensitivity-base": ("sensitivity", "lab:base", ()),
    "sensitivity-system1": ("sensitivity", "lab:system1", ("--limit", "2")),
    "sensitivity-system2": ("sensitivity", "lab:system2", ()),
    "fisher-base": ("fisher", "lab:base", ("--labels", "data")),
    "fisher-system2": ("fisher", "lab:system2", ("--labels", "data", "--raw")),
    "fisher-by-tensor": ("fisher", "lab:base", ("--labels", "data", "--reduce", "tensor")),
    "mutual_information-step1": ("mutual_information", "step1", ("--against", "lab:base")),
}
#: Entries of run.json that tell of the machine, the day or the command.
PASSING: Final = ("versions", "command", "device", "inputs")
#: Mutual information counts equal roundings, where one that falls otherwise shows; Gram matrices of
#: few tokens are nearly singular.
ROUGH: Final = {"acm", "calibrate-mutual_information-step1", "regmean"}
COARSE: Final = 1e-3
FINE: Final = 2e-5


@cache
def recipes() -> dict[str, tuple[str, dict[str, Any]]]:
    """How each merge is compared, ``bytes`` or ``numbers``, and its recipe, by name."""
    groups = yaml.safe_load((HERE / "recipes.yaml").read_text(encoding="utf-8"))
    return {name: (how, one) for how, group in groups.items() for name, one in group.items()}


def names() -> list[str]:
    """The merges, then the calibrations."""
    return [*recipes(), *(f"calibrate-{name}" for name in STATS)]


def tolerance(name: str) -> float:
    """The relative difference that counts as none."""
    return COARSE if name in ROUGH else FINE


def prepare(folder: Path) -> None:
    """Write everything that the recipes name."""
    write_small(folder)
    laconic("lab", "write", "models", folder=folder)
    laconic("lab", "variants", "variants", folder=folder)
    flags = ("--base", "lab:base", "--model", "lab:system2", "--method", "task_arithmetic")
    laconic("merge", *flags, "--dtype", "float32", "-o", "step1", folder=folder)
    (folder / "texts.jsonl").write_bytes((HERE / "texts.jsonl").read_bytes())


def slow() -> set[str]:
    """The calibrations, and the merges that read one."""
    read = {name for name, (_, recipe) in recipes().items() if _reads_statistics(recipe)}
    return {*read, *(f"calibrate-{name}" for name in STATS)}


def _reads_statistics(recipe: dict[str, Any]) -> bool:
    return "stats/" in json.dumps(recipe)


def _calibrate(folder: Path) -> None:
    """Write every calibration, once."""
    if (folder / "stats").exists():
        return
    on = ("--data", "texts.jsonl", "--dtype", "float32", "--device", "cpu", "--threads", "1")
    for name, (kind, model, further) in STATS.items():
        file = f"stats/{name}.safetensors"
        laconic("calibrate", model, "--stats", kind, *on, *further, "-o", file, folder=folder)


def observe(name: str, folder: Path, threads: int = 1) -> dict[str, Any]:
    """What a merge or a calibration has written."""
    if name in slow():
        _calibrate(folder)
    if name.startswith("calibrate-"):
        return _figures(folder / "stats" / f"{name.removeprefix('calibrate-')}.safetensors")
    how, recipe = recipes()[name]
    file, made = folder / f"{name}.yaml", folder / "merged" / f"{name}-{threads}"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    flags = ("--threads", threads, "--shard-size", "0.001")
    laconic("merge", file.name, *flags, "-o", made.relative_to(folder), folder=folder)
    told: dict[str, Any] = {"files": dict(_beside(made)), "run": _run(made)}
    if how == "bytes":
        told["weights"] = digest(made)
    else:
        small = "small-" in file.read_text(encoding="utf-8")
        start = folder / ("small-base" if small else "models/base") / "model.safetensors"
        told["tensors"] = {path.name: figures(path, start) for path in made.glob("*.safetensors")}
    return told


def _figures(path: Path) -> dict[str, Any]:
    head = path.read_bytes()
    size = int.from_bytes(head[:8], "little")
    told = json.loads(json.loads(head[8 : 8 + size])["__metadata__"]["laconic_calibration"])
    told["settings"].pop("versions", None)
    return {"metadata": told, "tensors": figures(path)}


def _beside(made: Path) -> Iterator[tuple[str, str]]:
    """SHA-256 of the files beside the weights that do not tell of the day."""
    for path in sorted(made.rglob("*")):
        if path.is_file() and path.suffix != ".safetensors":
            passing = path.name in {"run.json", "README.md"}
            yield path.name, "" if passing else hashlib.sha256(path.read_bytes()).hexdigest()


def _run(made: Path) -> dict[str, Any]:
    """run.json without what passes."""
    run: dict[str, Any] = json.loads((made / "run.json").read_text(encoding="utf-8"))
    inputs = {name: one["fingerprint"] for name, one in run["inputs"].items()}
    kept = {key: value for key, value in run.items() if key not in PASSING}
    kept["notes"] = len(run["notes"])  # sentences, which may be worded anew
    if run["statistics"]:  # their digests, which the recipe's covers, are of a processor's sums
        kept |= {"statistics": len(run["statistics"]), "digest": ""}
    return {**kept, "inputs": inputs}
