"""Training the lab: the loss falls, equal seeds give equal bytes, a killed run resumes."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from laconic.backends.contract.decoding import using_threads
from laconic.checkpoints.layout import EMBED
from laconic.errors import LaconicError
from laconic.lab import corpus, family, members, train, write
from laconic.lab.corpus import Part, batches, texts
from laconic.lab.fit import LearningRateSchedule, collate, fit, misread, network
from laconic.lab.phases import MEMBERS, PHASES, Phase
from laconic.lab.sizes import MINI, SIZES, size_of
from laconic.lab.tokenizer import TRAINED, decode
from laconic.tasks.contract.arithmetic import LEVELS, split_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHORT = (
    Phase(
        "drill",
        None,
        (Part("drill", 10),),
        budget=480,
        schedule=LearningRateSchedule(3e-3, warmup=2),
    ),
    Phase(
        "base",
        "drill",
        (Part("base", 8),),
        budget=768,
        schedule=LearningRateSchedule(1e-3, warmup=1),
    ),
    Phase(
        "system1",
        "base",
        (Part("instruct", 6),),
        budget=768,
        schedule=LearningRateSchedule(1e-3, warmup=1),
    ),
    Phase(
        "system2",
        "base",
        (Part("thinking", 4),),
        budget=1024,
        schedule=LearningRateSchedule(1e-3, warmup=1),
    ),
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads wait for each other far longer than so small a network computes."""
    with using_threads(1):
        yield


def weights(folder: Path) -> list[bytes]:
    """The bytes of the three models' weights."""
    return [(folder / name / "model.safetensors").read_bytes() for name in members()]


def question(text: corpus.TrainingText) -> str:
    """The problem that a text answers."""
    found = re.search(r"Work mod 100\..*?=\?", decode(text.ids), re.DOTALL)
    assert found is not None
    return found[0]


def test_the_loss_falls() -> None:
    found = batches(texts(Part("drill", 40), random.Random(0)), budget=480, rng=random.Random(0))
    losses = fit(network(size_of(MINI), 0), found, LearningRateSchedule(3e-3, warmup=5))
    assert len(losses) == 20
    assert losses[0] > 4.5
    assert sum(losses[-5:]) / 5 < 3


