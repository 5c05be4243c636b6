"""Dev problems answered by a server that is given each checkpoint's weights without a new start."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from laconic.backends.contract.backend import Renewable
from laconic.checkpoints.chat_template import template_digest, tokenizer_digest
from laconic.checkpoints.checkpoint import Checkpoint, open_checkpoint
from laconic.checkpoints.tokenizer import load_tokenizer
from laconic.errors import TrainError
from laconic.evaluation.session import measure, open_engine
from laconic.registry import parse_spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Run
    from laconic.runtime import Progress
    from laconic.tasks.contract.task import Task
    from laconic.training.recipe import TrainRecipe

#: What of a checkpoint's folder a server reads.
READ: Final = ("*.safetensors", "*.safetensors.index.json", "config.json")
#: Further requests for a completion that failed, where the recipe does not say: so few that the
#: death of a server is noticed before it can be back, with the weights that it was started with.
RETRIES: Final = 4


def ask_served(
    model: str,
    task: Task,
    sampling: Sampling,
    *,
    recipe: TrainRecipe,
    output: Path,
    progress: Progress,
) -> Run:
    """Evaluate a model on disk by the server that the recipe names.

    Args:
        model: A checkpoint's folder, a Hub id or a ``lab:`` name, of the server's model's shape.
        task: The problems.
        sampling: How completions are drawn; `max_tokens` is a number.
        recipe: Names the server.
        output: The run folder.
        progress: Told after each batch.

    Raises:
        BackendError: Where the server cannot be reached, cannot take the weights, or dies.
    """
    evaluator = recipe.evaluator
    checkpoint = open_checkpoint(model)
    checkpoint.fetch()
    with closing(
        open_engine(evaluator.name or recipe.model, _patient(evaluator.backend))
    ) as engine:
        assert isinstance(engine, Renewable), "prepare lets only such a backend pass"
        with _placed(checkpoint, evaluator.folder) as seen:
            engine.renew(seen)
        return measure(
            engine,
            [task],
            model=model,
            sampling=sampling,
            backend=evaluator.backend,
            output=output,
            progress=progress,
        )


def refuse_unservable(recipe: TrainRecipe) -> None:
    """Refuse an evaluator that is no server, and a System 1 that it would prompt wrongly.

    Raises:
        TrainError: With what to write instead.
    """
    engine, options = parse_spec(recipe.evaluator.backend)
    if engine != "openai" or "url" not in options:
        raise TrainError(
            f"evaluator.backend {recipe.evaluator.backend} is no server. With where: served write "
            "backend: openai:url=http://HOST:PORT/v1."
        )
    one = recipe.bounds.system1 if recipe.bounds else None
    if isinstance(one, str) and _speech(one) != _speech(recipe.model):
        raise TrainError(
            f"bounds.system1 {one} has another tokenizer or chat template than {recipe.model}, and "
            "the server uses that model's: System 1 would be asked in a way that it does not know. "
            "Give its figures (bounds: {system1: {accuracy: ..., length: ..., n: ...}})."
        )


def _speech(model: str) -> tuple[str, str]:
    """What a model's prompts depend on."""
    tokenizer = load_tokenizer(open_checkpoint(model))
    return tokenizer_digest(tokenizer), template_digest(tokenizer)


def _patient(backend: str) -> str:
    """The engine as the recipe writes it, with as many retries as tell a death from a hiccup."""
    return backend if "retries" in parse_spec(backend)[1] else f"{backend},retries={RETRIES}"


@contextmanager
def _placed(checkpoint: Checkpoint, folder: str | None) -> Iterator[Checkpoint]:
    """A checkpoint where the server reads it, for as long as it reads.

    Raises:
        TrainError: Where the folder cannot be written.
    """
    if folder is None:
        yield open_checkpoint(str(checkpoint.folder.resolve()))
        return
    place = Path(folder).expanduser().resolve()
    try:
        place.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix="laconic-", dir=place))
        made.chmod(0o755)
        try:
            for pattern in READ:
                for path in sorted(checkpoint.folder.glob(pattern)):
                    shutil.copyfile(path, made / path.name)
            yield open_checkpoint(str(made))
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise TrainError(
            f"evaluator.folder {place} cannot be written: {error.strerror or error}. Name another "
            "with room for the weights."
        ) from error
