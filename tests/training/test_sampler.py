from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, Dataset

from laconic.errors import TrainError
from laconic.training.data.mixture import MixturePlan, MixturePool, Schedule, Unit, split_pools
from laconic.training.data.sampler import MixtureSampler, apportion, lookahead, replay

if TYPE_CHECKING:
    from pathlib import Path

    from torch.utils.data import Sampler

NAMES = ("short", "long")
#: Two pools that stand mixed in a data set of 30 rows; long answers are ten times as long.
OWNERS = [0, 1, 0] * 10
LENGTHS = [100 * owner * 10 + 100 - 90 * (1 - owner) for owner in OWNERS]


def make_plan(
    block: int = 6, blocks: int = 20, unit: Unit = "samples", seed: int = 0
) -> MixturePlan:
    return MixturePlan(split_pools(NAMES, OWNERS, LENGTHS), block, blocks, unit, seed)


def make_sampler(blocks: int = 20, seed: int = 0) -> MixtureSampler:
    return MixtureSampler(make_plan(blocks=blocks, seed=seed), (0.5, 0.5))


def even(pools: int, rows: int) -> tuple[MixturePool, ...]:
    owners = np.repeat(np.arange(pools), rows)
    return split_pools([f"p{i}" for i in range(pools)], owners.tolist(), [1] * len(owners))


mixtures = st.integers(1, 4).flatmap(
    lambda k: st.lists(
        st.lists(st.floats(0, 1), min_size=k, max_size=k)
        .filter(lambda w: sum(w) > 1e-3)
        .map(lambda w: [x / math.fsum(w) for x in w]),
        min_size=1,
        max_size=4,
    )
)


@settings(max_examples=40)
@given(mixtures, st.integers(1, 9), st.integers(0, 99))
def test_counts_stay_within_k_rows_of_the_sum_of_the_shares(
    weights: list[list[float]], block: int, seed: int
) -> None:
    pools = even(len(weights[0]), 12)
    schedule = Schedule(tuple(pool.name for pool in pools))
    for number, entry in enumerate(weights):
        schedule.append(number * 25, entry)
    owed, had = np.zeros(len(pools)), np.zeros(len(pools))
    plan = MixturePlan(pools, block, 100, seed=seed)
    for number, (rows, drawn) in enumerate(replay(plan, schedule)):
        owed += np.asarray(schedule.at(number)) * block
        had += np.asarray(drawn.samples)
        assert len(rows) == block
        assert np.abs(had - owed).max() <= len(pools)


