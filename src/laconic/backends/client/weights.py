"""Has a running vLLM server load new weights, by its own HTTP endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laconic.backends.client.protocol import TroubleError, said
from laconic.errors import BackendError

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.backends.client.request import HttpClient

#: What a server is asked for, in order: read the weights, forget what was computed with others.
RELOAD: Final = "/collective_rpc"
FORGET: Final = "/reset_prefix_cache"
HOW: Final = (
    "Start vLLM 0.18 or later with the environment variable VLLM_SERVER_DEV_MODE=1, where only you "
    "can reach it"
)


def reload_weights(http: HttpClient, url: str, folder: Path, seconds: float) -> None:
    """Have a server replace its weights by those of a folder.

    Args:
        http: Makes the requests.
        url: The server's base URL, which ends in /v1.
        folder: The checkpoint, by a path that leads there on the server's machine, too.
        seconds: How long that may take.

    Raises:
        BackendError: If the server cannot be reached, has no such endpoint, or cannot load them.
    """
    reload = {"method": "reload_weights", "kwargs": {"weights_path": str(folder)}}
    for path, body in ((RELOAD, reload), (FORGET, None)):
        _post(http, url.removesuffix("/v1") + path, body, folder, seconds)


def _post(http: HttpClient, address: str, body: object, folder: Path, seconds: float) -> None:
    try:
        answer = http.fetch("POST", address, body, seconds)
    except TroubleError as error:
        if error.sign == "load":
            raise BackendError(
                f"{address} has not answered in {seconds:g} seconds; the weights are in {folder}. "
                "Look at the server's log, or give it more time (timeout of the backend)."
            ) from error
        raise BackendError(
            f"{address} cannot be reached ({error}): the server does not run, or died while it "
            "read the weights. Look at its log and start it again."
        ) from error
    if answer.status in {404, 405, 501}:
        raise BackendError(
            f"{address} does not exist, so this server takes no new weights. {HOW}; or take "
            "evaluator.where: apart."
        )
    if answer.status in {401, 403}:
        raise BackendError(f"{address} refuses the request: it wants an API key, or another one.")
    if not 200 <= answer.status < 300:
        reason = said(answer.body) or "it does not say why; its log does"
        raise BackendError(
            f"{address} answered with status {answer.status}: {reason}. The server must see "
            f"the weights under the same path ({folder}), of the model that it serves."
        )
