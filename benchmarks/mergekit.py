"""Run mergekit and laconic on the same configurations and compare what comes out.

    python benchmarks/mergekit.py --mergekit ENV/bin/python            # compare
    python benchmarks/mergekit.py --mergekit ENV/bin/python --record   # make the tests' record anew

ENV is an environment with mergekit in it; its pins conflict with laconic's, so it is one of its
own: python -m venv ENV && ENV/bin/pip install mergekit==0.1.5

The configurations are those of tests/samples/mergekit.yaml over four tiny Qwen2 checkpoints, each
run with ``dtype: float32, out_dtype: bfloat16``. DARE draws at random: many seeds are run, and
mean and standard deviation of every element are compared.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

DATA = Path(__file__).parents[1] / "tests" / "samples"
WIDTH, LAYERS, WORDS = 8, 3, 10
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": WIDTH,
    "intermediate_size": 12,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": WORDS,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "torch_dtype": "bfloat16",
}
WINDOWS = {"base": 64, "a": 4096, "b": 4096, "zeros": 4096}
SEEDS = 100
DTYPES = {"dtype": "float32", "out_dtype": "bfloat16"}
#: What mergekit's own Python runs: one job a line, as [configuration, folder, seed].
RUNNER = """
import json, sys, yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
for line in sys.stdin:
    config, folder, seed = json.loads(line)
    options = MergeOptions(
        copy_tokenizer=False, write_model_card=False, quiet=True, random_seed=seed
    )
    run_merge(MergeConfiguration.model_validate(config), folder, options)
