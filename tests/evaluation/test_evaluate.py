"""Evaluation: what is asked, what is kept, how it goes on, and what is refused before it starts."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from laconic.backends.contract.backend import BACKENDS
from laconic.backends.contract.call import Call
from laconic.errors import BackendError, LaconicError, RunError, TaskError
from laconic.evaluation.evaluate import evaluate, preview
from laconic.evaluation.regrade import regrade
from laconic.files.append_log import encode_lines
from laconic.runs.experiment import Sampling
from laconic.runs.run import Generation, Sample, read_run
from laconic.scoring.score import GRADER, Grader
from laconic.strategies.contract.strategy import STRATEGIES, strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from laconic.strategies.contract.strategy import Steps, StrategyInput


class Parrot:
    """An engine that boxes the number of the problem, in batches of two, the last first."""

    fingerprint, dtype, device, template = "f1", "float32", "cpu", "t1"
    window: int | None = 10_000
    versions: dict[str, str] = {"parrot": "1"}  # noqa: RUF012  # as the protocol has it

    def __init__(self, fail_after: int | None = None) -> None:
        self.asked: list[Sample] = []
        self.budgets: list[int | None] = []
        self.fail_after = fail_after
        self.closed = False

    def render(self, sample: Sample) -> str:
        return f"<user>{sample.problem}"

    def prompt_length(self, sample: Sample) -> int:
        return len(sample.problem)

    def generate(
        self, calls: Sequence[Call], sampling: Sampling
    ) -> Iterator[list[tuple[Call, Generation]]]:
        self.budgets.append(sampling.max_tokens)
        backwards = list(calls)[::-1]
        for start in range(0, len(backwards), 2):
            if self.fail_after is not None and len(self.asked) >= self.fail_after:
                raise KeyboardInterrupt
            batch = backwards[start : start + 2]
            self.asked += [call.sample for call in batch]
            yield [(call, self.answer(call.sample)) for call in batch]

    def answer(self, sample: Sample) -> Generation:
        text = f"\\boxed{{{sample.problem[:-1]}}}"
        return Generation(text, 10 + sample.repeat, 0, False, "stop")

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def parrots(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Parrot]]:
    """The engines opened so far; the next one may be set to fail."""
    opened: list[Parrot] = []

    def parrot(model: str, *, fail_after: int = -1) -> Parrot:
        """Repeat the problem."""
        opened.append(Parrot(None if fail_after < 0 else fail_after))
        return opened[-1]

    members = {plugin.name: plugin for plugin in BACKENDS.all()}
    monkeypatch.setattr(BACKENDS, "_members", dict(members))
    BACKENDS.register(parrot)
    yield opened
    assert all(engine.closed for engine in opened)


@pytest.fixture
def sums(tmp_path: Path) -> Callable[..., str]:
    """A task file of problems "1?" to "n?", of which the even ones have another answer."""

    def make(name: str = "sums", count: int = 5) -> str:
        rows = [{"problem": f"{i}?", "answer": i if i % 2 else 0} for i in range(1, count + 1)]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return str(path)

    return make


def test_a_run_holds_every_completion_in_the_order_asked(
    parrots: list[Parrot], sums: Callable[..., str]
) -> None:
    warm = Sampling(50, temperature=0.5, repeats=2)
    run = evaluate("org/m", [sums(), sums("more", 2)], sampling=warm, backend="parrot")
    keys = [("sums", str(i), r) for i in range(1, 6) for r in range(2)]
    keys += [("more", str(i), r) for i in range(1, 3) for r in range(2)]
    assert [result.key for result in run.results] == keys
    assert [result.correct for result in run.results] == [int(k[1]) % 2 == 1 for k in keys]
    assert run.complete
    assert run.folder is None
    assert run.name == "m"
    assert parrots[0].budgets == [50, 50]


def test_a_run_remembers_how_it_was_made(parrots: list[Parrot], sums: Callable[..., str]) -> None:
    run = evaluate("org/m", [sums()], sampling=Sampling(50), backend="parrot:fail_after=99")
    experiment = run.experiment
    assert (experiment.model, experiment.model_digest) == ("org/m", "f1")
    assert (experiment.backend, experiment.dtype, experiment.template) == (
        "parrot",
        "float32",
        "t1",
    )
    assert experiment.grader == GRADER
    assert experiment.sampling == Sampling(50)
    assert [(t.name, t.problems, t.max_tokens) for t in experiment.tasks] == [("sums", 5, 50)]
    kept = run.provenance
    assert kept["command"] == sys.argv
    assert {"laconic", "python", "math-verify", "parrot"} <= set(kept["versions"])
    assert (kept["device"], kept["window"]) == ("cpu", 10_000)
    assert kept["prompts"]["sums"]["first"] == "<user>1?"
    every = "\0".join(f"<user>{i}?" for i in range(1, 6))
    assert kept["prompts"]["sums"]["sha256"] == hashlib.sha256(every.encode()).hexdigest()
    assert kept["started"] <= kept["finished"]
    assert kept["tokens_per_second"] > 0


def test_a_gzipped_run_goes_on_where_it_stopped(
    parrots: list[Parrot], sums: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        evaluate("m", [sums()], backend="parrot:fail_after=2", output=folder, compress=True)
    packed = folder / "results.jsonl.gz"
    packed.write_bytes(packed.read_bytes() + encode_lines("half a piece\n", packed)[:-9])
    run = evaluate("m", [sums()], backend="parrot", output=folder, compress=True)
    assert len(parrots[1].asked) == 3
    assert read_run(folder).complete
    assert {r.key for r in read_run(folder).results} == {r.key for r in run.results}
    assert sorted(p.name for p in folder.iterdir()) == ["results.jsonl.gz", "run.json"]


def test_a_task_brings_its_own_budget_limit_and_wording(parrots: list[Parrot]) -> None:
    run = evaluate("m", ["lab"], backend="parrot", limit=3, prompt="Box it: {problem}")
    assert parrots[0].budgets == [896]
    assert len(run.results) == 3
    assert all(s.problem.startswith("Box it: Work mod") for s in parrots[0].asked)


def test_an_interrupted_run_goes_on_where_it_stopped(
    parrots: list[Parrot], sums: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        evaluate("m", [sums()], backend="parrot:fail_after=2", output=folder)
    part = read_run(folder)
    assert not part.complete
    assert {result.id for result in part.results} == {"5", "4"}
    run = evaluate("m", [sums()], backend="parrot", output=folder)
    assert [sample.id for sample in parrots[1].asked] == ["3", "2", "1"]
    assert run.complete
    assert [result.id for result in run.results] == ["1", "2", "3", "4", "5"]
    whole = evaluate("m", [sums()], backend="parrot")
    assert [asdict(r) for r in run.results] == [asdict(r) for r in whole.results]
    kept = read_run(folder)
    assert kept.complete
    assert set(kept.results) == set(run.results)
    assert kept.provenance == run.provenance


def test_a_complete_run_is_read_and_not_touched(
    parrots: list[Parrot], sums: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    first = evaluate("m", [sums()], backend="parrot", output=folder)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    told: list[tuple[int, int]] = []
    again = evaluate(
        "elsewhere/m",
        [sums()],
        backend="parrot",
        output=folder,
        name="again",
        progress=lambda done, total, note="": told.append((done, total)),
    )
    assert parrots[1].asked == []
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()} == before
    assert again.results == first.results
    assert (first.name, again.name) == ("run", "again")


def test_another_experiment_does_not_enter_the_folder(
    parrots: list[Parrot], sums: Callable[..., str], tmp_path: Path
) -> None:
    evaluate("m", [sums()], backend="parrot", output=tmp_path / "run")
    with pytest.raises(RunError, match="another tasks sums digest"):
        evaluate("m", [sums()], backend="parrot", limit=2, output=tmp_path / "run")
    with pytest.raises(RunError, match=r"another sampling max_tokens \(None, now 9\)"):
        evaluate("m", [sums()], backend="parrot", sampling=Sampling(9), output=tmp_path / "run")
    assert len(parrots) == 3


def test_progress_tells_accuracy_and_length_so_far(
    parrots: list[Parrot], sums: Callable[..., str]
) -> None:
    told: list[tuple[int, int, str]] = []

    def listen(done: int, total: int, note: str = "") -> None:
        told.append((done, total, note))

    evaluate("m", [sums()], backend="parrot", progress=listen)
    notes = [(done, total, note.rpartition(", ")) for done, total, note in told]
    assert all(re.fullmatch(r"[\d,]+ tokens/s", note[2]) for *_, note in notes)
    assert [(done, total, note[0]) for done, total, note in notes] == [
        (2, 5, "50.0% right, 10 tokens a piece"),
        (4, 5, "50.0% right, 10 tokens a piece"),
        (5, 5, "60.0% right, 10 tokens a piece"),
    ]


@pytest.mark.parametrize(
    ("tasks", "options", "error", "message"),
    [
        ([], {}, TaskError, "no task to evaluate"),
        (["sumz"], {}, TaskError, "No task 'sumz'"),
        (["lab", "lab:seed=1"], {}, TaskError, "both called 'lab'"),
        (["lab"], {"limit": 0}, TaskError, "limit must be at least 1"),
        (["lab"], {"prompt": "Think."}, TaskError, "has no '.problem.'"),
        (["lab"], {"backend": "parot"}, BackendError, "Did you mean 'parrot'"),
        (["lab"], {"backend": "parrot:fail_aftr=1"}, BackendError, "Did you mean 'fail_after'"),
        (["lab"], {"backend": "parrot:fail_after=x"}, BackendError, "must be a whole number"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_is_loaded(
    parrots: list[Parrot],
    tmp_path: Path,
    tasks: list[str],
    options: dict[str, Any],
    error: type[LaconicError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        evaluate("m", tasks, **{"backend": "parrot", "output": tmp_path / "run", **options})
    assert parrots == []
    assert not (tmp_path / "run").exists()


def test_a_budget_that_the_window_cannot_hold_is_refused_before_anything_is_written(
    parrots: list[Parrot], sums: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(
        BackendError, match=r"2 tokens.*9999 \(--max-tokens\) are 10001.*9998 or less"
    ):
        evaluate("m", [sums()], backend="parrot", sampling=Sampling(9999), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert parrots[0].asked == []
    assert evaluate("m", [sums()], backend="parrot", sampling=Sampling(9998)).complete


def test_a_preview_shows_the_prompt_and_the_cost_and_generates_nothing(
    parrots: list[Parrot], sums: Callable[..., str]
) -> None:
    warm = Sampling(50, temperature=0.5, repeats=3)
    shown = preview("m", [sums(), "lab:size=10"], sampling=warm, backend="parrot", limit=4)
    assert shown["prompt"] == "<user>1?"
    assert (shown["problems"], shown["completions"]) == (8, 24)
    assert shown["max_tokens"] == {"sums": 50, "lab": 50}
    assert shown["most_tokens"] == 24 * 50
    assert (shown["window"], shown["device"], shown["dtype"]) == (10_000, "cpu", "float32")
    assert parrots[0].asked == []
    with pytest.raises(BackendError, match="window holds"):
        preview("m", ["lab"], sampling=Sampling(10_000), backend="parrot")


def test_a_run_can_be_replayed_and_scored_again(
    parrots: list[Parrot], sums: Callable[..., str], tmp_path: Path
) -> None:
    first = evaluate("m", [sums()], backend="parrot", output=tmp_path / "run")
    again = evaluate("m", [sums()], backend=f"replay:path={tmp_path / 'run'}")
    assert again.results == first.results
    assert again.experiment.backend == "replay"
    assert len(parrots) == 1


def test_the_embedded_engine_measures_a_model_of_the_lab(tmp_path: Path) -> None:
    run = evaluate("lab:system1", ["lab"], limit=10, output=tmp_path / "run")
    assert (len(run.results), run.complete) == (10, True)
    assert sum(result.correct for result in run.results) >= 5
    assert all(0 < result.length <= 896 for result in run.results)
    assert run.experiment.dtype == "float32"
    assert read_run(tmp_path / "run").experiment == run.experiment


@pytest.mark.slow
def test_the_strategy_is_part_of_what_was_measured(
    parrots: list[Parrot], sums: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    once = evaluate("m", [sums()], backend="parrot", output=folder)
    assert once.experiment.strategy == "single"
    head = json.loads((folder / "run.json").read_text())
    del head["experiment"]["strategy"]  # as older versions wrote it
    (folder / "run.json").write_text(json.dumps(head | {"complete": False}))
    assert "helper_length" not in (folder / "results.jsonl").read_text()
    assert evaluate("m", [sums()], backend="parrot", output=folder).results == once.results
    assert parrots[1].asked == []
    with pytest.raises(RunError, match=r"another strategy \('single', now 'tale'\)"):
        evaluate("m", [sums()], backend="parrot", strategy="tale", output=folder)
    twice = evaluate("m", [sums()], backend="parrot", prompt="tale-ep")
    assert twice.experiment.strategy == "tale"
    assert [result.length for result in twice.results] == [20] * 5
    assert "use less than 12 tokens" in twice.results[0].problem
    assert evaluate("m", [sums()], backend="parrot", strategy="tale").results == twice.results


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "tael"}, "No strategy 'tael'. Did you mean 'tale'"),
        ({"strategy": "tale:words=1"}, "strategy 'tale' has no 'words'"),
        ({"strategy": "single", "prompt": "tale-ep"}, "the strategy tale, and you ask for single"),
        ({"strategy": "going_on"}, "going_on needs a backend that can do: continue.*parrot cannot"),
    ],
)
def test_a_strategy_that_cannot_be_is_refused_before_the_model_is_loaded(
    parrots: list[Parrot],
    sums: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(STRATEGIES, "_members", {p.name: p for p in STRATEGIES.all()})

    @strategy(needs=["continue"])
    def going_on(question: StrategyInput) -> Steps:
        """Go on from nothing."""
        return (yield Call(question.sample))

    with pytest.raises(LaconicError, match=message):
        evaluate("m", [sums()], backend="parrot", **options)
    assert parrots == []


def test_tokens_of_a_helper_are_kept_beside_those_of_the_model(
    parrots: list[Parrot],
    sums: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(STRATEGIES, "_members", {p.name: p for p in STRATEGIES.all()})

    @strategy(calls=2, helpers=["second"])
    def aided(question: StrategyInput, *, second: str) -> Steps:
        """Ask another model first."""
        yield Call(question.sample, engine="second")
        return (yield Call(question.sample, final=True))

    run = evaluate(
        "m", [sums()], backend="parrot", strategy="aided:second=org/s", output=tmp_path / "run"
    )
    assert run.experiment.strategy == 'aided:second="f1"'
    assert [len(engine.asked) for engine in parrots] == [5, 5]
    assert {(result.length, result.helper_length) for result in run.results} == {(10, 10)}
    kept = read_run(tmp_path / "run")
    assert {result.helper_length for result in kept.results} == {10}
    with Grader() as grader:
        assert {r.helper_length for r in regrade(kept, grader).run.results} == {10}