@settings(max_examples=40)
@given(mixtures, st.integers(1, 60), st.integers(0, 9))
def test_a_resumed_run_draws_what_the_undisturbed_run_drew(
    weights: list[list[float]], stop: int, seed: int
) -> None:
    pools = even(len(weights[0]), 8)
    plan = MixturePlan(pools, 5, 60, seed=seed)

    def train(sampler: MixtureSampler, start: int, end: int) -> list[int]:
        """Step by step, with an update every 7 steps and a loader that draws a row ahead."""
        rows, seen = iter(sampler), list[int]()
        ahead = list(islice(rows, start * 5 + 1))[start * 5 :]
        for step in range(start + 1, end + 1):
            seen += ahead + list(islice(rows, 4))
            ahead = list(islice(rows, 1))
            if step % 7 == 0:
                entry = weights[step // 7 % len(weights)]
                sampler.change(entry, step + lookahead(workers=0))
        return seen

    whole = train(MixtureSampler(plan, weights[0]), 0, 60)
    first = MixtureSampler(plan, weights[0])
    before = train(first, 0, stop)
    kept = json.loads(json.dumps(first.state()))
    after = train(MixtureSampler.resume(plan, kept), stop, 60)
    assert before + after == whole


@settings(max_examples=40)
@given(st.integers(0, 19), st.floats(0, 1))
def test_later_weights_never_change_the_past(block: int, share: float) -> None:
    plain, changed = make_sampler(), make_sampler()
    changed.change((share, 1 - share), block)
    assert list(plain)[: block * 6] == list(changed)[: block * 6]


def test_blocks_that_are_drawn_keep_their_weights() -> None:
    sampler = make_sampler()
    rows = iter(sampler)
    drawn = list(islice(rows, 19))
    assert sampler.frontier == 4
    with pytest.raises(TrainError, match=r"Block 3 has been drawn.*from block 4 on"):
        sampler.change((1, 0), 3)
    sampler.change((1, 0), 4)
    drawn += rows
    assert drawn == list(sampler)
    assert {OWNERS[row] for row in drawn[24:]} == {0}
    kept = MixtureSampler.resume(sampler.plan, sampler.state())
    with pytest.raises(TrainError, match="from block 20 on"):
        kept.change((0.5, 0.5), 19)


def test_a_pass_takes_every_row_once_and_the_next_in_another_order() -> None:
    plan = make_plan(block=5, blocks=8)
    schedule = Schedule(NAMES, [(0, (0.0, 1.0))])
    rows = np.concatenate([rows for rows, _ in replay(plan, schedule)]).tolist()
    long = [row for row, owner in enumerate(OWNERS) if owner == 1]
    passes = [rows[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(one) == long for one in passes)
    assert len({tuple(one) for one in passes}) == 4


def test_the_order_depends_on_the_seed_and_on_nothing_else() -> None:
    orders = [list(make_sampler(seed=seed)) for seed in (0, 1)]
    np.random.seed(5)  # noqa: NPY002  # the order must not heed it
    torch.manual_seed(5)
    assert [list(make_sampler(seed=seed)) for seed in (0, 1)] == orders
    assert orders[0] != orders[1]
    assert orders[0][:12] == [18, 16, 8, 13, 28, 11, 15, 4, 20, 1, 29, 22]


def test_pools_are_mixed_within_a_block() -> None:
    plan = MixturePlan(even(2, 500), 64, 1)
    ((rows, _),) = replay(plan, Schedule(("p0", "p1"), [(0, (0.5, 0.5))]))
    halves = [(part >= 500).sum() for part in np.split(rows, 2)]
    assert all(8 <= half <= 24 for half in halves)


def test_shares_of_tokens_are_shares_of_tokens() -> None:
    for unit, samples, tokens in (
        ("samples", 0.5, 10 / 1110),
        ("tokens", 1 / (1 + 10 / 1100), 0.5),
    ):
        sampler = MixtureSampler(make_plan(block=8, blocks=500, unit=unit), (0.5, 0.5))  # type: ignore[arg-type]  # literals of the loop
        rows = list(sampler)
        drawn = sampler.drawn(0, 500)
        assert sum(drawn.samples) == 4000
        assert drawn.tokens[1] == sum(LENGTHS[row] for row in rows if OWNERS[row] == 1)
        assert drawn.sample_shares[0] == pytest.approx(samples, abs=0.002)
        assert drawn.token_shares[0] == pytest.approx(tokens, abs=0.02)


def test_counts_are_rounded_by_the_largest_remainder_and_are_never_below_0() -> None:
    assert apportion([2.5, 1.5, 1.0], 5) == [3, 1, 1]
    assert apportion([0.3, 0.3, 0.4], 1) == [0, 0, 1]
    assert apportion([-0.7, 2.7], 2) == [0, 2]
    assert apportion([-0.99, -0.99, 2.01, 1.97], 2) == [0, 0, 1, 1]


class Rows(Dataset[dict[str, Any]]):
    """A data set whose rows say where they stand."""

    def __len__(self) -> int:
        return len(OWNERS)

    def __getitem__(self, row: int) -> dict[str, Any]:
        ids = torch.tensor([row % 12, 1, 2, 3])
        return {"input_ids": ids, "labels": ids, "row": row}


def as_sampler(sampler: MixtureSampler) -> Sampler[int]:
    """The sampler as torch's annotations want it; at run time an iterable with a length does."""
    return cast("Sampler[int]", sampler)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_torch_loader_gives_the_order(workers: int) -> None:
    context = "fork" if workers else None
    loader: DataLoader[Any] = DataLoader(
        Rows(),
        batch_size=3,
        sampler=as_sampler(make_sampler()),
        num_workers=workers,
        multiprocessing_context=context,
    )
    given = [row for batch in loader for row in batch["row"].tolist()]
    assert given == list(make_sampler())


def test_two_processes_share_the_order_as_accelerate_deals_it() -> None:
    from accelerate.data_loader import BatchSamplerShard

    def part(rank: int) -> list[list[int]]:
        batches = BatchSampler(as_sampler(make_sampler()), batch_size=3, drop_last=False)
        return list(BatchSamplerShard(batches, num_processes=2, process_index=rank))

    dealt = chain.from_iterable(zip(part(0), part(1), strict=True))
    assert list(chain.from_iterable(dealt)) == list(make_sampler())


def train(
    folder: Path, *, workers: int, resume: bool = False, until: int = 8
) -> tuple[list[list[int]], list[int], MixtureSampler]:
    """Train a tiny Qwen2 with transformers' trainer; weights change every two steps.

    Returns:
        The rows of every micro-batch, how far the loader had drawn beyond each change's step, and
        the sampler.
    """
    from transformers import (
        Qwen2Config,
        Qwen2ForCausalLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from tests.conftest import CONFIG

    state = folder / "mixture.json"
    plan = MixturePlan(split_pools(NAMES, OWNERS, LENGTHS), block=6, blocks=8)
    sampler = MixtureSampler(plan, (0.5, 0.5))
    if resume:
        sampler = MixtureSampler.resume(plan, json.loads(state.read_text()))
    seen: list[list[int]] = []
    ahead: list[int] = []
    lag = lookahead(workers=workers, accumulation=2)

    class Steered(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return sampler

        def training_step(self, model: Any, inputs: Any, *rest: Any) -> Any:
            seen.append(inputs.pop("row").tolist())
            return super().training_step(model, inputs, *rest)

    class Steer(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step % 2 == 0 and state.global_step + lag <= 8:
                ahead.append(sampler.frontier - state.global_step)
                sampler.change(
                    ((share := state.global_step / 8), 1 - share), state.global_step + lag
                )
            control.should_training_stop = state.global_step == until

        def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            (folder / "mixture.json").write_text(json.dumps(sampler.state()))

    torch.manual_seed(0)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=8,
        per_device_train_batch_size=3,
        gradient_accumulation_steps=2,
        dataloader_num_workers=workers,
        save_steps=4,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        remove_unused_columns=False,
    )
    trainer = Steered(
        model=Qwen2ForCausalLM(Qwen2Config(**CONFIG)),
        args=arguments,
        train_dataset=Rows(),
        callbacks=[Steer()],
    )
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-4") if resume else None)
    return seen, ahead, sampler


def flat(batches: Sequence[Sequence[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_trainer_sees_the_batches_of_an_undisturbed_one(
    tmp_path: Path, workers: int
) -> None:
    whole, ahead, sampler = train(tmp_path / "whole", workers=workers)
    assert flat(whole) == list(sampler)
    assert ahead
    assert set(ahead) == {lookahead(workers=workers, accumulation=2)}
    first, _, _ = train(tmp_path / "cut", workers=workers, until=4)
    second, _, resumed = train(tmp_path / "cut", workers=workers, resume=True)
    assert first + second == whole
    assert resumed.schedule == sampler.schedule
    assert len(sampler.schedule.entries) >= 2


@pytest.mark.parametrize(
    ("owners", "lengths", "told"),
    [
        ([0, 1], [5], "2 rows a pool and 1 a length"),
        ([0, 2], [5, 5], "Row 1 of the data set is of pool 2, but there are 2"),
        ([0, 1], [5, 0], "Row 1 of the data set trains on 0 tokens"),
    ],
)
def test_columns_that_do_not_fit_are_named(
    owners: list[int], lengths: list[int], told: str
) -> None:
    with pytest.raises(TrainError, match=told):
        split_pools(NAMES, owners, lengths)


def test_plans_that_cannot_be_drawn_are_refused() -> None:
    for change, told in (
        ({"pools": split_pools(NAMES, [0] * 9, [1] * 9)}, "Pool 'long' is empty"),
        ({"block": 11}, r"Pool 'long' has 10 rows, fewer than one step takes \(11\)"),
        ({"block": 0}, "at least 1 step of at least 1 row, got 20 steps of 0 rows"),
        ({"unit": "token"}, "unit 'token': Did you mean 'tokens'"),
    ):
        base: dict[str, Any] = {"pools": make_plan().pools, "block": 6, "blocks": 20}
        with pytest.raises(TrainError, match=told):
            MixturePlan(**{**base, **change})


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ((0.5, 0.4), "sum to 0.9, not 1"),
        ((0.5,), "have 1 weights"),
        ((math.nan, 0.5), "'short' is nan"),
    ],
)
def test_weights_that_are_no_mixture_are_refused(weights: tuple[float, ...], told: str) -> None:
    with pytest.raises(TrainError, match=told):
        MixtureSampler(make_plan(), weights)
    sampler = make_sampler()
    with pytest.raises(TrainError, match=told):
        sampler.change(weights, 3)
    assert len(sampler.schedule.entries) == 1


def test_a_schedule_only_grows() -> None:
    schedule = Schedule(NAMES)
    with pytest.raises(TrainError, match="the first entry is for block 0"):
        schedule.append(3, (0.5, 0.5))
    for block, share in ((0, 0.5), (4, 0.25), (4, 0.75)):
        schedule.append(block, (share, 1 - share))
    assert [schedule.at(block)[0] for block in (0, 3, 4, 99)] == [0.5, 0.5, 0.75, 0.75]
    with pytest.raises(TrainError, match="block 2 cannot follow those for block 4"):
        schedule.append(2, (0.5, 0.5))


def test_a_run_that_changed_does_not_go_on() -> None:
    state = make_sampler().state()
    longer = [*LENGTHS[:-1], LENGTHS[-1] + 1]
    other = split_pools(NAMES, OWNERS, LENGTHS, {"short": "another file"})
    for plan, told in (
        (make_plan(seed=1), "seed was 0, now it is 1"),
        (make_plan(block=8), "block was 6, now it is 8"),
        (make_plan(unit="tokens"), "unit was samples, now it is tokens"),
        (MixturePlan(split_pools(NAMES, OWNERS, longer), 6, 20), "pools was"),
        (MixturePlan(other, 6, 20), "pools was"),
    ):
        with pytest.raises(TrainError, match=f"cannot go on as it began: {told}"):
            MixtureSampler.resume(plan, state)
    damages: tuple[dict[str, Any], ...] = (
        {"schedule": []},
        {"schedule": 3},
        {"schedule": [[0, [0.4, 0.6]]]},
    )
    for damage in damages:
        with pytest.raises(TrainError, match="damaged"):
            MixtureSampler.resume(make_plan(), {**state, **damage})
    with pytest.raises(TrainError, match=r"damaged.*frontier"):
        MixtureSampler.resume(make_plan(), {k: v for k, v in state.items() if k != "frontier"})
    more = MixtureSampler.resume(make_plan(blocks=30), state)
    assert list(more)[:120] == list(make_sampler())


def test_a_single_pool_and_a_pool_without_weight_are_mixtures() -> None:
    alone = MixtureSampler(MixturePlan(even(1, 6), 6, 3), (1.0,))
    assert Counter(alone) == dict.fromkeys(range(6), 3)
    sampler = MixtureSampler(make_plan(), (1.0, 0.0))
    assert {OWNERS[row] for row in sampler} == {0}
