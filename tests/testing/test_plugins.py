"""The contract tests that ship in the package, run on the package's own plug-ins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from laconic.backends.contract.call import Call
from laconic.runs.experiment import Sampling
from laconic.runs.run import Sample
from laconic.testing import test_backends as backend_contract
from laconic.testing.test_backends import *  # noqa: F403
from laconic.testing.test_charts import *  # noqa: F403
from laconic.testing.test_controllers import *  # noqa: F403
from laconic.testing.test_log_formats import *  # noqa: F403
from laconic.testing.test_methods import *  # noqa: F403
from laconic.testing.test_objectives import *  # type: ignore[assignment]  # noqa: F403  # own helpers
from laconic.testing.test_rewards import *  # type: ignore[assignment]  # noqa: F403  # own helpers
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
            closing(transformers(backend_contract.MODEL)) as engine,
            serve(
                Chat(
                    answer=lambda body: served_answer(engine, body),
                    models={backend_contract.MODEL: {}},
                )
            ) as chat,
        ):
            yield {"url": chat.url, "tokenizer": backend_contract.MODEL}
    elif plugin.name == "vllm" and not backend_contract._has_vllm():
        pytest.skip("vllm needs its library and a GPU")
    elif any(parameter.required for parameter in plugin.parameters):
        pytest.skip(f"{plugin.name} has tests of its own")
    else:
        yield {}


def chat_of(engine: Backend) -> Chat:
    """A server of a model in this process."""
    models: dict[str, dict[str, Any]] = {backend_contract.MODEL: {}}
    return Chat(answer=lambda body: served_answer(engine, body), models=models)


def served_answer(engine: Backend, body: Body) -> Answer:
    """What a model in this process completes a request with."""
    sample = Sample("served", "1", body["messages"][0]["content"], "")
    sampling = Sampling(
        body["max_tokens"], body["temperature"], body["top_p"], 1, body.get("seed", 0)
    )
    ((_, made),) = next(iter(engine.generate([Call(sample)], sampling)))
    return Answer(made.text, made.length, made.finish)
