"""Whatever a file that a user names may be, a verb ends within seconds, in one sentence, exit 2."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import laconic
from laconic.cli import main
from laconic.errors import CheckpointError, RecipeError, TaskError
from laconic.files.json import read_json
from laconic.files.text import half_character, read_text
from laconic.files.yaml import load_yaml
from laconic.merging.card import model_card
from laconic.merging.recipe import Recipe

LAB = Path(laconic.__file__).parent / "lab" / "models"
PROBLEM = b'{"id": "1", "problem": "p", "answer": "4"}\n'


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """Fail a test that waits for a pipe or reads without end, instead of hanging."""

    def late(*_: object) -> None:
        raise AssertionError("it did not end within a minute")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run the command line in a folder of its own: the exit code and what stderr says."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["laconic", *arguments])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0), " ".join(capsys.readouterr().err.split())
        return 0, " ".join(capsys.readouterr().err.split())

    return run


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def foreign(path: Path) -> None:
    path.write_bytes(b"first\n\xe9\xff\n")


KINDS = {
    "a pipe": (pipe, "it is a pipe, not a file"),
    "a device": (zeros, "it is a device, not a file"),
    "a folder": (folder, "it is a folder, not a file"),
    "another encoding": (foreign, r"(line 2 cannot be read: it is not UTF-8|line 1 is not JSON)"),
}
#: A command that reads FILE; what it may say of a folder instead, which some verbs look into.
VERBS = {
    "eval --task": ("FILE.jsonl", ["eval", "lab:base", "--task", "FILE.jsonl", "-o", "out"], ""),
    "eval --data": (
        "FILE.jsonl",
        ["eval", "lab:base", "--task", "gsm8k", "--data", "FILE.jsonl", "-o", "out"],
        "holds no gsm8k.jsonl",
    ),
    "replay": (
        "FILE.jsonl",
        ["eval", "m", "--backend", "replay:path=FILE.jsonl", "--task", "lab", "-o", "out"],
        "FILE.jsonl",
    ),
    "import": ("FILE.jsonl", ["import", "FILE.jsonl", "-o", "out"], "holds no log"),
    "data pack": (
        "FILE.jsonl",
        ["data", "pack", "p=FILE.jsonl", "--model", "lab:base", "-o", "out"],
        "FILE.jsonl",
    ),
    "merge": ("FILE.yaml", ["merge", "FILE.yaml", "-o", "out"], ""),
    "train": ("FILE.yaml", ["train", "FILE.yaml", "-o", "out"], ""),
    "data build": ("FILE.yaml", ["data", "build", "FILE.yaml", "-o", "out"], ""),
    "search": ("FILE.yaml", ["search", "FILE.yaml", "--task", "lab", "-o", "out"], ""),
    "merge's template": (
        "FILE.jinja",
        [
            *("merge", "--base", "lab:base", "--model", "lab:system2"),
            *("--method", "task_arithmetic", "--set", "chat_template=FILE.jinja", "-o", "out"),
        ],
        "FILE.jinja",
    ),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_text_is_refused_by_every_verb(
    verb: str, kind: str, tmp_path: Path, say: Say
) -> None:
    name, command, of_folder = VERBS[verb]
    make, message = KINDS[kind]
    make(tmp_path / name)
    code, told = say(*command)
    assert code == 2, told
    assert name in told
    if not (kind == "a folder" and of_folder):
        assert re.search(message, told), told
    assert told.count("Error:") == 1
    assert "Traceback" not in told
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


MERGE = ["merge", "--base", "lab:base", "--model", "model", "--method", "task_arithmetic"]
#: Commands that open the checkpoint in the folder ``model``.
OPENING = {
    "merge": [*MERGE, "-o", "out"],
    "eval": ["eval", "model", "--task", "lab", "-o", "out"],
    "inspect": ["inspect", "lab:base", "model"],
}
CHECKPOINT_FILES = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"),
    *("chat_template.jinja", "model.safetensors"),
)


@pytest.mark.parametrize("name", CHECKPOINT_FILES)
@pytest.mark.parametrize("kind", ["a pipe", "a device"])
@pytest.mark.parametrize("verb", ["merge", "eval", "inspect"])
def test_no_file_of_a_checkpoint_is_waited_for(
    name: str, kind: str, verb: str, tmp_path: Path, say: Say
) -> None:
    shutil.copytree(LAB / "system2", tmp_path / "model")
    (tmp_path / "model" / name).unlink(missing_ok=True)
    KINDS[kind][0](tmp_path / "model" / name)
    code, told = say(*OPENING[verb])
    links = f"Error: model/{name} is a link to /dev/zero, outside its folder."
    refused = f"Error: model/{name} cannot be read: {KINDS[kind][1]}."
    assert code == 2
    assert told.startswith(links if kind == "a device" else refused)
    assert not (tmp_path / "out").exists()


HALVES = {
    "a gold": ("p.jsonl", PROBLEM + PROBLEM.replace(b'"4"', b'"4\\ud800"'), "p.jsonl, line 2"),
    "a problem": ("p.jsonl", PROBLEM.replace(b'"p"', b'"\\udc00p"'), "p.jsonl, line 1"),
    "an id": ("p.jsonl", PROBLEM.replace(b'"1"', b'"\\uDBFF"'), "p.jsonl, line 1"),
    "a column": ("p.jsonl", PROBLEM.replace(b'"id"', b'"i\\ud800"'), "p.jsonl, line 1"),
    "an array": ("p.json", b"[\n" + PROBLEM.replace(b'"4"', b'"\\ud83d"') + b"]", "p.json, line 2"),
}


@pytest.mark.parametrize("row", HALVES)
def test_half_a_character_is_refused_with_its_line_before_anything_is_generated(
    row: str, tmp_path: Path, say: Say
) -> None:
    name, content, place = HALVES[row]
    (tmp_path / name).write_bytes(content)
    code, told = say("eval", "lab:base", "--task", name, "--max-tokens", "8", "-o", "out")
    assert code == 2, told
    assert f"Error: {place} holds half a character (" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (r'"\ud83d\ude00"', None),
        (r'"\\ud800"', None),
        (r'"\ud800"', 1),
        (r'"\ude00\ud83d"', 1),
        (r'"\\\ud800"', 3),
        (r'"\ud83d\ud83d\ude00"', 1),
        ('"\N{GRINNING FACE}"', None),
    ],
)
def test_halves_are_told_from_pairs_and_from_what_only_looks_like_them(
    text: str, place: int | None
) -> None:
    assert half_character(text) == place
    whole = True
    try:
        json.loads(text).encode()
    except UnicodeEncodeError:
        whole = False
    assert whole == (place is None)


def test_half_a_character_in_a_config_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{\n"a": 1,\n"model_type": "\\ud800"}')
    with pytest.raises(CheckpointError, match=r"config.json, line 3 holds half a character"):
        read_json(tmp_path / "config.json", CheckpointError)


def test_a_text_without_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(TaskError, match=r"large cannot be read: it is larger than 512 MiB"):
        read_text(path, TaskError)


def bomb(where: str) -> str:
    rows = ["&a [x, x, x, x, x, x, x, x, x]"]
    rows += [f"&{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(12)]
    return f"{where}: [{', '.join(rows)}]\n"


YAML = {
    "aliases": (bomb("notes"), r"line 1, column \d+: more than 20,000 values"),
    "a key twice": ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is written twice"),
    "an alias of itself": ("a: &a [*a]", "line 1, column 8: an alias within what it stands for"),
    "deep": ("a:\n  " + "[" * 3000, r"line 2, column \d+: more than 50 levels"),
    "deep by indentation": (
        "\n".join(" " * i + "a:" for i in range(60)),
        r"line 50, column 50: more than 50 levels",
    ),
    "deep by aliases": (
        "- &a0 []\n" + "".join(f"- &a{i + 1} [[[*a{i}]]]\n" for i in range(30)),
        r"column \d+: more than 50 levels, aliases written out",
    ),
    "5,000 digits": (
        "a: 1\nb: " + "9" * 5000,
        "line 2, column 4: a number of more than 100 digits",
    ),
    "hexadecimal digits": ("b: 0x" + "f" * 5000, "line 1, column 4: a number of more than 100 d"),
    "many values": ("[" + "1," * 21_000 + "]", "more than 20,000 values"),
    "a large text": ("a: " + "x" * 2**20, "larger than 1 MiB"),
    "no such day": ("a: 2024-13-45", r"line 1, column 4: a value that cannot be read \(month"),
    "no number": ("a: !!int foo", "line 1, column 4: a value that cannot be read"),
    "no such character": ('a: "\\U00110000"', "is not YAML"),
    "half a character": ('a: "\\ud800"', "line 1, column 4: half a character"),
    "a list for a key": ("[1]: 2", "line 1, column 1: a key that is no text or number"),
    "code": (
        "!!python/object/apply:os.system [x]",
        "line 1, column 1 is not YAML: could not determine",
    ),
    "a character that YAML bars": ("a: \0", "is not YAML: unacceptable character"),
    "open": ("a: {b", "line 1, column 6 is not YAML: while parsing"),
}


@pytest.mark.parametrize("row", YAML)
def test_a_yaml_text_beyond_the_limits_is_refused_with_line_and_column(row: str) -> None:
    text, message = YAML[row]
    with pytest.raises(RecipeError, match=f"^The recipe r[, ].*{message}"):
        load_yaml(text, "The recipe r", RecipeError)


def test_yaml_that_is_plain_is_read_as_it_stands() -> None:
    text = 'a: &x [1, 2.5]\nb: [*x, *x]\nc: "\\ud83d\\ude00"\nd: {e: null}\n'
    values = load_yaml(text, "r", RecipeError)
    assert values == {
        "a": [1, 2.5],
        "b": [[1, 2.5]] * 2,
        "c": "\N{GRINNING FACE}",
        "d": {"e": None},
    }


RECIPE = "base: lab:base\nmodels: [lab:system2]\nmethod: task_arithmetic\n"


@pytest.mark.parametrize("verb", ["merge", "train", "search", "data build"])
@pytest.mark.parametrize(
    "text",
    [bomb("params"), "seed: " + "9" * 5000, "base: " + "[" * 3000],
    ids=["bomb", "int", "deep"],
)
def test_every_verb_that_reads_yaml_keeps_the_limits(
    verb: str, text: str, tmp_path: Path, say: Say
) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE + text)
    task = ["--task", "lab"] if verb == "search" else []
    code, told = say(*verb.split(), "r.yaml", *task, "-o", "out")
    assert code == 2, told
    assert re.search(r"r\.yaml, line 4, column \d+: ", told), told
    assert "Traceback" not in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"_attn_implementation": "org/kernel"}, "_attn_implementation"),
        ({"attn_implementation": "paged|org/kernel@main"}, "attn_implementation"),
        ({"_attn_implementation": {"text_config": "org/kernel:f"}}, "_attn_implementation"),
        ({"text_config": {"_experts_implementation": "org/k"}}, "_experts_implementation"),
    ],
)
@pytest.mark.parametrize("verb", ["merge", "eval", "inspect"])
def test_a_config_that_names_code_of_the_hub_is_refused(
    config: dict[str, object], key: str, verb: str, tmp_path: Path, say: Say
) -> None:
    shutil.copytree(LAB / "system2", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    code, told = say(*OPENING[verb])
    assert code == 2, told
    assert f"model/config.json names code of the Hub: '{key}' is" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("word", ["out\udcff", "a\x1b[2J", "a\x07", "\x9b31m"])
def test_words_of_a_command_that_no_file_can_hold_are_refused(
    word: str, tmp_path: Path, say: Say
) -> None:
    code, told = say("eval", "lab:base", "--task", "lab", "-o", word)
    assert code == 2
    assert re.search(r"The argument '[\x20-\x7e]*' (is not UTF-8 text|holds control char)", told)
    assert not list(tmp_path.iterdir())


def test_no_name_breaks_a_model_card() -> None:
    name = "a\n---\n# `b` <script>|[x](u)\x1b[2J"
    recipe = Recipe.from_dict({"base": name, "models": ["m`\n```\n# c"], "method": "ties"})
    card = model_card(
        recipe,
        {
            "command": ["laconic", "x\n```\n# d"],
            "notes": ["one\n# two <b>"],
            "inputs": {name: {"fingerprint": "f"}},
            "versions": {"laconic": "1"},
            "system2": name,
            "digest": "d",
            "seed": 0,
        },
    )
    head, front, body = re.split(r"^---$", card, flags=re.MULTILINE)
    assert head == ""
    parents = load_yaml(front, "card", RecipeError)["base_model"]
    assert parents == [name.replace("\n", "\\n").replace("\x1b", "\\x1b"), "m`\\n```\\n# c"]
    assert "\x1b" not in card
    plain = re.sub(r"^(````+)\w*\n.*?\n\1$", "", body, flags=re.MULTILINE | re.DOTALL)
    headings = [line for line in plain.splitlines() if re.match(r" {0,3}#", line)]
    assert [line.split(",")[0] for line in headings[1:]] == [
        "## Recipe",
        "## Checkpoints (commit",
        "## Notes",
        "## Made by",
    ]
    assert not re.search(r"(?<!\\)<", re.sub(r"(`+)[^`].*?[^`]\1(?!`)", "", plain))
