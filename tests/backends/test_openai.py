"""The openai backend against a real server on the loopback that speaks and breaks the protocol."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from laconic.backends.client.protocol import seed_of
from laconic.backends.contract.call import Call
from laconic.backends.openai import openai
from laconic.errors import BackendError
from laconic.evaluation.evaluate import evaluate, preview
from laconic.runs.experiment import Sampling
from laconic.runs.run import Generation, Sample, read_run
from laconic.tasks.contract.task import load_task
from tests.support.openai_server import ENDLESS, FAULTS, Answer, Chat, boxed_number, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = Path(__file__).parents[2].parent / "shared" / "data"
WARM = Sampling(max_tokens=100, temperature=0.5, seed=1)
TASK = Sample("t", "7", "say 7", "7")


@pytest.fixture
def serving() -> Iterator[Callable[..., Chat]]:
    """A function that starts a server; all end with the test."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda **traits: stack.enter_context(serve(Chat(**traits)))


def ask(chat: Chat, count: int = 1, sampling: Sampling = WARM, **options: Any) -> list[Generation]:
    """What a server's model gives for as many problems, each exactly once, in their order."""
    samples = [Sample("t", str(i), f"say {i}", str(i)) for i in range(7, 7 + count)]
    return complete(chat, samples, sampling, **options)


def complete(
    chat: Chat, samples: list[Sample], sampling: Sampling = WARM, **options: Any
) -> list[Generation]:
    with closing(openai("m", **({"url": chat.url} | options))) as engine:
        pairs = [
            pair for batch in engine.generate(list(map(Call, samples)), sampling) for pair in batch
        ]
    found = {call.key: generation for call, generation in pairs}
    assert len(found) == len(pairs)
    return [found[sample.key] for sample in samples]


