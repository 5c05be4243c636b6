"""A causal language model whose weights are loaded when they are needed: by layer, or all."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from laconic.checkpoints.chat_template import explained
from laconic.checkpoints.header import FLOATS
from laconic.checkpoints.name_map import map_names
from laconic.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor, nn

    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.checkpoints.name_map import ParameterPiece


class Skeleton:
    """A model that is built without weights; `holding` and `load` read them from the checkpoint.

    Stage 0 is the embedding, stages 1 to `layers` are the decoder's layers, and the stage after
    them is the final norm.

    Args:
        checkpoint: The checkpoint with the weights.
        device: The device that computes.
        dtype: The type that it computes in, as torch names it.

    Attributes:
        pieces: The tensors of the checkpoint that each parameter is made of, by the parameter's
            name in the model.
        layers: How many decoder layers it has.
        tied: Whether the head is the embedding matrix.

    Raises:
        CalibrationError: If the architecture is no decoder of layers with a final norm, or if the
            checkpoint lacks tensors.
        BackendError: If transformers cannot read the config.
    """

    def __init__(self, checkpoint: Checkpoint, *, device: str, dtype: str) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        self.checkpoint, self.device = checkpoint, torch.device(device)
        self.dtype: torch.dtype = getattr(torch, dtype)
        made: Any = AutoModelForCausalLM
        with explained(checkpoint, "model"):
            config = AutoConfig.from_pretrained(
                checkpoint.folder, local_files_only=True, trust_remote_code=False
            )
            with torch.device("meta"):
                model = made.from_config(config, trust_remote_code=False)
        model.eval()
        self.model = model
        self.head: nn.Module = model.get_output_embeddings()
        self.embedding: nn.Module = model.get_input_embeddings()
        self.tied = self.head.weight is self.embedding.weight
        self.decoder = self._decoder()
        self.layers = len(self.decoder.layers)
        self._blocks: list[nn.Module] = list(self.decoder.layers)
        self._norm: nn.Module = self.decoder.norm
        self.prefixes = {module: name for name, module in model.named_modules()}
        self.shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        self.pieces = self._map_names()
        self._revive_buffers()

    def part(self, stage: int) -> nn.Module:
        """The module of a stage."""
        if stage == 0:
            return self.embedding
        return self._blocks[stage - 1] if stage <= self.layers else self._norm

    def group(self, stage: int) -> str:
        """The name of a stage in the statistics, such as ``layer.3``."""
        if stage == 0:
            return "embed"
        return f"layer.{stage - 1}" if stage <= self.layers else "norm"

    def part_bytes(self, stage: int) -> int:
        """The size of a stage's weights in the type that it computes in, in bytes."""
        sizes = [math.prod(p.shape) for p in self.part(stage).parameters()]
        return sum(sizes) * self.dtype.itemsize

    @property
    def width(self) -> int:
        """The channels of the hidden states."""
        return int(self.embedding.weight.shape[1])  # type: ignore[index]  # a matrix

    @property
    def rows(self) -> int:
        """The number of rows of the embedding: one for each token id."""
        return int(self.embedding.weight.shape[0])  # type: ignore[index]  # a matrix

    @contextmanager
    def holding(self, module: nn.Module) -> Iterator[None]:
        """Load a part's weights for the time of a ``with`` block."""
        self._fill(module)
        try:
            yield
        finally:
            module.to("meta")

    def load(self) -> None:
        """Load all weights; they stay in memory."""
        self._fill(self.model)

    def only(self, stage: int) -> None:
        """Make the decoder compute one layer only; all others return their input."""
        from torch import nn

        blocks = [_hand_through() for _ in self._blocks]
        if 0 < stage <= self.layers:
            blocks[stage - 1] = self._blocks[stage - 1]
        self.decoder.layers = nn.ModuleList(blocks)
        self.decoder.norm = _hand_through()

    def step(self, stage: int, values: Tensor) -> Tensor:
        """Compute one stage, whose weights are loaded.

        Args:
            stage: The stage; `only` was called with it before.
            values: Token ids ``[row, token]`` for the embedding, else hidden states
                ``[row, token, channel]``; rows are padded on the right, which changes nothing to
                the left of it.
        """
        if stage == 0 or stage > self.layers:
            result: Tensor = self.part(stage)(values)
            return result
        states: Tensor = self.decoder(inputs_embeds=values, use_cache=False).last_hidden_state
        return states

    def check_steps(self) -> None:
        """Refuse a decoder that changes hidden states outside its layers, such as by scaling."""
        import torch

        self.only(0)
        values = torch.linspace(-1, 1, 3 * self.width, device=self.device, dtype=self.dtype)
        values = values.view(1, 3, self.width)
        if not torch.equal(self.step(1, values), values):
            raise CalibrationError(
                f"{self.checkpoint.name}: {type(self.decoder).__name__} computes more than "
                "its layers, one after the other: it cannot be measured layer by layer."
            )

    def _decoder(self) -> Any:
        decoder = self.model.get_decoder()
        if not (hasattr(decoder, "layers") and hasattr(decoder, "norm")):
            raise CalibrationError(
                f"{self.checkpoint.name}: {type(self.model).__name__} is no decoder of layers with "
                "a final norm. Calibration supports only those."
            )
        return decoder

    def _map_names(self) -> dict[str, tuple[ParameterPiece, ...]]:
        """The checkpoint's tensors that make up each parameter, checked to be there in full."""
        specs = self.checkpoint.specs
        sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}
        tied = {f"{self.prefixes[self.head]}.weight": f"{self.prefixes[self.embedding]}.weight"}
        pieces = map_names(
            sizes, {name: spec.shape for name, spec in specs.items()}, tied if self.tied else {}
        )
        for name, size in sizes.items():
            for tensor in (piece.tensor for piece in pieces[name]):
                if tensor not in specs:
                    raise CalibrationError(
                        f"{self.checkpoint.name} has no tensor '{tensor}', which "
                        f"{type(self.model).__name__} needs. Its weights and its config are of "
                        "different models, or of an architecture that calibration does not know."
                    )
                if specs[tensor].dtype not in FLOATS:
                    raise CalibrationError(
                        f"'{tensor}' of {self.checkpoint.name} is {specs[tensor].dtype}. Calibrate "
                        f"the model before it was quantized, in one of {', '.join(FLOATS.values())}"
                        "."
                    )
            stored = sum(piece.count for piece in pieces[name])
            if len(pieces[name]) > 1 and stored != size:
                raise CalibrationError(
                    f"The tensors of '{name}' of {self.checkpoint.name} have {stored:,} values "
                    f"together, and its config asks for {size:,}. They are of different models."
                )
        return pieces

    def _fill(self, module: nn.Module) -> None:
        """Read the weights of a module; those of a tied head are the embedding's."""
        from torch import nn

        made: dict[nn.Parameter, nn.Parameter] = {}
        for inner in module.modules():
            for key, parameter in list(inner.named_parameters(recurse=False, prefix="")):
                if parameter not in made:
                    values = self._read(f"{self.prefixes[inner]}.{key}", parameter.shape)
                    made[parameter] = nn.Parameter(values, requires_grad=False)
                setattr(inner, key, made[parameter])

    def _read(self, name: str, shape: torch.Size) -> Tensor:
        """A parameter's values, put together from the tensors of the checkpoint."""
        import torch

        value = torch.empty(shape, dtype=self.dtype, device=self.device)
        for piece in self.pieces[name]:
            stored = self.checkpoint.read(piece.tensor)
            wanted = value[piece.place].shape
            if stored.shape != wanted:
                raise CalibrationError(
                    f"'{piece.tensor}' of {self.checkpoint.name} has the shape "
                    f"{list(stored.shape)}, and its config asks for {list(wanted)}. They are of "
                    "different models."
                )
            value[piece.place] = stored.to(self.device)
        return value

    def _revive_buffers(self) -> None:
        """Fill buffers from the checkpoint, or, such as rotary tables, by their own module."""
        for name, module in list(self.model.named_modules()):
            for key, buffer in list(module.named_buffers(recurse=False)):
                if buffer.is_meta and f"{name}.{key}" in self.checkpoint.specs:
                    setattr(module, key, self.checkpoint.read(f"{name}.{key}").to(self.device))
            if not any(b.is_meta for b in module.buffers(recurse=False)):
                continue
            parent, _, key = name.rpartition(".")
            config = getattr(module, "config", None)
            if config is None:
                raise CalibrationError(
                    f"{self.checkpoint.name}: {type(self.model).__name__} has buffers in "
                    f"'{name}' that calibration cannot compute."
                )
            made = type(module)(config).to(self.device)
            setattr(self.model.get_submodule(parent), key, made)


def _hand_through() -> nn.Module:
    """A module that returns its first argument."""
    from torch import nn

    class HandThrough(nn.Module):
        def forward(self, values: Tensor, *_: Any, **__: Any) -> Tensor:
            return values

    return HandThrough()
