"""Pools, trainings under every controller, a search: orders exactly, weights to a millionth."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Final

import yaml

from tests.recorded.command import laconic, laconic_json
from tests.recorded.compare import TOLERANCE

HERE: Final = Path(__file__).parent
SCHEDULE: Final = {
    "points": [[0, {"short": 0.5, "long": 0.5}], [4, {"short": 0.9, "long": 0.1}]],
}
#: What differs from `RECIPE`, by training; every controller is among them.
TRAININGS: Final[dict[str, dict[str, Any]]] = {
    "tldr": {"controller": {"tldr": {"eta": 1.0}}},
    "constrained": {"controller": {"constrained": {"rate": 3.0}}, "seed": 1},
    "doremi": {"controller": "doremi"},
    "schedule": {
        "controller": {"schedule": SCHEDULE},
        "batch": {"per_device": 2, "accumulation": 2},
    },
    "static": {
        "controller": "static",
        "pools": {"folder": "data", "weights": {"short": 0.25, "long": 0.75}},
    },
}
#: Two evaluations of short answers to easy problems.
RECIPE: Final[dict[str, Any]] = {
    "model": "lab:system2",
    "pools": {"folder": "data", "weights": {"short": 0.5, "long": 0.5}},
    "dev": {"task": "lab:split=dev,size=8,level=1", "limit": 8, "heldout": 0.5},
    "sampling": {"max_tokens": 180},
    "bounds": {"system1": {"accuracy": 0.5, "length": 40, "n": 400}, "folder": "references"},
    "steps": 4,
    "every": 2,
    "batch": {"per_device": 4},
    "rate": 5.0e-5,
    "max_length": 1024,
    "select": {"thinking": None, "margin": 0.3},
    "evaluator": {"backend": "transformers:batch=8"},
}
SPACE: Final[dict[str, Any]] = {
    "base": "lab:base",
    "models": ["lab:system2"],
    "method": "task_arithmetic",
    "params": {"scale": {"low": 0.3, "high": 0.9, "step": 0.1}},
}
#: Keys that tell of time, the machine or the command.
PASSING: Final = {
    *("versions", "command", "device", "started", "finished", "seconds", "merge_seconds"),
    *("elapsed", "time", "step_seconds", "tokens_per_second"),
}


def names() -> list[str]:
    """Every piece of this part."""
    return ["pools", "pools-of-pairs", *(f"train-{name}" for name in TRAININGS), "search"]


def slow() -> set[str]:
    """Pieces that take more than some seconds."""
    return {"search", *(f"train-{name}" for name in TRAININGS)}


def tolerance(name: str) -> float:
    """The relative difference that counts as none."""
    del name
    return TOLERANCE


def prepare(folder: Path) -> None:
    """Make pools of recorded answers."""
    shutil.copytree(HERE / "runs" / "pool", folder / "pool")
    for name in ("short", "long"):
        laconic("data", "select", f"pool/{name}", "-o", f"{name}.jsonl", folder=folder)
    model = ("--model", "lab:system2", "--policy", "keep")
    laconic(
        "data", "pack", "short=short.jsonl", "long=long.jsonl", *model, "-o", "data", folder=folder
    )
    chosen = ("--rule", "pairs", "--ratio", "1.5", "-o", "pairs.jsonl")
    laconic("data", "select", "pool/short", "pool/long", *chosen, folder=folder)
    laconic("data", "pack", "pairs=pairs.jsonl", *model, "-o", "pairs", folder=folder)


def observe(name: str, folder: Path) -> Any:
    """What a piece comes to."""
    if name == "pools":
        return _pools(folder, "data", "short.jsonl", "long.jsonl")
    if name == "pools-of-pairs":
        return _pools(folder, "pairs", "pairs.jsonl")
    return _search(folder) if name == "search" else _train(name.removeprefix("train-"), folder)


def _pools(folder: Path, packed: str, *selected: str) -> dict[str, Any]:
    import pyarrow.parquet

    manifest = _passing(json.loads((folder / packed / "manifest.json").read_text()))
    for pool in manifest["pools"].values():
        del pool["digest"]  # of a Parquet file, whose bytes name the library that wrote it
    rows = {
        path.stem: hashlib.sha256(
            json.dumps(pyarrow.parquet.read_table(path).to_pylist(), sort_keys=True).encode()
        ).hexdigest()
        for path in sorted((folder / packed).glob("*.parquet"))
    }
    statistics = json.loads((folder / packed / "statistics.json").read_text())
    texts = {name: _lines(folder / name) for name in selected}
    ids = {name: [[row["id"], row.get("length")] for row in found] for name, found in texts.items()}
    keys = {name: sorted(found[0]) for name, found in texts.items()}
    return {
        "manifest": manifest,
        "statistics": _passing(statistics),
        "rows": rows,
        "selected": ids,
        "keys": keys,
    }


def _train(name: str, folder: Path) -> dict[str, Any]:
    file, made = folder / f"{name}.yaml", folder / "trained" / name
    file.write_text(yaml.safe_dump({**RECIPE, **TRAININGS[name]}), encoding="utf-8")
    laconic("train", file.name, "-o", made.relative_to(folder), folder=folder)
    (checkpoint,) = (made / "checkpoints").iterdir()
    sampler = json.loads((checkpoint / "mixture.json").read_text())
    del sampler["records"]  # the lines of mixture.jsonl
    return {
        "mixture": [_passing(line) for line in _lines(made / "mixture.jsonl")],
        "sampler": _passing(sampler),
        "steps": _lines(made / "steps.jsonl"),
        "run": sorted(json.loads((made / "run.json").read_text())),
        "best": json.loads((made / "run.json").read_text())["result"]["best"]["step"],
        "files": sorted(path.name for path in made.iterdir()),
        "delivered": sorted(path.name for path in (made / "best").iterdir()),
    }


def _search(folder: Path) -> dict[str, Any]:
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE), encoding="utf-8")
    laconic(
        *("search", "space.yaml", "--task", "lab:split=dev,size=8", "--prove-on", "lab:size=6"),
        *("--max-tokens", "180", "--trials", "3", "--backend", "transformers:batch=8"),
        *("--constraint", "accuracy>=system2-0.01", "-o", "study"),
        folder=folder,
    )
    study = folder / "study"
    flags = ("--baseline", "system2", "--format", "json")
    report = laconic_json("report", "study/proof", *flags, folder=folder)
    return {
        "study": _passing(json.loads((study / "study.json").read_text())),
        "trials": [_passing(line) for line in _lines(study / "trials.jsonl")],
        "recipe": yaml.safe_load((study / "recipe.yaml").read_text()),
        "files": sorted(path.name for path in study.iterdir() if path.suffix != ".log"),
        "proven": [[row["name"], row["summary"]["accuracy"]] for row in report["runs"]],
    }


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _passing(value: Any) -> Any:
    """A value without what passes."""
    if isinstance(value, dict):
        return {key: _passing(one) for key, one in value.items() if key not in PASSING}
    return [_passing(one) for one in value] if isinstance(value, list) else value
