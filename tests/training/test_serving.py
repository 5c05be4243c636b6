"""Training whose dev problems a server answers that is given new weights, which may go wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.errors import TrainError
from laconic.evaluation.evaluate import evaluate
from laconic.runs.experiment import Sampling
from laconic.runs.run import read_run
from laconic.training.export import export
from laconic.training.prepare import prepare
from laconic.training.run_folder import RunFolder
from laconic.training.train import TrainRecipe, train
from tests.support.live_server import served_model
from tests.support.trainings import MODEL, recipe_values, write_pools

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.live_server import Model
    from tests.support.openai_server import Chat


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_pools(tmp_path_factory.mktemp("serving") / "pools")


@pytest.fixture
def serving() -> Iterator[tuple[Chat, Model]]:
    with served_model(MODEL) as found:
        yield found


def recipe(pools: Path, chat: Chat, **evaluator: Any) -> TrainRecipe:
    """Two steps at a rate that changes every answer, seen by the server after each."""
    served = {"where": "served", "backend": f"openai:url={chat.url},retries=0", **evaluator}
    dev = {"task": "lab:split=dev", "limit": 4, "heldout": 0}
    values = recipe_values(pools, steps=2, every=1, keep=1, rate=1e-2, dev=dev, evaluator=served)
    return TrainRecipe.from_dict(values)


@pytest.mark.slow
def test_every_checkpoint_is_measured_by_a_server_and_its_death_costs_nothing(
    pools: Path, serving: tuple[Chat, Model], tmp_path: Path
) -> None:
    chat, model = serving
    asked, folder = recipe(pools, chat), tmp_path / "short"

    def die(path: str) -> None:
        model.reload(path)
        exports = sum(Path(one).name == "exported" for one in model.read)
        chat.faults = {"reset": float(exports == 2)}

    chat.reload = die
    with pytest.raises(TrainError, match=r"Step 2: .*step 2 is whole: mend it, then run the same"):
        train(asked, folder)
    chat.faults, chat.reload = {}, model.reload
    done = train(asked, folder, resume=True)
    start = open_checkpoint(MODEL).folder.name
    read = [Path(path).name for path in model.read]
    assert read == [start, "exported", "exported", start, "exported"]
    assert chat.forgotten == len(read)
    texts = {}
    for step in (1, 2):
        run = read_run(folder / "evals" / f"step-{step:06}")
        texts[step] = {result.key[1:]: result.text for result in run.results}
    kept = tmp_path / "again"
    export(prepare(asked, 1), RunFolder(folder), 2, kept)
    plain = evaluate(kept, ["lab:split=dev"], limit=4, sampling=Sampling(max_tokens=6))
    assert texts[2] == {result.key[1:]: result.text for result in plain.results}
    untouched = read_run(folder / "bounds" / "steer" / "system2")
    assert texts[2] != {result.key[1:]: result.text for result in untouched.results}
    assert done.steps == 2
    told = json.loads((folder / "run.json").read_text())
    assert told["recipe"]["evaluator"]["where"] == "served"


@pytest.mark.slow
def test_weights_go_through_a_folder_of_the_servers_where_it_has_one(
    pools: Path, serving: tuple[Chat, Model], tmp_path: Path
) -> None:
    from laconic.training.serving import ask_served

    chat, model = serving
    asked = recipe(pools, chat, folder=str(tmp_path / "seen"))
    dev = prepare(asked, 1).dev
    run = ask_served(
        "lab:system1",
        dev.steer,
        dev.sampling,
        recipe=asked,
        output=tmp_path / "run",
        progress=lambda *_: None,
    )
    plain = evaluate("lab:system1", ["lab:split=dev"], limit=4, sampling=dev.sampling)
    assert [r.text for r in run.results] == [r.text for r in plain.results]
    (read,) = model.read
    assert read.startswith(f"{tmp_path / 'seen'}/")
    assert list((tmp_path / "seen").iterdir()) == []
    (tmp_path / "file").touch()
    elsewhere = recipe(pools, chat, folder=str(tmp_path / "file" / "seen"))
    with pytest.raises(
        TrainError, match=r"evaluator\.folder .*/file/seen cannot be written: Not a"
    ):
        ask_served(
            "lab:system1",
            dev.steer,
            dev.sampling,
            recipe=elsewhere,
            output=tmp_path / "other",
            progress=lambda *_: None,
        )


@pytest.mark.slow
def test_a_server_that_takes_no_weights_is_refused_before_the_first_step(
    pools: Path, serving: tuple[Chat, Model], tmp_path: Path
) -> None:
    chat, model = serving

    def refuse(sentence: str) -> None:
        with pytest.raises(Exception, match=sentence) as caught:
            train(recipe(pools, chat), tmp_path / "short", resume=True)
        assert type(caught.value).__name__ == "BackendError"

    chat.reload = None
    refuse(r"/collective_rpc does not exist, .*Start vLLM 0\.18 or later .*VLLM_SERVER_DEV_MODE=1")

    def misfit(path: str) -> None:
        raise ValueError("size mismatch for q_proj")

    chat.reload = misfit
    refuse(r"status 500: size mismatch for q_proj\. The server must see the weights under the same")

    def die(path: str) -> None:
        raise ConnectionAbortedError

    chat.reload = die
    refuse(r"/collective_rpc cannot be reached .*died while it read the weights")
    assert not (tmp_path / "short" / "checkpoints").exists()
    assert model.read == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"backend": "transformers"},
            r"evaluator\.backend transformers is no server\. .*write back",
        ),
        ({"backend": "openai:timeout=3"}, r"is no server"),
    ],
)
def test_an_evaluator_that_is_no_server_is_refused(
    pools: Path, changes: dict[str, str], sentence: str
) -> None:
    values = recipe_values(pools, evaluator={"where": "served", **changes})
    with pytest.raises(TrainError, match=sentence):
        prepare(TrainRecipe.from_dict(values), 1)
