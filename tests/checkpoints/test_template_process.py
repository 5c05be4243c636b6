"""Chat templates are rendered as transformers renders them, and end whatever they do."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import laconic
from laconic.checkpoints import template_process as rendering
from laconic.checkpoints.chat_template import render_turn
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.template_process import RenderError, apply_template
from laconic.checkpoints.tokenizer import load_tokenizer
from laconic.cli import main
from laconic.errors import BackendError

LAB = Path(laconic.__file__).parent / "lab" / "models"
TALK = ({"role": "user", "content": "1+1? \N{GRINNING FACE}"},)
LOOP = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="templates are limited on Linux")


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(rendering, "SECONDS", 2.0)
    monkeypatch.setattr(rendering, "MEMORY", 2**26)
    return load_tokenizer(open_checkpoint("lab:system2"))


@pytest.mark.parametrize("opens", [True, False])
def test_a_conversation_is_what_transformers_writes(tokenizer: Any, opens: bool) -> None:
    talk = [*TALK, {"role": "assistant", "content": "2"}]
    for template in (tokenizer.chat_template, "{{ bos_token }}{{ messages[-1]['content'] }}"):
        tokenizer.chat_template = template
        written = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=opens)
        assert apply_template(tokenizer, talk, opens=opens) == written
        assert apply_template(tokenizer, talk, opens=opens) == written


ENDLESS = {
    "a loop": (LOOP, "does not end within 2 s"),
    "memory": ("{% set n = messages|length * 99 %}{{ ('x' * (n * 10000000))|length }}", "memory"),
    "doubling": (
        "{% set ns = namespace(a='x') %}{% for i in range(60) %}{% set ns.a = ns.a ~ ns.a %}"
        "{% endfor %}",
        "memory|does not end",
    ),
    "recursion": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls itself without end"),
    "a large number": ("{{ 9 ** (9 ** 9) }}", "does not end|memory|breaks off"),
    "a range": ("{{ range(10 ** 9)|list }}", "Range too big"),
    "another file": ("{% include '/etc/passwd' %}", "no loader"),
    "arithmetic": ("{{ 1 / 0 }}", "division by zero"),
    "half a character": ("{{ '\\ud800' }}", "half a character"),
    "no template": ("{% if", "end of template"),
    "a refusal": ("{{ raise_exception('no system turn') }}", "no system turn"),
}


@pytest.mark.parametrize("row", ENDLESS)
def test_a_template_that_fails_or_does_not_end_is_one_sentence(row: str, tokenizer: Any) -> None:
    template, message = ENDLESS[row]
    tokenizer.chat_template = template
    start = time.monotonic()
    with pytest.raises(
        BackendError, match=rf"^M: its chat template cannot write a user's turn \(.*({message})"
    ):
        render_turn(tokenizer, "1+1?", "M")
    assert time.monotonic() - start < 30


def test_a_template_may_loop_for_one_problem_only(tokenizer: Any) -> None:
    tokenizer.chat_template = f"{{% if 'bad' in messages[0].content %}}{LOOP}{{% endif %}}fine"
    assert render_turn(tokenizer, "good", "M") == "fine"
    with pytest.raises(BackendError, match="does not end"):
        render_turn(tokenizer, "bad", "M")


def test_a_template_that_was_replaced_is_not_rendered_any_more(tokenizer: Any) -> None:
    tokenizer.chat_template = "one"
    assert render_turn(tokenizer, "", "M") == "one"
    tokenizer.chat_template = "two"
    assert render_turn(tokenizer, "", "M") == "two"


def test_the_process_ends_with_its_renderer_and_is_started_again_after_a_death(
    tokenizer: Any,
) -> None:
    renderer = rendering._Renderer(tokenizer)
    first = renderer.ask(TALK, opens=True)
    child = renderer._end.peek()[2][0]
    os.kill(child, 9)
    with pytest.raises(RenderError, match="breaks off"):
        renderer.ask(TALK, opens=True)
    other = rendering._Renderer(tokenizer)
    assert other.ask(TALK, opens=True) == first
    child = other._end.peek()[2][0]
    del other
    assert not Path(f"/proc/{child}").exists()


def test_threads_are_given_their_own_answers(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ messages[0].content }}"
    wrong: list[str] = []

    def ask(name: str) -> None:
        wrong.extend(name for _ in range(50) if render_turn(tokenizer, name, "M") != name)

    threads = [threading.Thread(target=ask, args=(f"problem {i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("verb", ["eval", "data pack", "calibrate"])
def test_every_verb_that_renders_ends(
    verb: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(rendering, "SECONDS", 1.0)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(LAB / "system2", "model")
    Path("model/chat_template.jinja").write_text(LOOP)
    row = {"id": "1", "problem": "1+1?", "answer": "2", "question": "1+1?", "gold": "2"}
    row["response"] = "<think>\n1+1=2\n</think>\n\n2"
    Path("rows.jsonl").write_text(json.dumps({**row, "length": 5}) + "\n")
    commands = {
        "eval": ["model", "--task", "rows.jsonl", "-o", "out"],
        "data pack": ["p=rows.jsonl", "--model", "model", "-o", "out"],
        "calibrate": ["model", "--data", "rows.jsonl", "--stats", "activations", "-o", "out"],
    }
    monkeypatch.setattr(sys, "argv", ["laconic", *verb.split(), *commands[verb]])
    with pytest.raises(SystemExit) as stop:
        main()
    told = " ".join(capsys.readouterr().err.split())
    assert stop.value.code == 2, told
    assert "its chat template cannot write a user's turn (it does not end within 1 s)" in told
    assert not Path("out").exists()