def write_task(path: Path, count: int) -> str:
    rows = [{"id": i, "problem": f"say {i}", "answer": i} for i in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


# --- the protocol


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_a_completion_comes_back_as_it_was_given(
    serving: Callable[..., Chat], stream: bool, endpoint: str
) -> None:
    chat = serving(answer=lambda _: Answer("so: \\boxed{é∑} 😀\nend", 9))
    (generation,) = ask(chat, stream=stream, endpoint=endpoint)
    assert generation == Generation("so: \\boxed{é∑} 😀\nend", 9, 0, False, "stop")


def test_a_request_says_all_that_was_asked(serving: Callable[..., Chat]) -> None:
    chat = serving()
    ask(chat, extra={"top_k": 20, "chat_template_kwargs": {"enable_thinking": False}})
    (body,) = chat.bodies
    seed = body.pop("seed")
    assert 0 <= seed < 2**31
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "say 7"}],
        "max_tokens": 100,
        "temperature": 0.5,
        "top_p": 1.0,
        "top_k": 20,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_every_repeat_has_a_seed_of_its_own_and_the_same_again(
    serving: Callable[..., Chat],
) -> None:
    chat = serving()
    repeats = [Sample("t", "7", "say 7", "7", repeat=i) for i in range(8)]
    for _ in range(2):
        complete(chat, repeats)
    seeds = Counter(body["seed"] for body in chat.bodies)
    assert sorted(seeds.values()) == [2] * 8
    complete(chat, [TASK], Sampling(max_tokens=9))
    assert "seed" not in chat.bodies[-1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_that_the_server_split_off_is_the_thought(
    serving: Callable[..., Chat], field: str, stream: bool
) -> None:
    chat = serving(answer=lambda _: Answer("\\boxed{7}", 50, "stop", "a thought", field, 40))
    assert ask(chat, stream=stream) == [
        Generation("a thought</think>\\boxed{7}", 50, 40, True, "stop")
    ]


def test_a_thought_that_never_ended_is_all_of_the_length(serving: Callable[..., Chat]) -> None:
    chat = serving(answer=lambda _: Answer("", 100, "length", "on and on"))
    assert ask(chat) == [Generation("on and on", 100, 100, False, "length")]


def test_a_thought_within_the_text_is_counted_by_its_share_of_the_characters(
    serving: Callable[..., Chat],
) -> None:
    chat = serving(answer=lambda _: Answer("x" * 52 + "</think>" + "y" * 20, 40))
    assert ask(chat) == [Generation("x" * 52 + "</think>" + "y" * 20, 40, 30, True, "stop")]


@pytest.mark.parametrize(
    ("said", "kept"), [("eos_token", "stop"), ("stop_sequence", "stop"), ("length", "length")]
)
def test_finish_reasons_are_mapped(serving: Callable[..., Chat], said: str, kept: str) -> None:
    chat = serving(answer=lambda _: Answer("x", 100, said))
    assert [generation.finish for generation in ask(chat)] == [kept]


def test_halves_of_characters_do_not_spoil_a_run(
    serving: Callable[..., Chat], tmp_path: Path
) -> None:
    chat = serving(answer=lambda _: Answer("\ud83d \\boxed{0}"))
    task = write_task(tmp_path / "t.jsonl", 1)
    backend = f"openai:url={chat.url}"
    run = evaluate("m", [task], sampling=WARM, backend=backend, output=tmp_path / "run")
    assert [r.text for r in read_run(tmp_path / "run").results] == ["\ufffd \\boxed{0}"]
    assert run.results[0].correct


# --- what a server says of itself


def test_the_server_its_model_and_its_window_are_known(serving: Callable[..., Chat]) -> None:
    chat = serving()
    engine = openai("m", url=chat.url)
    assert engine.window == 4096
    assert engine.versions["vllm"] == "0.11.2"
    assert engine.device == f"vllm at {chat.url}"


def test_a_budget_beyond_the_window_is_refused_before_a_request(
    serving: Callable[..., Chat], tmp_path: Path
) -> None:
    chat = serving()
    task = write_task(tmp_path / "t.jsonl", 1)
    with pytest.raises(BackendError, match="the model's window holds 4096"):
        evaluate("m", [task], sampling=Sampling(5000), backend=f"openai:url={chat.url}")
    assert not chat.bodies


def test_a_model_that_is_not_served_is_named_with_the_nearest(
    serving: Callable[..., Chat],
) -> None:
    chat = serving(models={"org/merged-7b": {}, "org/base": {}})
    with pytest.raises(BackendError, match=r"not serve 'merged-7b'. Did you mean 'org/merged-7b'"):
        openai("merged-7b", url=chat.url)


def test_a_server_without_a_list_of_models_is_believed(serving: Callable[..., Chat]) -> None:
    chat = serving(models=None)
    assert [g.text for g in ask(chat)] == ["\\boxed{7}"]


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(BackendError, match=r"http://127.0.0.1:9/v1 cannot be used: .*Start the"):
        openai("m", url="http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": " "}, "url is empty"),
        ({"url": "localhost:8000/v1"}, "'localhost:8000/v1' is no address"),
        ({"url": "ftp://host/v1"}, "is no address"),
        ({"url": "http://"}, "is no address"),
        ({"url": "http://h/v1", "extra": {"n": 4}}, "must not hold 'n'"),
        ({"url": "http://h/v1", "key": "NO_SUCH_KEY"}, "key=NO_SUCH_KEY, but .* not set"),
    ],
)
def test_options_that_cannot_be_used_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BackendError, match=message):
        openai("m", **options)


# --- secrets


