"""A Hub on the loopback: the few endpoints that a merge needs, counting the bytes it serves."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Hub:
    """A server of model folders.

    Attributes:
        models: Each repository's folder, by its id.
        ranges: Whether range requests are heeded.
        gated: Repositories whose files are refused.
        stall: Seconds before any answer.
        status: Answered to everything, if set.
        served: Body bytes sent of each file.
        url: Where it listens.
        commits: Each repository's commit, once asked for.
    """

    models: dict[str, Path]
    ranges: bool = True
    gated: set[str] = field(default_factory=set)
    stall: float = 0.0
    status: int = 0
    served: Counter[str] = field(default_factory=Counter)
    url: str = ""
    commits: dict[str, str] = field(default_factory=dict)

    def commit(self, repo: str) -> str:
        """A repository's commit: a hash of what its folder held when first asked for."""
        if repo in self.commits:
            return self.commits[repo]
        digest = hashlib.sha1(repo.encode())
        for path in sorted(self.models[repo].iterdir()):
            digest.update(path.name.encode() + path.read_bytes())
        return self.commits.setdefault(repo, digest.hexdigest())


@contextmanager
def serve(models: dict[str, Path]) -> Iterator[Hub]:
    """Serve folders as model repositories until the block ends."""
    hub = Hub(models)

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        hub = self.hub
        time.sleep(hub.stall)
        path = unquote(urlsplit(self.path).path)
        info = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/(.+))?", path)
        file = re.fullmatch(r"/(?:datasets/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", path)
        found = info or file
        if hub.status:
            return self._refuse(hub.status, "")
        if not found or found[1] not in hub.models:
            return self._refuse(401, "RepoNotFound")
        repo, revision = found[1], found[2]
        commit = hub.commit(repo)
        if revision not in {None, "main", "v1", commit}:
            return self._refuse(404, "RevisionNotFound")
        if repo in hub.gated:
            return self._refuse(403, "GatedRepo")
        if info:
            files = [
                {"rfilename": p.name, "size": p.stat().st_size}
                for p in sorted(hub.models[repo].iterdir())
            ]
            content = json.dumps({"id": repo, "sha": commit, "siblings": files}).encode()
            return self._send(200, {"Content-Type": "application/json"}, content, "", body)
        assert file
        source = hub.models[repo] / file[3]
        if not source.is_file():
            return self._refuse(404, "EntryNotFound")
        content = source.read_bytes()
        headers: dict[str, Any] = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": commit,
        }
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not span or not hub.ranges:
            return self._send(200, headers, content, source.name, body)
        first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self._send(206, headers, content[first : last + 1], source.name, body)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, {"X-Error-Code": code}, b"", "", False)

    def _send(
        self, status: int, headers: dict[str, Any], content: bytes, name: str, body: bool
    ) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        for start in range(0, len(content) if body else 0, 65_536):
            piece = content[start : start + 65_536]
            try:
                self.wfile.write(piece)
            except OSError:
                return
            self.hub.served[name] += len(piece)