def test_a_network_is_the_same_for_the_same_seed_and_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    size = size_of(MINI)
    first, again, other = (dict(network(size, seed).named_parameters()) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    assert sum(value.numel() for value in first.values()) < 830_000


@pytest.mark.parametrize(("name", "least", "most"), [("tiny", 0.3, 0.4), ("small", 3, 3.3)])
def test_sizes_have_the_parameters_that_they_are_named_for(
    name: str, least: float, most: float
) -> None:
    count = sum(value.numel() for value in network(size_of(name)).parameters())
    assert least <= count / 1e6 <= most


def test_the_medium_size_is_for_a_gpu() -> None:
    with torch.device("meta"):
        count = sum(value.numel() for value in network(size_of("medium")).parameters())
    assert 30 <= count / 1e6 <= 100
    text = texts(Part("thinking", 5), random.Random(0), SIZES["medium"].levels)
    assert 500 < sum(len(t.ids) for t in text) / 5 < 2000
    assert max(len(t.ids) for t in text) < SIZES["medium"].window


def test_an_unknown_size_or_device_is_said(tmp_path: Path) -> None:
    with pytest.raises(LaconicError, match="'mini'"):
        train(tmp_path / "lab", size="mine")
    with pytest.raises(LaconicError, match="'cuda'"):
        train(tmp_path / "lab", device="cude")
    assert list(tmp_path.iterdir()) == []


def test_labels_hold_only_learned_tokens() -> None:
    found = texts(Part("base", 4, mute=0.5), random.Random(0))
    ids, labels = collate(found)
    assert ids.shape == labels.shape == (4, max(len(text.ids) for text in found))
    for row, text in enumerate(found):
        learned = [token for token, keep in zip(text.ids, text.learned, strict=True) if keep]
        assert labels[row][labels[row] >= 0].tolist() == learned
        assert "Work mod" not in decode(learned)
        assert decode(learned).endswith("<|im_end|>")


def test_batches_keep_every_text_once_and_stay_within_the_budget() -> None:
    found = texts(Part("skill", 100), random.Random(0))
    made = batches(found, budget=768, rng=random.Random(0))
    assert sorted(id(text) for batch in made for text in batch) == sorted(map(id, found))
    assert all(len(batch) * max(len(text.ids) for text in batch) <= 768 for batch in made)
    assert len(made) < 50


def test_the_corpus_is_a_function_of_its_seed() -> None:
    first, again, other = (
        corpus.digest(texts(Part("thinking", 20), random.Random(seed))) for seed in (0, 0, 1)
    )
    assert first == again != other


def test_the_schedule_warms_up_and_comes_down_to_its_floor() -> None:
    schedule = LearningRateSchedule(1.0, floor=0.1, warmup=10)
    rates = [schedule.at(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[100] == pytest.approx(0.1)


def test_readings_learn_only_what_lines_take_from_dev_questions() -> None:
    for text in corpus.readings("skill", 10):
        learned = [token for token, keep in zip(text.ids, text.learned, strict=True) if keep]
        assert re.fullmatch(r"(=\w[+*-]\d=\d\d[+*-]\d=)+", decode(learned))
        assert split_of(question(text)) == "dev"
    again, once_more = (corpus.digest(corpus.readings("skill", 10)) for _ in range(2))
    assert again == once_more


def test_even_chains_are_train_problems_too() -> None:
    found = texts(Part("skill", 40, even=True), random.Random(0))
    assert {split_of(question(text)) for text in found} == {"train"}


def test_even_chains_are_as_long_as_the_hardest_with_every_share_of_products() -> None:
    assert corpus.evened(LEVELS) == {1: (6, 0), 2: (6, 1), 3: (6, 3), 4: (6, 4), 5: (6, 6)}
    found = texts(Part("skill", 5, even=True), random.Random(0))
    products = [decode(text.ids).partition("?")[0].count("*") for text in found]
    assert sorted(products) == [0, 1, 3, 4, 6]


def test_the_shipped_base_reads_operations_and_a_fresh_network_does_not() -> None:
    asked = corpus.readings("base", 40)
    trained = network(size_of(MINI))
    state = load_file(family.folder("base") / "model.safetensors")
    state[EMBED] = state[EMBED][:TRAINED]
    trained.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    assert misread(trained, asked) <= 0.05
    assert misread(network(size_of(MINI), 0), asked) == 1


@pytest.mark.slow
def test_a_phase_goes_on_while_operations_are_misread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "PROBLEMS", 8)
    drill, base = SHORT[:2]
    phases = (drill, replace(base, remedy=(Part("skill", 3, even=True), Part("base", 3))))
    told: list[str] = []

    def tell(done: int, total: int, label: str) -> None:
        told.append(label)

    plan = family.LabPlan()
    made = family.train_phases(phases, tmp_path, plan, progress=tell)
    assert told == ["drill", "base", "base 1", "base 2"]
    record = made["base"][1]
    assert record["misread"] == record["before"]["misread"] == 1
    assert "before" in record["before"]
    assert "before" not in record["before"]["before"]
    again = family.train_phases(phases, tmp_path, plan, progress=tell)
    assert len(told) == 4
    assert again["base"][1] == record
    monkeypatch.setattr(family, "MISREAD", 1.0)
    once = family.train_phases(phases, tmp_path, plan)["base"]
    assert once[1] == record["before"]["before"]
    assert family.digest(once[0]) != family.digest(made["base"][0])


def test_every_phase_starts_from_an_earlier_one() -> None:
    names = [phase.name for phase in PHASES]
    assert all(p.start is None or p.start in names[:i] for i, p in enumerate(PHASES))
    assert set(MEMBERS) <= set(names)


@pytest.mark.slow
def test_equal_seeds_give_equal_bytes_and_a_killed_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "PHASES", SHORT)
    told: list[str] = []

    def stop_at_system2(done: int, total: int, label: str) -> None:
        told.append(label)
        if label == "system2":
            raise KeyboardInterrupt

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", progress=stop_at_system2)
    assert set(told) == {"drill", "base", "system1", "system2"}
    assert not (tmp_path / "killed").exists()
    told.clear()
    resumed = train(tmp_path / "killed", progress=lambda done, total, label: told.append(label))
    assert set(told) == {"system2"}
    assert weights(whole) == weights(resumed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]
    record = json.loads((whole / "lab.json").read_text())
    assert record["seed"] == 0
    assert [*record["phases"]] == [phase.name for phase in SHORT]


@pytest.mark.parametrize("make", [train, write])
def test_a_target_that_holds_something_is_refused_and_left_alone(
    make: object, tmp_path: Path
) -> None:
    assert callable(make)
    (tmp_path / "note").write_text("mine")
    with pytest.raises(LaconicError, match="already holds something"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_the_lab_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, laconic.lab, laconic.lab.family; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
