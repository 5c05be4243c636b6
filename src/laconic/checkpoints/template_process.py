"""A chat template is a program of a stranger's: it runs in a process that can be stopped.

Its sandbox keeps it from files and from the interpreter, not from endless loops or from strings of
gigabytes. So a process forked from this one renders, and is killed when it needs too long or too
much. It holds the tokenizer as it was at that moment: what it writes is what transformers writes.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import threading
import warnings
import weakref
from functools import lru_cache
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

#: A conversation is rendered within so many seconds, and so many bytes beside what was held before.
SECONDS: Final = 10.0
MEMORY: Final = 2**30
#: The longest text that a template may write, in bytes.
LONGEST: Final = 2**27


class RenderError(Exception):
    """Why a template could not write a conversation, in a few words."""


def apply_template(tokenizer: Any, talk: Sequence[Mapping[str, str]], *, opens: bool) -> str:
    """A conversation as the tokenizer's chat template writes it.

    Systems without /proc (macOS) render in this process, where nothing ends a template.

    Args:
        tokenizer: A transformers tokenizer.
        talk: Turns, each with ``role`` and ``content``.
        opens: Whether the model's next turn is opened.

    Raises:
        RenderError: For a template that fails, does not end within 10 s, needs more than 1 GiB or
            writes more than 128 MiB.
    """
    if sys.platform == "linux":
        return _renderer(_Key(tokenizer)).ask(talk, opens=opens)
    return _render(tokenizer, talk, opens=opens)


class _Key:
    """A tokenizer with the template and special tokens that it has now."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.state = (tokenizer.chat_template, getattr(tokenizer, "special_tokens_map", None))

    def __hash__(self) -> int:
        return id(self.tokenizer)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, _Key) and other.tokenizer is self.tokenizer
        return same and isinstance(other, _Key) and other.state == self.state


@lru_cache(maxsize=4)
def _renderer(key: _Key) -> _Renderer:
    return _Renderer(key.tokenizer)


class _Renderer:
    """A process that renders with one tokenizer; it ends with this object or this process."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._pipe: Connection | None = None
        self._owner = 0
        self._end: Any = None
        self._failure = ""

    def ask(self, talk: Sequence[Mapping[str, str]], *, opens: bool) -> str:
        """Have one conversation rendered; raises what `apply_template` does."""
        with self._lock:
            if self._failure:
                raise RenderError(self._failure)
            if self._owner != os.getpid():
                self._start()
            try:
                return self._asked(json.dumps([list(talk), opens]).encode())
            except RenderError:
                raise
            except BaseException:  # an answer may be under way: the next question starts anew
                self._stop()
                raise

    def _asked(self, question: bytes) -> str:
        assert self._pipe is not None
        try:
            self._pipe.send_bytes(question)
            if not self._pipe.poll(SECONDS):
                self._fail(f"it does not end within {SECONDS:g} s")
            answer = self._pipe.recv_bytes(LONGEST)
        except (OSError, EOFError):
            self._fail(f"it breaks off, or writes more than {LONGEST / 2**20:.0f} MiB")
        told = answer[1:].decode("utf-8")
        if answer[:1] == b"m":
            self._fail(f"it needs more than {MEMORY / 2**30:g} GiB of memory")
        if answer[:1] != b"t":
            raise RenderError(told)
        return told

    def _fail(self, words: str) -> NoReturn:
        self._stop()
        self._failure = words
        raise RenderError(words)

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        try:
            with warnings.catch_warnings():  # of other threads: the child uses nothing of theirs
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
        except OSError as error:
            raise RenderError(f"no process can be started to render it: {error.strerror}") from None
        if child == 0:
            _serve(self._tokenizer, theirs)
        theirs.close()
        self._owner = os.getpid()
        self._end = weakref.finalize(self, _end, child, self._pipe, self._owner)

    def _stop(self) -> None:
        self._owner = 0
        self._end()


def _end(child: int, pipe: Connection, owner: int) -> None:
    """Close the pipe and end the process, if it is this one's."""
    pipe.close()
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _serve(tokenizer: Any, pipe: Connection) -> NoReturn:
    """Answer questions until the pipe closes; runs in the forked process, and ends it."""
    with contextlib.suppress(BaseException):
        gc.freeze()  # what is this process's copy of others' must not be finalised here
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _drop_files(pipe.fileno())
        _limit_memory()
        while True:
            talk, opens = json.loads(pipe.recv_bytes())
            pipe.send_bytes(_answer(tokenizer, talk, opens=opens))
    os._exit(0)


def _drop_files(kept: int) -> None:
    """Close all files but one, locks and pipes among them, and write nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


def _limit_memory() -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _answer(tokenizer: Any, talk: Any, *, opens: bool) -> bytes:
    try:
        return b"t" + _render(tokenizer, talk, opens=opens).encode("utf-8")
    except MemoryError:
        return b"m"
    except UnicodeEncodeError:
        return b"e" + b"it writes half a character"
    except RenderError as error:
        return b"e" + str(error).encode("utf-8", "backslashreplace")


def _render(tokenizer: Any, talk: Any, *, opens: bool) -> str:
    try:
        text: str = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=opens)
    except MemoryError:
        raise
    except RecursionError:
        raise RenderError("it calls itself without end") from None
    except Exception as error:  # a template is a program: it may raise anything
        raise RenderError(" ".join(str(error).split())[:300] or type(error).__name__) from error
    return text
