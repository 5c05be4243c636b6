"""Writing and reading back, for whatever shapes, types and shard sizes hypothesis invents."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from laconic.checkpoints.checkpoint import Checkpoint
from laconic.checkpoints.header import TensorSpec
from laconic.checkpoints.writer import CheckpointWriter

TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "I64": torch.int64}
SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@given(
    st.lists(st.tuples(SHAPES, st.sampled_from(sorted(TYPES))), min_size=1, max_size=8),
    st.integers(1, 400),
)
def test_what_is_written_is_read_back(
    made: list[tuple[tuple[int, ...], str]], shard_bytes: int
) -> None:
    specs = [TensorSpec(f"layers.{i}.w", dtype, shape) for i, (shape, dtype) in enumerate(made)]
    draw = torch.Generator().manual_seed(0)
    values = {
        s.name: (torch.randn(s.shape, generator=draw) * 100).to(TYPES[s.dtype]) for s in specs
    }
    with tempfile.TemporaryDirectory() as parent:
        target = Path(parent) / "out"
        with CheckpointWriter(target, specs, digest="x", shard_bytes=shard_bytes) as writer:
            writer.open()
            for spec in reversed(specs):
                bits = values[spec.name].flatten().view(torch.uint8).numpy()
                half = bits.nbytes // 2
                writer.put(spec.name, half, bits[half:])
                writer.put(spec.name, 0, bits[:half])
                writer.finish(spec.name)
            (writer.work / "config.json").write_text(json.dumps({}))
            writer.publish()
        read = Checkpoint(target)
        assert sorted(read.specs.values(), key=str) == sorted(specs, key=str)
        for name, value in values.items():
            assert torch.equal(read.read(name), value)
        for path in target.glob("*.safetensors"):
            with safe_open(path, framework="pt") as file:
                assert file.metadata() == {"format": "pt"}