"""


def shapes(*, head: bool) -> dict[str, tuple[int, ...]]:
    """The tensors of the tiny Qwen2, with a head of its own or without, in order of name."""
    inner = CONFIG["intermediate_size"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (WORDS, WIDTH)}
    if head:
        found["lm_head.weight"] = (WORDS, WIDTH)
    found["model.norm.weight"] = (WIDTH,)
    for layer in range(LAYERS):
        layer_shapes = {
            "input_layernorm.weight": (WIDTH,),
            "post_attention_layernorm.weight": (WIDTH,),
            "mlp.gate_proj.weight": (inner, WIDTH),
            "mlp.up_proj.weight": (inner, WIDTH),
            "mlp.down_proj.weight": (WIDTH, inner),
            "self_attn.o_proj.weight": (WIDTH, WIDTH),
        }
        for letter in "qkv":
            layer_shapes[f"self_attn.{letter}_proj.weight"] = (WIDTH, WIDTH)
            layer_shapes[f"self_attn.{letter}_proj.bias"] = (WIDTH,)
        found |= {f"model.layers.{layer}.{name}": shape for name, shape in layer_shapes.items()}
    return dict(sorted(found.items()))


def flat(tensors: Mapping[str, Tensor]) -> Tensor:
    """All tensors as one row, in order of name."""
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def unflat(row: Tensor) -> dict[str, Tensor]:
    """The tensors of one row; those of a tied checkpoint are fewer."""
    for head in (True, False):
        wanted = shapes(head=head)
        sizes = [math.prod(shape) for shape in wanted.values()]
        if sum(sizes) == len(row):
            parts = row.split(sizes)
            return {n: p.view(s) for (n, s), p in zip(wanted.items(), parts, strict=True)}
    raise ValueError(f"{len(row)} values are not those of the tiny model")


def draw() -> dict[str, Tensor]:
    """Four checkpoints as rows in bfloat16.

    A tied base and two untied models, one near to it and one far; and the near one with all biases
    and the whole of a layer zero.
    """
    random = torch.Generator().manual_seed(0)

    def noise(scale: float) -> dict[str, Tensor]:
        wanted = shapes(head=True).items()
        return {name: torch.randn(shape, generator=random) * scale for name, shape in wanted}

    base = {n: t + 1 if "norm" in n else t for n, t in noise(0.1).items()}
    near, far = noise(0.01), noise(0.04)
    first = {n: t + near[n] for n, t in base.items()}
    models = {
        "a": first,
        "zeros": {n: t * (not n.endswith("bias") and ".1." not in n) for n, t in first.items()},
        "b": {n: t + far[n] for n, t in base.items()},
        "base": {n: t for n, t in base.items() if n != "lm_head.weight"},
    }
    return {name: flat(tensors).bfloat16() for name, tensors in models.items()}


def write_checkpoints(rows: Mapping[str, Tensor], folder: Path) -> None:
    """Write each row as a checkpoint of its name."""
    for name, window in WINDOWS.items():
        (folder / name).mkdir()
        tensors = unflat(rows[name])
        save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
        own = {
            "max_position_embeddings": window,
            "tie_word_embeddings": "lm_head.weight" not in tensors,
        }
        (folder / name / "config.json").write_text(json.dumps({**CONFIG, **own}))


def configurations() -> dict[str, Any]:
    """The configurations by name."""
    found: dict[str, Any] = yaml.safe_load((DATA / "mergekit.yaml").read_text())
    return found


def is_random(config: Mapping[str, Any]) -> bool:
    """Whether a configuration draws at random."""
    return str(config["merge_method"]).startswith("dare") and "density: " in yaml.dump(
        [m for m in config["models"] if m["parameters"].get("density", 1) != 1]
    )


@dataclass(frozen=True)
class Difference:
    """How far two bfloat16 results are from each other.

    Attributes:
        elements: How many there are.
        threshold: Those that lie exactly at a TIES threshold; the others count on.
        rounding: Those that differ by one step of bfloat16.
        beyond: Those that differ by more.
    """

    elements: int
    threshold: int
    rounding: int
    beyond: int


def compare(mine: Tensor, theirs: Tensor, threshold: Tensor) -> Difference:
    """Compare two rows in bfloat16.

    Args:
        mine: One result.
        theirs: The other.
        threshold: True where an element lies at a TIES threshold.
    """
    ours, other = (_ordered(row) for row in (mine, theirs))
    steps = (ours - other).abs().masked_fill(threshold, 0)
    return Difference(
        len(mine), int(threshold.sum()), int((steps == 1).sum()), int((steps > 1).sum())
    )


def _ordered(row: Tensor) -> Tensor:
    """Whole numbers in the order of bfloat16 values, neighbours one apart."""
    bits = row.view(torch.int16).to(torch.int32)
    return torch.where(bits < 0, -(bits & 0x7FFF), bits)


def at_threshold(rows: Mapping[str, Tensor], config: Mapping[str, Any]) -> Tensor:
    """Where a task vector's size is, in its tensor, that of the smallest kept entry.

    The density at each tensor is read here on its own: a number, or one gradient over the layers.
    """
    base = unflat(rows["base"])
    base["lm_head.weight"] = base["model.embed_tokens.weight"]
    found = {
        name: torch.zeros(shape, dtype=torch.bool) for name, shape in shapes(head=True).items()
    }
    if config["merge_method"] != "ties":
        return flat(found)
    for model in config["models"]:
        own = {**config.get("parameters", {}), **model.get("parameters", {})}
        for name, tensor in unflat(rows[model["model"]]).items():
            size = (tensor.float() - base[name].float()).abs()
            k = int(_along(own["density"], name) * size.numel())
            found[name] |= size == size.flatten().sort(descending=True).values[k - 1]
    return flat(found)


def _along(density: float | list[float], name: str) -> float:
    """A density at a tensor; gradients bend only at layers here, or have two ends."""
    if not isinstance(density, list):
        return density
    layer = int(name.split(".")[2]) if ".layers." in name else 0
    if len(density) == LAYERS:
        return density[layer]
    return density[0] + (density[-1] - density[0]) * layer / (LAYERS - 1)


def run_mergekit(python: str, jobs: list[tuple[Any, Path, int | None]]) -> None:
    """Run mergekit's jobs in its own environment."""
    lines = "".join(json.dumps([c, str(folder), seed]) + "\n" for c, folder, seed in jobs)
    subprocess.run([python, "-c", RUNNER], input=lines, text=True, check=True)


