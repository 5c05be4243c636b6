"""Statistics of the inputs of weights: mean absolute value by channel, or Gram matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from laconic.checkpoints.layout import natural
from laconic.checkpoints.name_map import expert_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack

    import torch
    from torch import Tensor, nn

    from laconic.calibration.forward import Batch
    from laconic.calibration.model import Skeleton
    from laconic.checkpoints.name_map import ExpertNames

#: Called by torch with a module and its arguments, before the module computes.
Hook = Callable[["nn.Module", tuple[Any, ...]], None]


class InputStatistics:
    """The mean |input| of each channel that a weight reads, or the Gram matrix of its inputs.

    Padding does not count. For a weight of an expert, only the tokens routed to it count.

    Args:
        kind: ``activations`` or ``gram``.
    """

    def __init__(self, kind: Literal["activations", "gram"]) -> None:
        self._kind = kind
        self._dimensions = {1, 2} if kind == "activations" else {2}
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._skipped: list[str] = []
        self._batch: Batch | None = None
        self._latest: tuple[Tensor, int, Tensor] | None = None

    def attach(self, stack: ExitStack, side: int, skeleton: Skeleton, stage: int) -> None:
        """Hook every module of the stage with a weight; the embedding reads ids, not vectors."""
        if stage == 0:
            return
        for module in skeleton.part(stage).modules():
            prefix = skeleton.prefixes[module]
            held = dict(module.named_parameters(recurse=False))
            experts = expert_names(skeleton.pieces, prefix)
            if experts is not None:
                see = self._experts(experts, module, skeleton)
            elif "weight" in held and held["weight"].ndim in self._dimensions:
                see = self._weight(f"{prefix}.weight", held["weight"].shape[-1], skeleton)
            else:
                self._skipped += [f"{prefix}.{key}" for key, p in held.items() if p.ndim > 2]
                continue
            stack.callback(module.register_forward_pre_hook(see).remove)

    def begin(self, batch: Batch) -> None:
        """Remember the batch, whose padding does not count."""
        self._batch, self._latest = batch, None

    def end(self, skeletons: Sequence[Skeleton], stage: int, states: Sequence[Tensor]) -> None:
        """After the final norm, count the input of an untied head."""
        (skeleton,) = skeletons
        if stage > skeleton.layers and not skeleton.tied:
            name = f"{skeleton.prefixes[skeleton.head]}.weight"
            self._weight(name, skeleton.width, skeleton)(skeleton.head, (states[0],))

    def collect(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The means; which weights saw no token, and which channels were always zero."""
        tensors = {
            name: (total / max(1, self._counts[name])).float() for name, total in self._sums.items()
        }
        unseen = [name for name, count in self._counts.items() if not count]
        dead = {}
        for name, tensor in tensors.items():
            zero = int(((tensor if tensor.ndim == 1 else tensor.diagonal()) == 0).sum())
            if zero and name not in unseen:
                dead[name] = zero
        few = {n: c for n, c in self._counts.items() if 0 < c < len(tensors[n])}
        facts: dict[str, Any] = {"unseen": unseen, "dead": dead, "skipped": self._skipped}
        if self._kind == "gram":
            facts["few"] = few
        self._sums, self._counts, self._latest, self._skipped = {}, {}, None, []
        return tensors, facts

    def _expect(self, name: str, channels: int, device: torch.device) -> None:
        import torch

        if name not in self._sums:
            shape = (channels,) if self._kind == "activations" else (channels, channels)
            wide = torch.float64 if self._kind == "activations" else torch.float32
            self._sums[name] = torch.zeros(shape, dtype=wide, device=device)
            self._counts[name] = 0

    def _weight(self, name: str, channels: int, skeleton: Skeleton) -> Hook:
        """A hook that counts the input of one weight, for each tensor that it is made of."""
        tensors = [piece.tensor for piece in skeleton.pieces[name]]
        for tensor in tensors:
            self._expect(tensor, channels, skeleton.device)

        def see(_: nn.Module, args: tuple[Any, ...]) -> None:
            assert self._batch is not None
            for tensor in tensors:
                self._add(tensor, args[0], self._batch.real)

        return see

    def _experts(self, experts: Sequence[ExpertNames], module: Any, skeleton: Skeleton) -> Hook:
        """A hook that counts the input of each expert of a layer, by its router's choices."""
        from torch.nn.functional import linear

        for names in experts:
            for name in names.inputs:
                self._expect(name, module.gate_up_proj.shape[-1], skeleton.device)
            for name in names.inner:
                self._expect(name, module.down_proj.shape[-1], skeleton.device)

        def see(_: nn.Module, args: tuple[Any, ...]) -> None:
            assert self._batch is not None
            values, chosen = (self._batch.real(held) for held in args[:2])
            for expert in sorted(set(chosen.flatten().tolist())):
                own = values[(chosen == expert).any(dim=-1)]
                for name in experts[expert].inputs:
                    self._add(name, own)
                gate, up = linear(own, module.gate_up_proj[expert]).chunk(2, dim=-1)
                inner = module.act_fn(gate) * up
                for name in experts[expert].inner:
                    self._add(name, inner)

        return see

    def _add(
        self, name: str, values: Tensor, real: Callable[[Tensor], Tensor] = lambda v: v
    ) -> None:
        """Count the input of a weight; an input that several weights share is computed once."""
        import torch

        if self._latest is None or self._latest[0] is not values:
            rows = real(values)
            rows = rows.reshape(-1, rows.shape[-1]).float()
            if self._kind == "gram":
                total = rows.T @ rows
            else:
                total = rows.abs().sum(dim=0, dtype=torch.float64)
            self._latest = values, len(rows), total
        _, tokens, total = self._latest
        self._sums[name] += total
        self._counts[name] += tokens


def findings(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on experts, channels and matrices that the user should know about."""
    sentences = []
    unseen = [name for facts in stages for name in facts.get("unseen", ())]
    if experts := sorted({name.rsplit(".", 2)[0] for name in unseen}, key=natural):
        sentences.append(
            f"{len(experts)} experts were never routed to: {_some(experts)}. Their statistics are "
            "zero. Measure more samples, or other ones."
        )
    dead = {name: count for facts in stages for name, count in facts.get("dead", {}).items()}
    if dead:
        sentences.append(
            f"{sum(dead.values())} input channels were zero for every token, as in "
            f"{_some([f'{name} ({count})' for name, count in dead.items()])}. They are recorded as "
            "zero."
        )
    skipped = [name for facts in stages for name in facts.get("skipped", ())]
    if skipped:
        sentences.append(
            f"{len(skipped)} weights were not measured, because the checkpoint keeps several in "
            f"one tensor: {_some(skipped)}."
        )
    few = {name: count for facts in stages for name, count in facts.get("few", {}).items()}
    if few:
        sentences.append(
            f"{len(few)} Gram matrices were made of fewer tokens than they have rows, such as "
            f"{_some([f'{name} ({count})' for name, count in few.items()])}: they are singular. "
            "Measure more samples, or give regmean a lower off-diagonal factor."
        )
    return sentences


def _some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, with a hint if there are more."""
    return ", ".join(names[:most]) + (" and others" if len(names) > most else "")
