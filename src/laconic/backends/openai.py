"""OpenAI's protocol as the engine: a model behind one or several servers, asked over HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from annotated_types import Ge, Gt

from laconic.backends.client.dispatch import Completed, Dispatch, complete
from laconic.backends.client.identity import check_tokens, identify
from laconic.backends.client.protocol import RefusedError, Reply, TroubleError, settings
from laconic.backends.client.request import HttpClient
from laconic.backends.client.servers import ConcurrencyLimit, Server, Servers
from laconic.backends.client.weights import reload_weights
from laconic.backends.contract.backend import Backend, backend, refuse_overflow
from laconic.checkpoints.chat_template import encode_prompt, render, template_digest
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.tokenizer import load_tokenizer
from laconic.errors import BackendError
from laconic.runs.run import Generation
from laconic.runtime import versions

if TYPE_CHECKING:
    from laconic.backends.contract.call import Call
    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Sample

Endpoint = Literal["auto", "chat", "completions"]
CLOSE: Final = "</think>"
#: Tokens by which a server may count a completion that its budget cut short of the budget.
SLACK: Final = 8
#: What a request holds of its own; `extra` must leave these alone.
OWN: Final = frozenset(
    {"model", "messages", "prompt", "max_tokens", "temperature", "top_p", "seed", "n", "stream"}
)


@backend(can={"stop"})
def openai(
    model: str,
    *,
    url: str,
    tokenizer: str = "",
    endpoint: Endpoint = "auto",
    concurrency: Annotated[int, Ge(1)] = 256,
    timeout: Annotated[float, Gt(0)] = 3600.0,
    retries: Annotated[int, Ge(0)] = 12,
    stream: bool = False,
    key: str = "",
    extra: dict[str, Any] | None = None,
) -> Backend:
    """Any server that speaks OpenAI's protocol: vLLM, SGLang, llama.cpp, TGI, LM Studio.

    The model is the name that the server lists. Every completion is a request of its own, never
    one of several: so each has its own seed, its own usage, which a request for several gives as
    one sum, and is asked again alone; servers keep the prompt that repeats share. A length is the
    server's usage. With a tokenizer it is checked, and counted anew where the two differ by more
    than a tenth; without one, a usage that cannot be right is asked for again.

    Args:
        url: The base URL, such as http://localhost:8000/v1; several, with spaces between, share
            the work.
        tokenizer: The model's folder, Hub id or lab name: checks and splits lengths, writes the
            prompts of completions.
        endpoint: auto is chat, and completions for samples that begin the model's turn, which
            needs the tokenizer.
        concurrency: The most requests at a time to one server; how many are in flight adapts.
        timeout: Seconds for one request, from its start to the last byte of the answer; then it is
            made again.
        retries: Further requests for a completion that failed, half a second to a minute apart.
        stream: Whether completions come token by token, for a way that drops silent connections;
            costs more of this machine's time.
        key: The environment variable that holds the API key, such as OPENAI_API_KEY; none is sent
            unasked.
        extra: More fields of each request, as a JSON object.

    Raises:
        BackendError: If a server cannot be reached or used, does not serve the model, or a
            completion failed for good.
    """
    urls = _addresses(url)
    secret = _secret(key)
    if taken := sorted(OWN & (extra or {}).keys()):
        raise BackendError(f"openai: extra must not hold '{taken[0]}': laconic sets it.")
    options = _Options(endpoint, concurrency, timeout, retries, stream, extra or {})
    local = _LocalTokenizer(tokenizer) if tokenizer else None
    return _OpenaiEngine(model, urls, secret, local, options)


@dataclass(frozen=True)
class _Options:
    """How requests are made, as `openai` describes it."""

    endpoint: Endpoint
    concurrency: int
    timeout: float
    retries: int
    stream: bool
    extra: dict[str, Any]


class _LocalTokenizer:
    """The model's own tokenizer on this machine."""

    def __init__(self, model: str) -> None:
        checkpoint = open_checkpoint(model)
        self._name = checkpoint.name
        self._tokenizer = load_tokenizer(checkpoint)
        self.digest = template_digest(self._tokenizer)

    def render(self, sample: Sample) -> str:
        return render(self._tokenizer, sample, self._name)

    def prompt(self, sample: Sample) -> list[int]:
        """The tokens that the model is given."""
        return encode_prompt(self._tokenizer, self.render(sample), raw=sample.raw)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, without special tokens around it."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def count(self, text: str) -> int:
        """The number of tokens of a part of a completion."""
        return len(self.encode(text))