def read_row(folder: Path) -> Tensor:
    """A merged folder's tensors as one row."""
    return flat(load_file(folder / "model.safetensors"))


def merge_here(config: Mapping[str, Any], folder: Path, seed: int = 0) -> Tensor:
    """What laconic makes of a configuration, as one row."""
    from laconic.merging.merge import merge
    from laconic.merging.recipe import Recipe

    return read_row(merge(replace(Recipe.from_dict(config), seed=seed), folder).folder)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder for a while: the configurations name checkpoints relative to it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def theirs(python: str, folder: Path) -> dict[str, Tensor]:
    """Mergekit's results: a row for each configuration, mean and deviation for those of DARE."""
    jobs: list[tuple[Any, Path, int | None]] = []
    for name, config in configurations().items():
        if is_random(config):
            wide = {**config, "dtype": "float32", "out_dtype": "float32"}
            jobs += [(wide, folder / "out" / f"{name}.{seed}", seed) for seed in range(SEEDS)]
        else:
            jobs.append(({**config, **DTYPES}, folder / "out" / name, None))
    run_mergekit(python, jobs)
    found = {}
    for name, config in configurations().items():
        if is_random(config):
            drawn = [read_row(folder / "out" / f"{name}.{seed}") for seed in range(SEEDS)]
            deviation, mean = torch.std_mean(torch.stack(drawn).double(), 0)
            found |= {f"{name}.mean": mean.float(), f"{name}.deviation": deviation.float()}
        else:
            found[name] = read_row(folder / "out" / name)
    return found


def moments(config: Mapping[str, Any], folder: Path, seeds: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of laconic's results over seeds, element by element."""
    wide = {**config, "dtype": "float32"}
    drawn = [merge_here(wide, folder / f"{seed}", seed) for seed in range(seeds)]
    deviation, mean = torch.std_mean(torch.stack(drawn).double(), 0)
    return mean, deviation


def main() -> None:
    """Compare, or record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--mergekit", required=True, help="the Python that mergekit is in")
    parser.add_argument("--record", action="store_true", help="write the tests' record")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = draw()
    with tempfile.TemporaryDirectory() as scratch, inside(Path(scratch)):
        folder = Path(scratch)
        write_checkpoints(rows, folder)
        found = theirs(options.mergekit, folder)
        if options.record:
            save_file(rows | found, DATA / "mergekit.safetensors")
        print("| configuration | elements | at a threshold | one rounding apart | further apart |")
        print("|---|--:|--:|--:|--:|")
        for name, config in configurations().items():
            if is_random(config):
                continue
            mine = merge_here({**config, **DTYPES}, folder / "mine" / name)
            d = compare(mine, found[name], at_threshold(rows, config))
            print(f"| {name} | {d.elements} | {d.threshold} | {d.rounding} | {d.beyond} |")
        print("\n| configuration | largest z of the means | ratio of the deviations |")
        print("|---|--:|--:|")
        for name, config in configurations().items():
            if is_random(config):
                mean, deviation = moments(config, folder / name, SEEDS)
                z, ratio = agreement(mean, deviation, found, name, SEEDS)
                print(f"| {name} | {z:.1f} | {ratio:.3f} |")


def agreement(
    mean: Tensor, deviation: Tensor, found: Mapping[str, Tensor], name: str, seeds: int
) -> tuple[float, float]:
    """How far means are apart in standard errors, at most; and the ratio of the deviations."""
    other, spread = found[f"{name}.mean"].double(), found[f"{name}.deviation"].double()
    error = (deviation**2 / seeds + spread**2 / SEEDS).sqrt()
    z = ((mean - other).abs() / error.clamp(min=1e-9)).max()
    return float(z), float(deviation.sum() / spread.sum())


if __name__ == "__main__":
    main()
