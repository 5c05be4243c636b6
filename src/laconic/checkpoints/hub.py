"""The Hub: what a checkpoint's repository holds before anything heavy is fetched; data files."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import CheckpointError, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Files of a repository that are small enough to be fetched for looking at them.
LIGHT: Final = (".json", ".jinja", ".txt")
#: The folder of a repository whose files count beside those of the top folder.
TEMPLATES: Final = "additional_chat_templates"
LIGHT_BYTES: Final = 100_000_000
WORKERS: Final = 4


@dataclass(frozen=True)
class Snapshot:
    """One commit of a model repository; its light files are in `folder`, the weights may not be.

    Attributes:
        repo: The Hub id, without a revision.
        commit: The commit's hash, whatever branch or tag was asked for.
        folder: Where the Hub's cache keeps this commit's files.
        files: The files of the repository's top folder, and its further chat templates, and their
            sizes in bytes, 0 where the server does not say.
    """

    repo: str
    commit: str
    folder: Path
    files: Mapping[str, int]

    def head(self, file: str, count: int) -> tuple[bytes, int]:
        """The first bytes of a file and its size, by a range request.

        A server that ignores ranges sends the whole file; the connection is closed as soon as the
        bytes asked for are here.

        Raises:
            CheckpointError: Where the server gives fewer bytes, or does not know the file.
        """
        from huggingface_hub import constants, get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = hf_hub_url(self.repo, file, revision=self.commit)
        headers = {
            **build_hf_headers(),
            "Range": f"bytes=0-{count - 1}",
            "Accept-Encoding": "identity",
        }
        got = bytearray()
        try:
            with get_session().stream(
                "GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            ) as response:
                hf_raise_for_status(response)
                size = _total(response.headers) or self.files.get(file, 0)
                for piece in response.iter_raw(65_536):
                    got += piece
                    if len(got) >= count:
                        break
        except _failures() as error:
            raise CheckpointError(_sentence(f"{self.repo}@{self.commit[:12]}", error)) from error
        if len(got) < min(count, size):
            raise CheckpointError(
                f"{file} of {self.repo} came short from the Hub ({len(got)} of {count} bytes). "
                "Try again."
            )
        return bytes(got[:count]), size

    def fetch(self, files: Iterable[str]) -> None:
        """Bring files into `folder`; those that are there cost nothing.

        Raises:
            CheckpointError: Where one cannot be had.
        """
        wanted = [file for file in files if not (self.folder / file).exists()]
        quiet = not sys.stderr.isatty()
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda file: _download(self.repo, file, self.commit, quiet), wanted))


def is_id(name: str) -> bool:
    """Whether a name is a Hub id: ``org/name`` or ``org/name@revision``."""
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name)) and not name.startswith(".")


def fetch_files(name: str, files: Iterable[str]) -> Path:
    """Fetch those of some files that a repository has; gives the folder they are in.

    Args:
        name: As for `look_up`.
        files: Their names.

    Raises:
        CheckpointError: As for `look_up`.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    repo, _, revision = name.partition("@")
    try:
        info = HfApi().model_info(repo, revision=revision or None)
    except _failures() as error:
        answered = isinstance(error, HfHubHTTPError) and error.response.status_code < 500
        cached = None if answered else _cached(repo, revision)
        if cached is None:
            raise CheckpointError(_sentence(name, error)) from error
        return cached.folder
    held = {sibling.rfilename for sibling in info.siblings or ()}
    wanted = [file for file in files if file in held]
    if not wanted:
        raise CheckpointError(
            f"{name} on the Hub has none of the files looked for "
            f"(it has {', '.join(sorted(held)[:5]) or 'nothing'})."
        )
    places = [_download(repo, file, info.sha or revision, quiet=True) for file in wanted]
    return Path(places[0]).parent


