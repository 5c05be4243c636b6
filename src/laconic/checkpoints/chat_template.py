"""A checkpoint's chat template: how a problem becomes the text a model is given."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from laconic.checkpoints.template_process import RenderError, apply_template
from laconic.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.runs.run import Sample


def render(tokenizer: Any, sample: Sample, name: str) -> str:
    """The exact text that a sample's model is given: as it stands where no chat template applies.

    Args:
        tokenizer: A transformers tokenizer.
        sample: The user's turn, and how the model's begins.
        name: The model, for the error.

    Raises:
        BackendError: For a template that cannot write a user's turn, or not within the limits of
            `laconic.checkpoints.template_process`.
    """
    if sample.raw or not tokenizer.chat_template:
        return sample.problem + sample.prefill
    return render_turn(tokenizer, sample.problem, name) + sample.prefill


def render_turn(tokenizer: Any, problem: str, name: str) -> str:
    """A user's turn by the tokenizer's chat template, up to where the model begins to write.

    Raises:
        BackendError: For a template that cannot write a user's turn.
    """
    try:
        return apply_template(tokenizer, [{"role": "user", "content": problem}], opens=True)
    except RenderError as error:
        raise BackendError(
            f"{name}: its chat template cannot write a user's turn ({error})."
        ) from error


def encode_prompt(tokenizer: Any, text: str, *, raw: bool = False) -> list[int]:
    """The tokens of a rendered text; a template, if it was used, has written the special ones."""
    plain = raw or not tokenizer.chat_template
    ids: list[int] = tokenizer.encode(text, add_special_tokens=plain)
    return ids


def template_digest(tokenizer: Any) -> str:
    """A digest of the chat template and of the special tokens it renders with."""
    written = [tokenizer.chat_template, tokenizer.special_tokens_map]
    text = json.dumps(written, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tokenizer_digest(tokenizer: Any) -> str:
    """A digest of which string each token id stands for."""
    text = json.dumps(sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1]))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def explained(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """Turn what transformers raises into one sentence, and keep its bars and tables quiet."""
    from transformers.utils import logging

    upstream: Any = logging
    shown, verbosity = upstream.is_progress_bar_enabled(), upstream.get_verbosity()
    upstream.disable_progress_bar()
    upstream.set_verbosity_error()
    try:
        yield
    except Exception as error:  # one call of a library on a user's files: it may raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BackendError(
            f"{checkpoint.name}: transformers cannot load its {what} ({reason}). "
            f"Look at the files in {checkpoint.folder}."
        ) from error
    finally:
        upstream.set_verbosity(verbosity)
        if shown:
            upstream.enable_progress_bar()
