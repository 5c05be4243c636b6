"""Small random checkpoints: equal on every machine, in several types, sharded, tied and not."""

from __future__ import annotations

import hashlib
import json
import random
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

WIDTH: Final = 8
ROWS: Final = 12
CONFIG: Final[dict[str, Any]] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": WIDTH,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": ROWS,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}
#: Of each checkpoint: its seed, its type, its number of weight files, whether its head is tied.
SMALL: Final[dict[str, tuple[int, torch.dtype, int, bool]]] = {
    "small-base": (1, torch.float32, 1, True),
    "small-a": (2, torch.bfloat16, 3, True),
    "small-b": (3, torch.float16, 1, True),
    "small-untied": (4, torch.float32, 2, False),
}


def write_small(folder: Path) -> None:
    """Write every checkpoint of `SMALL` to a folder of its name."""
    for name, (seed, dtype, files, tied) in SMALL.items():
        place = folder / name
        place.mkdir()
        window = 64 if name != "small-a" else 128
        config = {**CONFIG, "tie_word_embeddings": tied, "max_position_embeddings": window}
        (place / "config.json").write_text(json.dumps(config))
        (place / "generation_config.json").write_text(json.dumps({"eos_token_id": 3}))
        (place / "chat_template.jinja").write_text(f"template of {name}")
        # The last two words of each are others: their rows meet by string where a recipe asks.
        words = {f"w{i + (seed if i >= ROWS - 2 else 0)}": i for i in range(ROWS)}
        (place / "tokenizer.json").write_text(json.dumps({"model": {"vocab": words}}))
        _save(place, _weights(seed, dtype, tied=tied), files)


def _weights(seed: int, dtype: torch.dtype, *, tied: bool) -> dict[str, Tensor]:
    """Weights near those of every other seed, as fine-tunes are."""
    shared, own = random.Random(0), random.Random(seed)

    def draw(*shape: int) -> Tensor:
        count = torch.Size(shape).numel()
        start = [0.2 * shared.uniform(-1, 1) for _ in range(count)]
        # Cubes: few large changes, many small ones.
        moved = [0.1 * own.uniform(-1, 1) ** 3 for _ in range(count)]
        values = [a + b for a, b in zip(start, moved, strict=True)]
        return torch.tensor(values, dtype=torch.float64).reshape(shape).to(dtype)

    weights = {"model.embed_tokens.weight": draw(ROWS, WIDTH), "model.norm.weight": draw(WIDTH)}
    for layer in range(3):
        head = f"model.layers.{layer}"
        weights[f"{head}.self_attn.q_proj.weight"] = draw(WIDTH, WIDTH)
        weights[f"{head}.self_attn.q_proj.bias"] = draw(WIDTH)
        weights[f"{head}.mlp.up_proj.weight"] = draw(16, WIDTH)
        weights[f"{head}.input_layernorm.weight"] = draw(WIDTH)
    if not tied:
        weights["lm_head.weight"] = draw(ROWS, WIDTH)
    return weights


def _save(place: Path, weights: dict[str, Tensor], files: int) -> None:
    if files == 1:
        save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
        return
    homes: dict[str, str] = {}
    names = sorted(weights)
    for i in range(files):
        file = f"model-{i + 1:05}-of-{files:05}.safetensors"
        part = {name: weights[name] for name in names[i::files]}
        save_file(part, place / file, metadata={"format": "pt"})
        homes |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": homes}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))


def digest(folder: Path) -> dict[str, str]:
    """SHA-256 of each weight file's tensors: names, types, shapes and bytes, in order of names."""
    return {path.name: _digest(path) for path in sorted(folder.glob("*.safetensors"))}


def _digest(path: Path) -> str:
    held = hashlib.sha256()
    for name, tensor in sorted(load_file(path).items()):
        held.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        held.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return held.hexdigest()


def figures(path: Path, start: Path | None = None) -> dict[str, list[Any]]:
    """Of each tensor of a weight file: type, shape, mean size, norm, mean, and mean by place.

    The last weights the elements by rising numbers, so that elements cannot change places unseen.
    Means are told as their sum with the mean size, lest a mean near 0 be compared with nothing.

    Args:
        path: The weight file.
        start: A weight file whose tensors are subtracted, so that small changes show.
    """
    origin = load_file(start) if start is not None else {}
    return {name: _figures(one, origin.get(name)) for name, one in sorted(load_file(path).items())}


def _figures(tensor: Tensor, origin: Tensor | None) -> list[Any]:
    values = tensor.double().reshape(-1)
    if origin is not None:
        values = values - origin.double().reshape(-1)
    size = float(values.abs().mean())
    rising = torch.linspace(1, 2, values.numel(), dtype=torch.float64)
    means = [float(values.mean()), float((values * rising).mean())]
    told = [size, float(values.norm()), *(size + mean for mean in means)]
    return [str(tensor.dtype), list(tensor.shape), *(float(f"{value:.7g}") for value in told)]