def look_up(name: str) -> Snapshot:
    """Find a model on the Hub and fetch its config, tokenizer and index, but no weights.

    Where the Hub cannot be reached, what its cache holds of the model is used.

    Args:
        name: ``org/name`` or ``org/name@revision``; the revision is a branch, a tag or a commit.

    Raises:
        CheckpointError: For a model or revision that is not there, that may not be read, or a Hub
            that does not answer.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    repo, _, revision = name.partition("@")
    try:
        info = HfApi().model_info(
            repo,
            revision=revision or None,
            files_metadata=True,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
    except _failures() as error:
        answered = isinstance(error, HfHubHTTPError) and error.response.status_code < 500
        cached = None if answered else _cached(repo, revision)
        if cached is None:
            raise CheckpointError(_sentence(name, error)) from error
        return cached
    files = {
        s.rfilename: s.size or 0
        for s in info.siblings or ()
        if s.rfilename.rpartition("/")[0] in ("", TEMPLATES)
    }
    commit = info.sha or ""
    if not commit or "config.json" not in files:
        raise CheckpointError(
            f"{name} on the Hub is no checkpoint: it has no config.json "
            f"(it has {', '.join(sorted(files)[:5]) or 'nothing'})."
        )
    # Asked for by its own name, the revision is noted in the cache, for when the Hub is away.
    _download(repo, "config.json", revision or constants.DEFAULT_REVISION, quiet=True)
    folder = Path(_download(repo, "config.json", commit, quiet=True)).parent
    snapshot = Snapshot(repo, commit, folder, files)
    light = [
        file
        for file, size in files.items()
        if (file.endswith(LIGHT) and size <= LIGHT_BYTES) or file == "tokenizer.model"
    ]
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda file: _download(repo, file, commit, quiet=True), light))
    return snapshot


def fetch_dataset_file(repo: str, file: str, revision: str) -> Path:
    """Fetch one file of a data set; gives its place in the Hub's cache.

    Args:
        repo: The data set, ``org/name``.
        file: Its path in the repository.
        revision: A branch, a tag or a commit.

    Raises:
        TaskError: Where it cannot be had.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    try:
        return Path(
            hf_hub_download(
                repo, file, repo_type="dataset", revision=revision, tqdm_class=_silent_bar()
            )
        )
    except _failures() as error:
        answers = (getattr(found, "response", None) for found in (error, error.__cause__))
        answer = next((answer for answer in answers if answer is not None), None)
        if isinstance(error, GatedRepoError):
            reason = "it is gated: accept its terms there, then log in with 'hf auth login'"
        elif answer is not None:
            reason = f"the Hub answered {answer.status_code}"
        elif constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE forbids to fetch it, and the cache does not hold it"
        else:
            reason = f"the Hub ({constants.ENDPOINT}) cannot be reached"
        raise TaskError(
            f"{file} of the data set {repo} cannot be had: {reason}. Give the problems yourself: "
            "--data FILE_OR_FOLDER."
        ) from error


def _cached(repo: str, revision: str) -> Snapshot | None:
    """What the Hub's cache holds of a revision, if it holds weights of it."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, revision=revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError):
        return None
    files = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    held = any(name.endswith(".safetensors") for name in files)
    return Snapshot(repo, folder.name, folder, files) if held else None


def _download(repo: str, file: str, revision: str, quiet: bool) -> str:
    from huggingface_hub import hf_hub_download

    try:
        return hf_hub_download(
            repo, file, revision=revision, tqdm_class=_silent_bar() if quiet else None
        )
    except _failures() as error:
        raise CheckpointError(_sentence(f"{repo}@{revision}", error, file)) from error


def _silent_bar() -> Any:
    from huggingface_hub.utils import tqdm

    return partial(tqdm, disable=True)


def _total(headers: Mapping[str, str]) -> int:
    """A file's size from the answer to a range request, whether or not the range was heeded."""
    total = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    return int(total) if total.isdigit() else 0


def _failures() -> tuple[type[Exception], ...]:
    """What the Hub's client raises: its own errors, its transports' (Xet's, too), bad ids."""
    from huggingface_hub.errors import HTTPError

    return (HTTPError, OSError, ValueError, RuntimeError)


def _sentence(name: str, error: Exception, file: str = "") -> str:
    """What went wrong at the Hub, and what to do, in one sentence or two."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = f"{file} of {name}" if file else name
    repo, _, revision = name.partition("@")
    match error:
        case GatedRepoError():
            return (
                f"{repo} is gated: accept its terms on its page on the Hub, then log in with "
                "'hf auth login'."
            )
        case RevisionNotFoundError():
            return f"{repo} on the Hub has no revision '{revision}'. Give a branch, tag or commit."
        case RepositoryNotFoundError():
            return (
                f"There is no folder {name}, and the Hub has no model '{repo}' that you may read. "
                "Check the spelling; for a private model log in with 'hf auth login'."
            )
        case HFValidationError():
            return f"There is no folder {name}, and it is no Hub id: write org/name."
        case OfflineModeIsEnabled():
            return (
                f"{what} is not in the Hub's cache, and HF_HUB_OFFLINE forbids to fetch it. "
                "Unset it, or give a folder."
            )
        case HfHubHTTPError():
            status = error.response.status_code
            advice = (
                "Log in with 'hf auth login' as someone who may read it."
                if status in {401, 403}
                else "Try again later."
            )
            return f"The Hub answered {status} for {what}. {advice}"
    if isinstance(error, OSError) and error.errno is not None and file:
        return f"{what} cannot be stored in the Hub's cache: {error.strerror}."
    reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
    return (
        f"There is no folder {name}, and the Hub ({constants.ENDPOINT}) cannot be reached: "
        f"{reason}. Check the connection, or give a folder."
    )
