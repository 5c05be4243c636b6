"""The contract tests that ship in the package, run on the package's own plug-ins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from laconic.backends.contract.call import Call
from laconic.runs.experiment import Sampling
from laconic.runs.run import Sample
from laconic.testing.test_backends import *  # noqa: F403
from laconic.testing.test_backends import MODEL, _has_vllm
from laconic.testing.test_charts import *  # noqa: F403
from laconic.testing.test_controllers import *  # noqa: F403
from laconic.testing.test_log_formats import *  # noqa: F403
from laconic.testing.test_methods import *  # noqa: F403
from laconic.testing.test_strategies import *  # noqa: F403
from laconic.testing.test_tasks import *  # noqa: F403
from tests.support.openai_server import Answer, Body, Chat, serve

if TYPE_CHECKING:
    from laconic.backends.contract.backend import Backend
    from laconic.registry import Plugin


@pytest.fixture  # type: ignore[no-redef]  # in place of the imported one
def options(plugin: Plugin[Any]) -> Iterator[dict[str, Any]]:
    """What a backend's parameters are given: for openai, a server of the lab's System 1."""
    if plugin.name == "openai":
        from laconic.backends.transformers import transformers

        with (
            closing(transformers(MODEL)) as engine,
            serve(Chat(answer=lambda body: answer(engine, body), models={MODEL: {}})) as chat,
        ):
            yield {"url": chat.url, "tokenizer": MODEL}
    elif plugin.name == "vllm" and not _has_vllm():
        pytest.skip("vllm needs its library and a GPU")
    elif any(parameter.required for parameter in plugin.parameters):
        pytest.skip(f"{plugin.name} has tests of its own")
    else:
        yield {}


def answer(engine: Backend, body: Body) -> Answer:
    """What a model in this process completes a request with."""
    sample = Sample("served", "1", body["messages"][0]["content"], "")
    sampling = Sampling(
        body["max_tokens"], body["temperature"], body["top_p"], 1, body.get("seed", 0)
    )
    ((_, made),) = next(iter(engine.generate([Call(sample)], sampling)))
    return Answer(made.text, made.length, made.finish)
