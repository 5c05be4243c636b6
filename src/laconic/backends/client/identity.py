"""What a server says about itself: its models, program, version and window."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from laconic.backends.client.protocol import TroubleError, said
from laconic.backends.client.servers import back_off
from laconic.checkpoints.tokenizer import PROBES
from laconic.errors import BackendError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from laconic.backends.client.request import HttpAnswer, HttpClient

#: Requests made of a server that does not answer, before it counts as not there.
TRIES: Final = 4
#: Where each program states its version and window, by the `owned_by` of its models.
PLACES: Final = {
    "vllm": ("vllm", "/version"),
    "sglang": ("sglang", "/get_server_info"),
    "llamacpp": ("llama.cpp", "/props"),
    "": ("tgi", "/info"),
}


@dataclass(frozen=True)
class Identity:
    """What one server says about itself.

    Attributes:
        url: Its base URL.
        model: The served model's name.
        server: The program, such as ``vllm``; empty where it does not say.
        version: Its version; empty where it does not say.
        window: The most tokens, prompt and completion together; None where it does not say.
        root: Where the program took the model from; empty where it does not say.
    """

    url: str
    model: str
    server: str
    version: str
    window: int | None
    root: str


def identify(http: HttpClient, url: str, model: str) -> Identity:
    """Ask a server for its identity, and check that it serves the model.

    Args:
        http: Makes the requests.
        url: The base URL.
        model: The model's name, as requests will give it.

    Raises:
        BackendError: If it cannot be reached, refuses the key, or serves other models.
    """
    listed = _models(http, url)
    if listed is not None and model not in listed:
        raise BackendError(f"{url} does not serve '{model}'. {did_you_mean(model, listed)}")
    entry = (listed or {}).get(model, {})
    owner = str(entry.get("owned_by") or "").lower()
    server, path = PLACES.get(owner, PLACES[""])
    details = _details(http, url.removesuffix("/v1") + path)
    version = str(details.get("version") or details.get("build_info") or "")
    inner = details.get("default_generation_settings")
    windows = [
        entry.get("max_model_len"),
        details.get("max_total_tokens"),
        details.get("context_length"),
    ]
    windows.append(inner.get("n_ctx") if isinstance(inner, dict) else None)
    return Identity(
        url=url,
        model=model,
        server=server if version else owner,
        version=version,
        window=min((w for w in windows if isinstance(w, int) and w > 0), default=None),
        root=str(entry.get("root") or details.get("model_id") or details.get("model_path") or ""),
    )


def check_tokens(http: HttpClient, identity: Identity, encode: Callable[[str], list[int]]) -> None:
    """Check that a server splits texts into the tokens that the model was trained on.

    A server loads its own tokenizer, which some versions of transformers build otherwise than
    tokenizer.json says (see `laconic.checkpoints.tokenizer`). A server without an
    endpoint for it is believed.

    Args:
        http: Makes the requests.
        identity: The server; vLLM, SGLang and llama.cpp can be asked.
        encode: The tokens by tokenizer.json.

    Raises:
        BackendError: If a text gets other tokens.
    """
    text = "\n".join(PROBES)
    request = {
        "model": identity.model,
        "prompt": text,
        "add_special_tokens": False,
        "content": text,  # llama.cpp's name for it, and for the next
        "add_special": False,
    }
    try:
        value = http.fetch("POST", identity.url.removesuffix("/v1") + "/tokenize", request).value
    except TroubleError:
        return
    tokens = value.get("tokens") if isinstance(value, dict) else None
    if isinstance(tokens, list) and tokens and tokens != encode(text):
        raise BackendError(
            f"{identity.url} splits texts into other tokens than the tokenizer that you gave: it "
            "serves another model, or loads the tokenizer otherwise than tokenizer.json says, as "
            "some versions of transformers do. Give the served model's folder (tokenizer=FOLDER), "
            "or start the server with another version of transformers."
        )


def _models(http: HttpClient, url: str) -> dict[str, dict[str, Any]] | None:
    """The models that a server lists, by name; None if it has no such endpoint."""
    reason = ""
    for tries in range(1, TRIES + 1):
        try:
            answer = http.fetch("GET", f"{url}/models")
        except TroubleError as error:
            reason = str(error)
        else:
            if answer.status in {401, 403}:
                raise BackendError(
                    f"{url} refuses the request: it wants an API key, or another one. Put it into "
                    "an environment variable and name that, as in key=OPENAI_API_KEY."
                )
            if answer.status in {404, 405, 501}:
                return None
            if (listed := _listed(answer)) is not None:
                return listed
            reason = f"/models answered with status {answer.status} {said(answer.body)}"
        if tries < TRIES:
            time.sleep(back_off(tries))
    raise BackendError(
        f"{url} cannot be used: {reason.strip()}. Start the server, or correct the address; "
        "it usually ends in /v1."
    )


def _listed(answer: HttpAnswer) -> dict[str, dict[str, Any]] | None:
    """The models that an answer lists; None if it is no such list."""
    try:
        return {str(entry["id"]): dict(entry) for entry in answer.value["data"]}
    except (ValueError, KeyError, TypeError):
        return None


def _details(http: HttpClient, address: str) -> dict[str, Any]:
    """The JSON object at an address of the server; empty if there is none."""
    try:
        value = http.fetch("GET", address).value
    except TroubleError:
        return {}
    return value if isinstance(value, dict) else {}