def test_the_key_goes_to_the_server_and_nowhere_else(
    serving: Callable[..., Chat],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-123")
    caplog.set_level("DEBUG")
    chat = serving(script=[500])
    task = write_task(tmp_path / "t.jsonl", 3)
    backend = f"openai:url={chat.url},key=MY_KEY"
    told = preview("m", [task], sampling=WARM, backend=backend)
    evaluate("m", [task], sampling=WARM, backend=backend, output=tmp_path / "run")
    assert chat.headers["authorization"] == "Bearer sk-secret-123"
    kept = "".join(path.read_text() for path in (tmp_path / "run").iterdir())
    assert "sk-secret" not in kept + json.dumps(told) + caplog.text


def test_no_key_is_sent_unasked(
    serving: Callable[..., Chat], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    chat = serving()
    ask(chat)
    assert "authorization" not in chat.headers


@pytest.mark.parametrize(
    "options", [{"key": "sk-secret-123"}, {"url": "http://me:sk-secret-123@localhost/v1"}]
)
def test_a_key_given_openly_is_refused_without_being_repeated(options: dict[str, Any]) -> None:
    with pytest.raises(BackendError, match="environment variable") as caught:
        openai("m", **({"url": "http://localhost:9/v1"} | options))
    assert "sk-secret" not in str(caught.value)


def test_a_servers_words_are_told_without_the_key(
    serving: Callable[..., Chat], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "scripted")
    chat = serving(script=[401])
    with pytest.raises(BackendError, match=r"refuses the API key \(status 401, '\*\*\* 401'\)"):
        ask(chat, key="MY_KEY")


#: Ways in which a server, or a proxy before it, gives back what it was sent.
ECHOES: dict[str, dict[str, Any]] = {
    "as the finish reason": {"answer": lambda _: Answer("x", finish="Bearer sk-secret-123")},
    "as an error": {"script": [400], "error": "bad header Bearer sk-secret-123"},
    "as a passing error": {"script": [503], "error": "bad header Bearer sk-secret-123"},
    "in place of an answer": {"script": ["error"], "error": "got sk-secret-123"},
    "with escapes": {"script": [400], "error": "sk-secret-123", "escaped": True},
    "as the text": {"answer": lambda _: Answer("I was given sk-secret-123")},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("traits", ECHOES.values(), ids=ECHOES)
def test_a_key_that_a_server_gives_back_is_never_shown_or_kept(
    serving: Callable[..., Chat],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    traits: dict[str, Any],
    stream: bool,
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-123\n")  # files of secrets end in a line break
    caplog.set_level("DEBUG")
    chat = serving(**traits)
    task = write_task(tmp_path / "t.jsonl", 1)
    backend = f"openai:url={chat.url},key=MY_KEY,retries=0,stream={str(stream).lower()}"
    told = ""
    try:
        evaluate("m", [task], sampling=WARM, backend=backend, output=tmp_path / "run")
    except BackendError as error:
        told = str(error)
    assert chat.headers["authorization"] == "Bearer sk-secret-123"
    kept = "".join(path.read_text() for path in (tmp_path / "run").iterdir())
    assert "secret" not in told + kept + caplog.text
    assert stream or "***" in told + kept


def test_a_list_of_models_that_holds_the_key_is_told_without_it(
    serving: Callable[..., Chat], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-123")
    chat = serving(models={"sk-secret-123": {}})
    with pytest.raises(BackendError, match=r"does not serve 'm'.*\*\*\*"):
        ask(chat, key="MY_KEY")


@pytest.mark.parametrize("value", ["sk secret", "sk-\nsecret", "sk-sécret", " \n"])
def test_a_variable_that_holds_no_key_is_refused_without_being_repeated(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(BackendError, match="MY_KEY") as caught:
        openai("m", url="http://localhost:9/v1", key="MY_KEY")
    assert "cret" not in str(caught.value)


# --- what has no end


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ENDLESS)
def test_an_answer_without_an_end_is_given_up_within_its_time(
    serving: Callable[..., Chat], fault: str, stream: bool
) -> None:
    chat = serving(script=[fault] * 9)
    began = time.monotonic()
    message = "no whole answer in 0.5 seconds|an answer that does not end"
    with pytest.raises(BackendError, match=message):
        ask(chat, timeout=0.5, retries=0, stream=stream)
    assert time.monotonic() - began < 5


def test_a_status_of_success_that_holds_no_answer_is_asked_for_again(
    serving: Callable[..., Chat],
) -> None:
    (generation,) = ask(serving(script=[202, 204]))
    assert generation.text == "\\boxed{7}"


# --- what cannot be mended


@pytest.mark.parametrize(
    ("traits", "message"),
    [
        ({"script": [401]}, "refuses the API key"),
        ({"script": [404]}, "refuses the request .status 404, 'scripted 404'"),
        ({"script": [400] * 9}, "problem '7', repeat 0: http.*status 400, 'scripted 400'"),
        (
            {"answer": lambda _: Answer("x", 100, "content_filter")},
            "finish_reason 'content_filter'",
        ),
        ({"answer": lambda _: Answer("x", 60, "length")}, "cut it at 60 tokens of a budget of 100"),
        ({"answer": lambda _: Answer("x", usage=False)}, "states no usage.*tokenizer=FOLDER"),
    ],
)
def test_what_no_repetition_mends_ends_at_once(
    serving: Callable[..., Chat], traits: dict[str, Any], message: str
) -> None:
    chat = serving(**traits)
    with pytest.raises(BackendError, match=message):
        ask(chat)
    assert len(chat.bodies) == 1


def test_one_sample_that_fails_does_not_cost_the_others(
    serving: Callable[..., Chat], tmp_path: Path
) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        given = boxed_number(body)
        return Answer("x", 9, "content_filter") if "{5}" in given.text and chat.faults else given

    chat = serving(answer=answer, faults={"usage 0": 0.0})
    task = write_task(tmp_path / "t.jsonl", 40)
    folder, backend = tmp_path / "run", f"openai:url={chat.url}"
    with pytest.raises(
        BackendError, match=r"t, problem '5', repeat 0: .*What was finished is kept"
    ):
        evaluate("m", [task], sampling=WARM, backend=backend, output=folder)
    assert len(read_run(folder).results) == 39
    chat.faults = {}
    assert evaluate("m", [task], sampling=WARM, backend=backend, output=folder).complete
    assert len(chat.bodies) == 41


def test_a_server_that_answers_nothing_any_more_ends_the_run(
    serving: Callable[..., Chat],
) -> None:
    chat = serving(faults={"500": 1.0})
    began = time.monotonic()
    with pytest.raises(BackendError, match="3 requests failed, the last with status 500, 'out of"):
        ask(chat, 500, retries=2)
    assert time.monotonic() - began < 60
    assert len(chat.bodies) < 500


# --- misbehaviour


@pytest.mark.parametrize("fault", [*FAULTS, 408, 502])
def test_a_single_fault_is_overcome(serving: Callable[..., Chat], fault: str | int) -> None:
    chat = serving(script=[fault], slow=1.5)
    assert [g.text for g in ask(chat, timeout=0.5, stream=fault == "cut stream")] == ["\\boxed{7}"]
    assert chat.seen == {str(fault): 1, "": 1}


def test_retry_after_is_waited_for(serving: Callable[..., Chat]) -> None:
    chat = serving(script=["429 after"], after="2")
    began = time.monotonic()
    ask(chat)
    assert time.monotonic() - began >= 2
    chat.script, chat.after = ["429 after"], "86400"
    with pytest.raises(BackendError, match="asks to come back in 86,400 seconds"):
        ask(chat)


def test_a_server_that_is_full_is_given_fewer_requests(serving: Callable[..., Chat]) -> None:
    chat = serving(room=6, delay=0.02)
    ask(chat, 300)
    assert chat.peak < 30
    assert chat.seen["full"] < 100
    assert set(chat.given.values()) == {1}


def test_a_fast_server_is_given_more_requests_up_to_the_limit(
    serving: Callable[..., Chat],
) -> None:
    chat = serving(delay=0.25)
    ask(chat, 150, concurrency=20)
    assert chat.peak == 20


def test_servers_share_the_work_and_one_that_dies_leaves_it_to_the_others(
    serving: Callable[..., Chat],
) -> None:
    one, two, dead = serving(delay=0.01), serving(delay=0.01), serving(faults={"reset": 1.0})
    ask(one, 200, url=f"{one.url} {two.url} {dead.url}")
    assert sum(one.given.values()) + sum(two.given.values()) == 200
    assert min(sum(one.given.values()), sum(two.given.values())) > 40
    assert len(dead.bodies) < 100


@pytest.mark.parametrize(
    "count", [pytest.param(n, marks=pytest.mark.slow) for n in (1_000, 10_000)], ids=str
)
def test_of_many_requests_to_a_misbehaving_server_none_is_lost_or_doubled(
    serving: Callable[..., Chat], count: int
) -> None:
    faults = dict.fromkeys(FAULTS, 0.005) | {"late": 0.002}
    chat = serving(faults=faults, slow=1.5)
    found = ask(chat, count, timeout=1.0)
    assert [g.text for g in found] == [f"\\boxed{{{i}}}" for i in range(7, 7 + count)]
    assert len(chat.given) == count
    assert set(chat.given.values()) == {1}
    assert set(chat.seen) >= set(FAULTS)


# --- evaluations


def command(task: str, chat: Chat, folder: Path, *more: str) -> list[str]:
    words = ["eval", "m", "--task", task, "--backend", f"openai:url={chat.url},concurrency=16"]
    words += ["--max-tokens", "100", "--temperature", "0.5", "--repeats", "2", *more]
    return [sys.executable, "-m", "laconic", *words, "-o", str(folder)]


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_every_result_once(
    serving: Callable[..., Chat], tmp_path: Path
) -> None:
    chat = serving(delay=0.05, faults={"500": 0.02, "reset": 0.02})
    task, folder = write_task(tmp_path / "t.jsonl", 200), tmp_path / "run"
    lines: list[int] = []
    for goal in (40, 150):
        process = subprocess.Popen(command(task, chat, folder), stderr=subprocess.DEVNULL)
        results = folder / "results.jsonl"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if results.exists() and results.read_bytes().count(b"\n") >= goal:
                break
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        lines.append(len(read_run(folder).results))
    assert 40 <= lines[0] < lines[1] < 400
    kept = {result.key: result for result in read_run(folder).results}
    time.sleep(1)
    while chat.flying:  # the server still answers what the killed client had asked
        time.sleep(0.05)
    asked = sum(chat.given.values())
    subprocess.run(command(task, chat, folder), check=True, capture_output=True, timeout=300)
    run = read_run(folder)
    assert run.complete
    written = (folder / "results.jsonl").read_text().splitlines()
    assert len(written) == len(run.results) == 400
    assert {result.key: result for result in run.results}.items() >= kept.items()
    assert all(result.correct for result in run.results)
    assert sum(chat.given.values()) - asked == 400 - len(kept)


def test_a_run_keeps_what_the_server_said(serving: Callable[..., Chat], tmp_path: Path) -> None:
    chat = serving()
    task, folder = write_task(tmp_path / "t.jsonl", 2), tmp_path / "run"
    done = subprocess.run(command(task, chat, folder), check=True, capture_output=True, text=True)
    assert "100.0" in done.stdout
    head = json.loads((folder / "run.json").read_text())
    (server,) = head["engine"]["servers"]
    assert server == {
        "url": chat.url,
        "model": "m",
        "server": "vllm",
        "version": "0.11.2",
        "window": 4096,
        "root": "/w/m",
    }
    assert head["engine"]["lengths"] == {"usage": 4}
    assert head["versions"]["vllm"] == "0.11.2"
    assert head["experiment"]["backend"] == "openai"


def test_another_prompt_template_or_field_is_another_experiment(
    serving: Callable[..., Chat], tmp_path: Path
) -> None:
    chat, moved = serving(), serving()
    plain = openai("m", url=chat.url)
    assert openai("m", url=moved.url).fingerprint == plain.fingerprint
    assert openai("m", url=moved.url).template == plain.template
    assert openai("m", url=chat.url, extra={"top_k": 1}).template != plain.template
    assert openai("m", url=chat.url, endpoint="completions").template != plain.template


def test_a_dry_run_shows_the_request_and_sends_none(
    serving: Callable[..., Chat], tmp_path: Path
) -> None:
    chat = serving()
    words = command(write_task(tmp_path / "t.jsonl", 2), chat, tmp_path / "run", "--dry-run")
    told = subprocess.run([*words, "--json"], check=True, capture_output=True, text=True).stdout
    request = json.loads(told)["request"]
    assert request["url"] == f"{chat.url}/chat/completions"
    assert request["body"]["messages"] == [{"role": "user", "content": "say 0"}]
    assert not chat.bodies
    assert not (tmp_path / "run").exists()


def test_a_refusal_on_the_command_line_is_one_sentence(
    serving: Callable[..., Chat], tmp_path: Path
) -> None:
    chat = serving(models={"n": {}})
    words = command(write_task(tmp_path / "t.jsonl", 2), chat, tmp_path / "run")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "does not serve 'm'" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared responses are not here")
@pytest.mark.parametrize(
    ("model", "task", "repeats"), [("r1-7b-tldr", "math500", 1), ("r1-14b-merge-ties", "amc23", 8)]
)
def test_recorded_responses_through_a_misbehaving_server_give_the_reference_table(
    serving: Callable[..., Chat], tmp_path: Path, model: str, task: str, repeats: int
) -> None:
    problems = DATA / "problems" / f"{task}.jsonl"
    sampling = Sampling(8192, 0.7, repeats=repeats)
    ids = {sample.problem: sample.id for sample in load_task(str(problems)).samples}
    with gzip.open(DATA / "logs" / f"{model}__{task}.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    asked = {(row["problem_id"], row["sample"]): row for row in rows}
    repeat_of = {
        seed_of(Sample(task, name, "", "", repeat=repeat), sampling): repeat
        for name, repeat in asked
    }

    def answer(body: dict[str, Any]) -> Answer:
        row = asked[ids[body["messages"][0]["content"]], repeat_of[body["seed"]]]
        cut = row["tokens_qwen"] >= row["max_tokens"] - 8
        return Answer(row["response"], row["tokens_qwen"], "length" if cut else "stop")

    faults = {"429": 0.01, "500": 0.01, "reset": 0.01, "cut": 0.01, "usage 0": 0.01, "text": 0.01}
    chat = serving(answer=answer, models={model: {}}, faults=faults)
    run = evaluate(
        model,
        [str(problems)],
        sampling=sampling,
        backend=f"openai:url={chat.url}",
        output=tmp_path / "run",
    )
    expected = json.loads((DATA / "logs" / "expected.json").read_text())["table"][task][model]
    count = len(run.results)
    assert count == expected["n"] == len(chat.given)
    accuracy = sum(result.correct for result in run.results) / count
    assert accuracy == pytest.approx(expected["accuracy"], abs=0.006)
    length = sum(result.length for result in run.results) / count
    assert length == pytest.approx(expected["tokens"]["mean"], rel=1e-3)
    truncated = sum(result.truncated for result in run.results)
    assert truncated == sum(row["tokens_qwen"] >= row["max_tokens"] - 8 for row in rows)
    assert sum(result.thinks for result in run.results) == sum(
        "</think>" in row["response"] for row in rows
    )


# --- the model's own tokenizer


def test_with_a_tokenizer_prompts_are_counted_and_a_wrong_usage_is_put_right(
    serving: Callable[..., Chat],
) -> None:
    text = "mod 7\n" * 20
    chat = serving(answer=lambda body: Answer(text, 3 * (body["seed"] % 2)))
    engine = openai("m", url=chat.url, tokenizer="lab:system2")
    assert engine.prompt_length(TASK) > 3
    assert engine.render(TASK) != TASK.problem
    with closing(engine):
        repeats = [Sample("t", "7", "say 7", "7", repeat=i) for i in range(8)]
        pairs = [
            p for b in engine.generate(list(map(Call, repeats)), Sampling(500, 0.5)) for p in b
        ]
    assert {g.length for _, g in pairs} == {pairs[0][1].length}
    assert pairs[0][1].length > 40


def test_with_a_tokenizer_a_thought_is_counted_in_tokens(serving: Callable[..., Chat]) -> None:
    from laconic.checkpoints.checkpoint import open_checkpoint
    from laconic.checkpoints.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(open_checkpoint("lab:system2"))
    thought, rest = "1+1=2\n" * 30 + "</think>", "so 2"
    count = len(tokenizer.encode(thought + rest, add_special_tokens=False)) + 1
    chat = serving(answer=lambda _: Answer(thought + rest, count))
    (generation,) = ask(chat, sampling=Sampling(1000, 0.5), tokenizer="lab:system2")
    assert generation.length == count
    assert generation.thinking_length == len(tokenizer.encode(thought, add_special_tokens=False))


def test_a_server_that_splits_texts_otherwise_is_refused(serving: Callable[..., Chat]) -> None:
    from laconic.checkpoints.checkpoint import open_checkpoint
    from laconic.checkpoints.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(open_checkpoint("lab:system2"))

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids

    (generation,) = ask(serving(tokenize=encode), tokenizer="lab:system2")
    assert generation.text == "\\boxed{7}"
    with pytest.raises(BackendError, match="splits texts into other tokens"):
        ask(serving(tokenize=lambda text: encode(text)[1:]), tokenizer="lab:system2")


def test_a_turn_begun_for_the_model_goes_through_its_template_to_completions(
    serving: Callable[..., Chat],
) -> None:
    begun = Sample("t", "7", "say 7", "7", prefill="I say")
    chat = serving(answer=lambda _: Answer("7"))
    with pytest.raises(BackendError, match=r"begins the model's turn.*tokenizer=FOLDER"):
        complete(chat, [begun])
    with pytest.raises(BackendError, match="begins the model's turn, which the chat endpoint"):
        complete(chat, [begun], endpoint="chat")
    complete(chat, [begun], tokenizer="lab:system2")
    engine = openai("m", url=chat.url, tokenizer="lab:system2")
    assert engine.render(begun).endswith("I say")
    assert chat.bodies[-1]["prompt"][-1:] != []
    assert len(chat.bodies[-1]["prompt"]) == engine.prompt_length(begun)


def test_raw_words_go_to_completions_with_what_stops_them(
    serving: Callable[..., Chat],
) -> None:
    few = Sample("t", "7", "Question: say 7\nAnswer:", "7", raw=True, stop=("\n\nQuestion:",))
    chat = serving(answer=lambda _: Answer("7"))
    with pytest.raises(BackendError, match="asked without a chat template, which the chat"):
        complete(chat, [few], endpoint="chat")
    complete(chat, [few])
    assert (chat.bodies[-1]["prompt"], chat.bodies[-1]["stop"]) == (few.problem, list(few.stop))
    complete(chat, [few], tokenizer="lab:system2")
    engine = openai("m", url=chat.url, tokenizer="lab:system2")
    assert engine.render(few) == few.problem
    assert len(chat.bodies[-1]["prompt"]) == engine.prompt_length(few)
