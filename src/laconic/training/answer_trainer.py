"""The trainer of objectives on problems: TRL's GRPO on graded answers and named rewards.

Imports torch, transformers and TRL: only an objective that is about to train should import it.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import torch
from trl.trainer.grpo_trainer import GRPOTrainer

from laconic.backends.contract.transcript import Transcript
from laconic.checkpoints.chat_template import encode_prompt
from laconic.scoring.score import Grader, score_all
from laconic.training.rewards.contract import AnswerGroups
from laconic.training.trainer import MixtureTrainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from laconic.runs.run import Finish, Result
    from laconic.training.data.sampler import MixtureSampler
    from laconic.training.rewards.contract import WeightedReward


class RepeatedProblems:
    """The order of a run's problems as TRL's GRPO reads it: each as often as it is answered.

    The problems of a step come once for every batch of the step, because TRL answers all of them
    at the first batch and does not read the others.

    Args:
        order: The problems, one step after another.
        group: How many answers to one problem.
        batches: The batches of one process in a step.
    """

    def __init__(self, order: MixtureSampler, *, group: int, batches: int) -> None:
        self._order = order
        self._group = group
        self._batches = batches

    def __len__(self) -> int:
        return len(self._order) * self._group * self._batches

    def __iter__(self) -> Iterator[int]:
        problems = iter(self._order)
        while block := list(islice(problems, self._order.plan.block)):
            for _ in range(self._batches):
                for problem in block:
                    yield from [problem] * self._group


class AnswerTrainer(MixtureTrainer, GRPOTrainer):
    """TRL's GRPO with the task's grader, named rewards and a length limit that depends on the step.

    Every process grades its own answers once. All processes then compute all rewards on all
    answers of the step, so each holds the same rewards and the same state of the rewards.

    Args:
        rewards: What the answers are rewarded by.
        group: How many answers to one problem.
        limit_at: The most tokens of an answer after so many steps.
        processing_class: The model's tokenizer.
        more: What `MixtureTrainer` and TRL's trainer take.
    """

    def __init__(
        self,
        *,
        rewards: Sequence[WeightedReward],
        group: int,
        limit_at: Callable[[int], int],
        processing_class: Any,
        **more: Any,
    ) -> None:
        self._rewards = rewards
        self._group = group
        self._limit_at = limit_at
        self._states: dict[str, dict[str, Any]] = {one.name: {} for one in rewards}
        self._grader: Grader | None = None
        super().__init__(
            reward_funcs=[one.score for one in rewards],
            processing_class=processing_class,
            **more,
        )
        self.reward_func_names = [one.logged_as for one in rewards]
        self._transcript = Transcript(processing_class, self.eos_token_ids)

    def train(self, *arguments: Any, **more: Any) -> Any:
        """Train, with a grader at work."""
        with Grader() as self._grader:
            return super().train(*arguments, **more)

    def load_objective_state(self, state: Mapping[str, Any]) -> None:
        """Take the states of the rewards from a checkpoint."""
        self._states |= {name: dict(state[name]) for name in self._states if name in state}

    def objective_state(self) -> Mapping[str, Any]:
        """The states of the rewards that have one, by name."""
        return {name: state for name, state in self._states.items() if state}

    def _calculate_rewards(
        self,
        inputs: Sequence[Mapping[str, Any]],
        prompts: Sequence[str],
        completions: Sequence[Any],
        completion_ids_list: Sequence[Sequence[int]],
    ) -> torch.Tensor:
        """The rewards of the answers of all processes, ``[answer, reward]``, without weights."""
        graded = self.processes.on_all(
            lambda: self._graded([row["place"] for row in inputs], prompts, completion_ids_list)
        )
        results = list(chain.from_iterable(graded))
        limit = self._limit_at(self.state.global_step)
        group = AnswerGroups(
            prompts=tuple(place // self._group for place in range(len(results))),
            max_lengths=(limit,) * (len(results) // self._group),
        )
        columns = []
        for one in self._rewards:
            column, self._states[one.name] = one.score(results, group, self._states[one.name])
            columns.append(column)
        device = self.accelerator.device
        return torch.tensor(columns, dtype=torch.float32, device=device).T.contiguous()

    def _graded(
        self, places: Sequence[int], prompts: Sequence[str], answers: Sequence[Sequence[int]]
    ) -> list[Result]:
        """The graded answers of this process."""
        assert self._grader is not None
        completions = []
        for place, prompt, ids in zip(places, prompts, answers, strict=True):
            sample = self.rows.samples[place]
            finish: Finish = "stop" if ids[-1] in self.eos_token_ids else "length"
            generation = self._transcript.read(
                ids, prompt=prompt, prefill=sample.prefill, finish=finish
            )
            completions.append((sample, generation))
        return score_all(completions, self._grader)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        batches = self.args.gradient_accumulation_steps
        return RepeatedProblems(self.mixture.sampler, group=self._group, batches=batches)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        # TRL's own would put a second BOS before that of the chat template.
        raw = self.rows.samples[0].raw
        ids = [encode_prompt(self._tokenizer, prompt, raw=raw) for prompt in prompts]
        return ids, None, {}

    def _generate_single_turn(self, *arguments: Any, **more: Any) -> Any:
        limit = self._limit_at(self.state.global_step)
        self.max_completion_length = limit
        if self.use_vllm:
            self.vllm_generation.max_completion_length = limit
        else:
            self.generation_config.max_new_tokens = limit
            self.generation_kwargs["max_new_tokens"] = limit
        untyped: Any = super()
        return untyped._generate_single_turn(*arguments, **more)