class _OpenaiEngine:
    """The servers of one model, as one engine."""

    def __init__(
        self,
        model: str,
        urls: Sequence[str],
        secret: str,
        tokenizer: _LocalTokenizer | None,
        options: _Options,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._options = options
        self._http = HttpClient(secret, options.timeout, stream=options.stream)
        self._identities = [identify(self._http, url, model) for url in urls]
        if tokenizer is not None:
            for identity in self._identities:
                check_tokens(self._http, identity, tokenizer.encode)
        self._servers = Servers(
            [Server(url, ConcurrencyLimit(options.concurrency)) for url in urls]
        )
        self._counted: Counter[str] = Counter()
        prompting = [options.endpoint, options.extra, tokenizer and tokenizer.digest]
        self.fingerprint = _digest(["openai", model])
        self.template = _digest(prompting)
        self.dtype = "served"
        self.device = ", ".join(
            f"{identity.server or 'server'} at {identity.url}" for identity in self._identities
        )
        self.window = min(
            (w.window for w in self._identities if w.window is not None), default=None
        )
        versions_by_server = {
            identity.server or "server": identity.version
            for identity in self._identities
            if identity.version
        }
        self.versions = versions("httpx2") | versions_by_server

    @property
    def facts(self) -> dict[str, Any]:
        """What a run keeps of the servers, and how many lengths came from which source."""
        options = vars(self._options)
        return {
            "servers": [vars(identity) for identity in self._identities],
            "lengths": dict(self._counted),
            "options": {key: options[key] for key in ("endpoint", "stream", "extra")},
        }

    def request(self, call: Call, sampling: Sampling) -> dict[str, Any]:
        path, body = self._request(call, sampling)
        return {"url": self._identities[0].url + path, "body": body}

    def render(self, sample: Sample) -> str:
        """The text the model is given; without a tokenizer, the user's turn as it is sent."""
        return (
            self._tokenizer.render(sample) if self._tokenizer else sample.problem + sample.prefill
        )

    def prompt_length(self, sample: Sample) -> int:
        """The tokens of that text; 0 without a tokenizer, because only the server knows."""
        return len(self._tokenizer.prompt(sample)) if self._tokenizer else 0

    def generate(self, calls: Sequence[Call], sampling: Sampling) -> Iterator[list[Completed]]:
        refuse_overflow(self, calls, sampling.max_tokens or 0)

        async def work(dispatch: Dispatch) -> None:
            async with self._http.clients() as clients:

                async def ask(server: Server, call: Call) -> Generation:
                    path, body = self._request(call, sampling)
                    budget = call.budget(sampling.max_tokens)
                    reply = await self._http.ask(clients, server.url + path, body, budget)
                    return self._generation(call.sample, reply, budget)

                await dispatch.run(ask, calls)

        yield from complete(self._servers, self._options.retries, work)

    def renew(self, checkpoint: Checkpoint) -> None:
        """Have every server load the weights of a folder that it sees under the same path.

        Raises:
            BackendError: If one cannot be reached, cannot do that, or cannot load them.
        """
        for identity in self._identities:
            reload_weights(self._http, identity.url, checkpoint.folder, self._options.timeout)
        self.fingerprint = checkpoint.fingerprint

    def close(self) -> None:
        """Nothing: connections live as long as a call of `generate`."""

    def _request(self, call: Call, sampling: Sampling) -> tuple[str, dict[str, Any]]:
        """The path and the body of a call's request."""
        sample, endpoint = call.sample, self._options.endpoint
        if endpoint == "auto":
            endpoint = "completions" if sample.prefill or sample.raw else "chat"
        shared = {"model": self._model, **settings(call, sampling, stream=self._options.stream)}
        shared |= self._options.extra
        if endpoint == "completions":
            if self._tokenizer:
                return "/completions", {**shared, "prompt": self._tokenizer.prompt(sample)}
            if self._options.endpoint == "auto" and not sample.raw:
                raise BackendError(
                    f"{sample.task}, problem '{sample.id}' begins the model's turn, which takes "
                    "the model's chat template. Give --backend openai:...,tokenizer=FOLDER."
                )
            return "/completions", {**shared, "prompt": sample.problem + sample.prefill}
        if sample.prefill or sample.raw:
            what = "is asked without a chat template" if sample.raw else "begins the model's turn"
            raise BackendError(
                f"{sample.task}, problem '{sample.id}' {what}, which the chat endpoint cannot. "
                "Give endpoint=completions, or leave it out."
            )
        turn = [{"role": "user", "content": sample.problem}]
        return "/chat/completions", {**shared, "messages": turn}

    def _generation(self, sample: Sample, reply: Reply, budget: int) -> Generation:
        """A completion with its lengths."""
        parted = reply.reasoning is not None
        closed = parted and bool(reply.text)
        text = f"{reply.reasoning}{CLOSE}{reply.text}" if closed else reply.reasoning or reply.text
        length = self._length(reply, text, budget)
        before, tag, _ = text.rpartition(CLOSE)
        thinks = bool(tag) if not parted else closed
        if thinks:
            thinking = reply.thinking_length or self._share(before + tag, text, length)
        else:
            thinking = length if parted or self._opened(sample, text) else 0
        return Generation(text, length, min(thinking, length), thinks, reply.finish)

    def _opened(self, sample: Sample, text: str) -> bool:
        """Whether the template or the model opened a thought, as far as the texts show."""
        begun = self._tokenizer.render(sample).rstrip() if self._tokenizer else sample.prefill
        return begun.rfind("<think>") > begun.rfind(CLOSE) or "<think>" in text

    def _length(self, reply: Reply, text: str, budget: int) -> int:
        """The tokens of a completion by the usage, or by the tokenizer if the usage is wrong."""
        if self._tokenizer is None:
            length, source = self._stated(reply), "usage"
        else:
            counted = min(self._tokenizer.count(text) + 1, budget)  # the token that ends the turn
            stated = counted if reply.length is None else reply.length
            agrees = reply.length is not None and abs(stated - counted) <= 16 + counted // 10
            length, source = (stated, "usage") if agrees else (counted, "tokenizer")
        if reply.finish == "length":
            length = self._full(length, reply, budget)
        self._counted[source] += 1
        return length

    def _stated(self, reply: Reply) -> int:
        """The length by the usage, if there is no tokenizer to check it."""
        if reply.length is not None:
            return reply.length
        if reply.has_usage:
            raise TroubleError("a usage that cannot be right")
        raise RefusedError(
            "It states no usage, so lengths are unknown. Give the model's tokenizer: "
            "--backend openai:...,tokenizer=FOLDER.",
            always=True,
        )

    def _full(self, length: int, reply: Reply, budget: int) -> int:
        """The length of a completion that was cut: the budget, unless something else cut it."""
        near = SLACK if self._tokenizer is None or reply.length == length else 16 + budget // 10
        if max(length, reply.length or 0) < budget - near:
            raise RefusedError(
                f"The server cut it at {length:,} tokens of a budget of {budget:,}: its window is "
                "full, or it has a limit of its own. Give a smaller --max-tokens, or a server "
                "started with a larger window (--max-model-len, --context-length, -c)."
            )
        return budget

    def _share(self, part: str, text: str, length: int) -> int:
        """The tokens of a completion's first part: counted, else by its share of the characters."""
        if self._tokenizer:
            return self._tokenizer.count(part)
        self._counted["thinking parts by share of characters"] += 1
        return round(length * len(part) / len(text))


def _addresses(text: str) -> list[str]:
    """The base URLs of a text.

    Raises:
        BackendError: For none, for one that is no web address, or one that holds a password.
    """
    import httpx2

    addresses = list(dict.fromkeys(part.rstrip("/") for part in text.split()))
    for address in addresses:
        try:
            parts = httpx2.URL(address)
        except httpx2.InvalidURL:
            parts = httpx2.URL("")
        if parts.userinfo or parts.query:
            raise BackendError(
                f"openai: the address of {parts.host} holds a name, a password or a query, which "
                "would be kept with the run. Put the key into an environment variable: "
                "key=VARIABLE."
            )
        if parts.scheme not in {"http", "https"} or not parts.host:
            raise BackendError(
                f"openai: '{address}' is no address. Write url=http://HOST:PORT/v1; several with "
                "spaces between."
            )
    if not addresses:
        raise BackendError("openai: url is empty. Write url=http://HOST:PORT/v1.")
    return addresses


def _secret(variable: str) -> str:
    """The API key; empty where no variable is named.

    Raises:
        BackendError: For a variable that is not set or holds no key, or a key in place of a name.
    """
    if not variable:
        return ""
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):
        raise BackendError(
            "openai: key names the environment variable that holds the API key, such as "
            "key=OPENAI_API_KEY; it never is the key itself."
        )
    secret = os.environ.get(variable, "").strip()
    if not secret:
        raise BackendError(f"openai: key={variable}, but that environment variable is not set.")
    if not re.fullmatch(r"[!-~]+", secret):
        raise BackendError(
            f"openai: the environment variable {variable} holds no API key: there is a space, a "
            "line break or a letter outside ASCII within it."
        )
    return secret


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
