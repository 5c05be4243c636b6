"""A model behind the loopback server that answers by itself and takes new weights as it runs."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from laconic.backends.contract.call import Call
from laconic.backends.transformers import transformers
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.runs.experiment import Sampling
from laconic.runs.run import Sample
from tests.support.openai_server import Answer, Body, Chat, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


class Model:
    """A lab model in the transformers backend, as a server's engine.

    Args:
        engine: The backend; its parameters are written into.

    Attributes:
        read: The folders whose weights it took, in order.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.read: list[str] = []

    def answer(self, body: Body) -> Answer:
        """Complete a chat."""
        sample = Sample("served", "0", body["messages"][0]["content"], "")
        asked = Sampling(max_tokens=body["max_tokens"], temperature=body["temperature"])
        ((_, made),) = (
            pair for batch in self._engine.generate([Call(sample)], asked) for pair in batch
        )
        return Answer(made.text, made.length, made.finish)

    def reload(self, path: str) -> None:
        """Take the weights of a folder, all of them."""
        checkpoint = open_checkpoint(path)
        tensors = self._engine.weights()
        assert set(checkpoint.specs) <= set(tensors)
        with torch.no_grad():
            for name in checkpoint.specs:
                tensors[name].copy_(checkpoint.read(name).flatten())
        self.read.append(path)


@contextmanager
def served_model(name: str) -> Iterator[tuple[Chat, Model]]:
    """A server of a lab model until the block ends, and the model behind it."""
    with closing(transformers(name, dtype="float32", device="cpu")) as engine:
        model = Model(engine)
        chat = Chat(answer=model.answer, reload=model.reload)
        chat.models = {name: {"owned_by": "vllm", "max_model_len": 1024, "root": name}}
        with serve(chat):
            yield chat, model
