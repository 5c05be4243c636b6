"""What a calibration takes: peak memory beside the estimate and the size of the weights.

    python benchmarks/calibrate.py --stats activations
    python benchmarks/calibrate.py --stats sensitivity

The model is a Qwen2 of random weights in bfloat16, made in a temporary folder; it is computed in
float32 on the CPU. Memory is the process's own (RssAnon), sampled every 10 ms; the pages of
memory-mapped files, which the system takes back when it needs them, are not in it.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import re
import tempfile
import threading
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from laconic.calibration.calibrate import CalibrationOptions, calibrate, prepare
from laconic.checkpoints.checkpoint import TOKENIZER_FILES, copy_files, open_checkpoint

SENTENCE = "Work mod 100. a=18 b=a+8 c=b+1 d=c*3 e=d-7 "


def make(folder: Path, layers: int, width: int, inner: int) -> None:
    """Write the model and the lab's tokenizer."""
    config = Qwen2Config(
        vocab_size=8192,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 128,
        tie_word_embeddings=False,
    )
    config.architectures = ["Qwen2ForCausalLM"]
    config.save_pretrained(folder)
    copy_files(open_checkpoint("lab:base").folder, folder, TOKENIZER_FILES)
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in Qwen2ForCausalLM(config).named_parameters()}
    draw = torch.Generator().manual_seed(0)
    held = {
        name: (torch.randn(shape, generator=draw) * 0.02).bfloat16()
        for name, shape in shapes.items()
    }
    save_file(held, folder / "model.safetensors", metadata={"format": "pt"})


class Peak(threading.Thread):
    """Samples the process's anonymous memory until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Sample."""
        while not self.over.wait(0.01):
            told = Path("/proc/self/status").read_text(encoding="ascii")
            found = re.search(r"RssAnon:\s+(\d+)", told)
            self.bytes = max(self.bytes, 1024 * int(found[1]) if found else 0)


def main() -> None:
    """Make a model, calibrate it, print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stats", default="activations")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--inner", type=int, default=2816)
    parser.add_argument("--samples", type=int, default=8)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shape = (folder, given.layers, given.width, given.inner)
        apart = multiprocessing.get_context("spawn").Process(target=make, args=shape)
        apart.start()  # so that what it leaves in the heap is not counted
        apart.join()
        rows = folder / "rows.jsonl"
        row = json.dumps({"problem": SENTENCE, "response": SENTENCE})
        rows.write_text(f"{row}\n" * given.samples, encoding="utf-8")
        peak = Peak()
        peak.start()
        cpu = time.process_time()
        measurement = prepare(
            folder, str(rows), given.stats, options=CalibrationOptions(device="cpu", threads=1)
        )
        calibrate(measurement, folder / "made.safetensors")
        peak.over.set()
        weights = 4 * sum(math.prod(shape) for shape in measurement.skeletons[0].shapes.values())
        print(
            f"{given.stats}: weights {weights / 1e9:.2f} GB in float32, peak memory "
            f"{peak.bytes / 1e9:.2f} GB (estimated {measurement.cost.memory / 1e9:.2f} GB), "
            f"{measurement.samples.tokens:,} tokens, {time.process_time() - cpu:.0f} CPU s "
            f"(estimated {measurement.cost.seconds:.0f} s)"
        )


if __name__ == "__main__":
    main()
