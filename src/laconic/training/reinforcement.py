"""Reinforcement of right answers within a limit of tokens: TRL's GRPO, the task's own grader."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any

from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from laconic.backends.contract.transcript import Transcript
from laconic.checkpoints.chat_template import encode_prompt
from laconic.errors import TrainError
from laconic.scoring.score import Grader, score_all
from laconic.training.trainer import Steered

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from laconic.runs.run import Finish
    from laconic.training.objective import GrpoSection
    from laconic.training.recipe import TrainRecipe
    from laconic.training.rows import Rows
    from laconic.training.sampler import MixtureSampler

#: The share of a GPU's memory that vLLM may take beside the training.
MEMORY = 0.3


class Groups:
    """The order of a run's problems as TRL's GRPO reads it: each as often as it is answered.

    A step's problems come once for every batch of the step, for TRL answers them all at the first
    and leaves the others unread.

    Args:
        order: The problems, a step's after another's.
        group: Answers to one problem.
        batches: Batches of one process in a step.
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


class GrpoTrainer(Steered, GRPOTrainer):
    """TRL's GRPO whose reward is the task's grader, and whose limit tightens with the steps.

    Args:
        section: The objective.
        rows: The problems.
        processing_class: The model's tokenizer.
        shared: What TRL's trainer and `Steered` take.
    """

    def __init__(
        self, *, section: GrpoSection, rows: Rows, processing_class: Any, **shared: Any
    ) -> None:
        self._section = section
        self._samples = rows.samples
        self._grader: Grader | None = None
        super().__init__(
            reward_funcs=[self.right],
            train_dataset=rows.dataset(),
            processing_class=processing_class,
            **shared,
        )
        self._transcript = Transcript(processing_class, self.eos_token_ids)

    def train(self, *arguments: Any, **more: Any) -> Any:
        """Train, with a grader at work."""
        with Grader() as self._grader:
            return super().train(*arguments, **more)

    def right(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        *,
        place: Sequence[int],
        **more: Any,
    ) -> list[float]:
        """The reward: 1 where the grader finds the right answer within the limit, else 0."""
        assert self._grader is not None
        asked = []
        for prompt, ids, where in zip(prompts, completion_ids, place, strict=True):
            sample = self._samples[where]
            finish: Finish = "stop" if ids[-1] in self.eos_token_ids else "length"
            made = self._transcript.read(ids, prompt=prompt, prefill=sample.prefill, finish=finish)
            asked.append((sample, made))
        return [float(result.correct) for result in score_all(asked, self._grader)]

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        batches = self.args.gradient_accumulation_steps
        return Groups(self._order, group=self._section.group, batches=batches)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        # TRL's own would put a second BOS before that of the chat template.
        raw = self._samples[0].raw
        ids = [encode_prompt(self._tokenizer, prompt, raw=raw) for prompt in prompts]
        return ids, None, {}

    def _generate_single_turn(self, *arguments: Any, **more: Any) -> Any:
        limit = self._section.limit_at(self.state.global_step)
        self.max_completion_length = limit
        if self.use_vllm:
            self.vllm_generation.max_completion_length = limit
        else:
            self.generation_config.max_new_tokens = limit
            self.generation_kwargs["max_new_tokens"] = limit
        untyped: Any = super()
        return untyped._generate_single_turn(*arguments, **more)


def settings(recipe: TrainRecipe, **shared: Any) -> Any:
    """TRL's settings for a recipe.

    Raises:
        TrainError: Where vLLM is asked for and not there.
    """
    section = recipe.objective.grpo
    assert section is not None
    return GRPOConfig(
        num_generations=section.group,
        max_completion_length=section.limits[0][1],
        temperature=section.temperature,
        top_p=section.top_p,
        beta=section.kl,
        epsilon=section.clip,
        epsilon_high=section.clip_high,
        scale_rewards="batch",
        mask_truncated_completions=False,  # what is cut off counts as it stands
        use_vllm=_with_vllm(section, on_gpu=not shared["use_cpu"]),
        vllm_mode="colocate",
        vllm_gpu_memory_utilization=MEMORY,
        vllm_max_model_length=recipe.max_length,
        remove_unused_columns=False,
        **shared,
    )


def trainer(recipe: TrainRecipe, rows: Rows, **shared: Any) -> GrpoTrainer:
    """The trainer of a recipe on its problems."""
    section = recipe.objective.grpo
    assert section is not None
    return GrpoTrainer(section=section, rows=rows, **shared)


def _with_vllm(section: GrpoSection, *, on_gpu: bool) -> bool:
    there = on_gpu and find_spec("vllm") is not None
    if section.engine == "vllm" and not there:
        what = "vLLM is not installed" if on_gpu else "there is no GPU"
        raise TrainError(
            f"objective.grpo.engine is vllm, and {what}. Take engine: auto, which generates with "
            "transformers then."
        )
    return there and section.engine != "transformers"
