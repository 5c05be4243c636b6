"""Recorded completions as the engine: they are returned again, to be scored again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from laconic.backends.contract.backend import Backend, backend
from laconic.errors import BackendError
from laconic.files.append_log import is_gzipped, read_lines
from laconic.files.text import decode, regular
from laconic.runs.run import RESULTS, Generation, results_file

if TYPE_CHECKING:
    from laconic.backends.contract.call import Call
    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Key, Sample

BATCH = 64


@backend
def replay(model: str, *, path: str) -> Backend:
    """Recorded completions instead of a model: to score again, to import, to test.

    A line of the file is a JSON object with ``id``, ``text`` and ``length`` (tokens), and may
    hold ``task``, ``repeat`` (0), ``thinking_length`` (0), ``thinks`` (whether the text holds
    ``</think>``) and ``truncated`` (false). A line without ``task`` serves every task.

    Args:
        path: A run folder, its results.jsonl, or any JSONL file of that form, gzipped or not.

    Raises:
        BackendError: If the file cannot be read, named by line, or lacks a sample asked for.
    """
    place = Path(path).expanduser()
    return _Recording(model, results_file(place) or place / RESULTS if place.is_dir() else place)


class _Recording:
    """The completions of a file, by task (None: any), problem and repeat."""

    def __init__(self, model: str, path: Path) -> None:
        from pydantic import TypeAdapter, ValidationError

        try:
            packed = is_gzipped(path)
            content = b"\n".join(read_lines(path)) if packed else regular(path).read_bytes()
        except OSError as error:
            raise BackendError(f"replay: {path} cannot be read: {error.strerror}.") from error
        lines = decode(content, f"replay: {path}", BackendError).split("\n")
        self._path = path
        self._completions: dict[tuple[str | None, str, int], Generation] = {}
        adapter = TypeAdapter(_RecordedCompletion)
        for number, text in enumerate(lines, start=1):
            if not text.strip():
                continue
            try:
                line = adapter.validate_json(text, strict=True)
            except ValidationError as error:
                first = error.errors()[0]
                where = f"replay: {path}, line {number}"
                what = f"'{first['loc'][0]}': " if first["loc"] else ""
                raise BackendError(f"{where} is no completion ({what}{first['msg']}).") from None
            self._completions[line.task, str(line.id), line.repeat] = line.generation
        self.fingerprint = hashlib.sha256(model.encode() + content).hexdigest()[:16]
        self.dtype = "recorded"
        self.device = "recorded"
        self.template = "recorded"
        self.window: int | None = None
        self.versions: dict[str, str] = {}

    def render(self, sample: Sample) -> str:
        return sample.problem

    def prompt_length(self, sample: Sample) -> int:
        """0: a recording does not know its prompts."""
        return 0

    def generate(
        self, calls: Sequence[Call], sampling: Sampling
    ) -> Iterator[list[tuple[Call, Generation]]]:
        served = [
            (call, self._find(call.key, call.max_tokens or sampling.max_tokens)) for call in calls
        ]
        for start in range(0, len(served), BATCH):
            yield served[start : start + BATCH]

    def close(self) -> None:
        self._completions.clear()

    def _find(self, key: Key, budget: int | None) -> Generation:
        task, problem, repeat = key
        recorded = self._completions.get(key) or self._completions.get((None, problem, repeat))
        if recorded is None:
            raise BackendError(
                f"replay: {self._path} has no completion of {task}, problem '{problem}', repeat "
                f"{repeat}. Ask only for what was recorded (--limit, --repeats), or record it."
            )
        if budget is not None and recorded.length > budget:
            raise BackendError(
                f"replay: {self._path} holds {recorded.length} tokens for {task}, problem "
                f"'{problem}', more than the budget. Give --max-tokens {recorded.length} or more."
            )
        return recorded


@dataclass(frozen=True)
class _RecordedCompletion:
    """A line of a recording, as `replay` describes it."""

    id: str | int
    text: str
    length: int
    task: str | None = None
    repeat: int = 0
    thinking_length: int = 0
    thinks: bool | None = None
    truncated: bool = False

    @property
    def generation(self) -> Generation:
        """The completion it records."""
        return Generation(
            text=self.text,
            length=self.length,
            thinking_length=self.thinking_length,
            thinks="</think>" in self.text if self.thinks is None else self.thinks,
            finish="length" if self.truncated else "stop",
        )
