"""What a training makes likelier: the mixture's rows, or what the baselines of the papers do."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import BeforeValidator, model_serializer

from laconic.errors import RecipeError, did_you_mean
from laconic.training.section import Count, Number, Section

if TYPE_CHECKING:
    from laconic.data.pools import Kind

#: The objective that is meant where a recipe names none.
SFT: Final = "sft"


class DpoSection(Section):
    """Prefer the short answer of a pair to the long one, against the model before training.

    Rafailov et al. 2023 (arXiv 2305.18290), eq. 7; with the loss of the short answer added, as
    in Pang et al. 2024 (arXiv 2404.19733), so that it does not become less likely, too.

    Attributes:
        beta: How strongly the model is held to where it began.
        sft: The weight of the short answer's own loss, mean over its tokens; 0 leaves it out.
    """

    beta: Annotated[Number, Gt(0)] = 0.1
    sft: Annotated[Number, Ge(0)] = 1.0


class SimpoSection(Section):
    """Prefer the short answer of a pair by its mean log-probability; no model to compare with.

    Meng et al. 2024 (arXiv 2405.14734), eq. 6.

    Attributes:
        beta: The scale of the difference between the answers.
        gamma: By how much, after scaling, the short one shall be ahead.
        sft: The weight of the short answer's own loss, mean over its tokens; 0 leaves it out.
    """

    beta: Annotated[Number, Gt(0)] = 2.0
    gamma: Annotated[Number, Ge(0)] = 1.0
    sft: Annotated[Number, Ge(0)] = 0.0


class GrpoSection(Section):
    """Reward right answers within a limit of tokens that tightens in stages.

    GRPO (Shao et al. 2024, arXiv 2402.03300) with the reward and the stages of ThinkPrune (Hou et
    al. 2025, arXiv 2504.01296), rewards divided by the spread of the whole batch and the higher
    upper clip of DLER (Liu et al. 2025, arXiv 2510.15110). ThinkPrune begins each stage from the
    best checkpoint of the one before and tells the limit in its prompt; here training goes on
    from where it stands, and the prompt says what `prompt` says.

    Attributes:
        task: The problems: ``NAME`` or ``NAME:key=value,...``, or a file of problems.
        limits: Stages as ``[step, tokens]``: from that many steps done, an answer may have so many
            tokens; what is cut off is graded as it stands. The first begins at step 0.
        group: Answers to one problem, which are compared with each other.
        limit: Only the first so many problems.
        prompt: A prompt's name, or the user's turn with ``{problem}``.
        data: The problems of a named task: a file, or a folder of files.
        temperature: Of the draws.
        top_p: The probability mass kept.
        clip: How much less likely a token may get in a step, as a share.
        clip_high: How much more likely.
        kl: The weight of the distance from the model before training.
        engine: What generates; auto is vLLM where there are a GPU and vLLM, else transformers.
    """

    task: str
    limits: Annotated[list[Annotated[list[int], Len(2, 2)]], Len(1)]
    group: Annotated[int, Ge(2)] = 8
    limit: Count | None = None
    prompt: str = "{problem}"
    data: str | None = None
    temperature: Annotated[Number, Gt(0)] = 1.0
    top_p: Annotated[Number, Gt(0), Le(1)] = 1.0
    clip: Annotated[Number, Gt(0), Lt(1)] = 0.2
    clip_high: Annotated[Number, Gt(0)] = 0.28
    kl: Annotated[Number, Ge(0)] = 0.0
    engine: Literal["auto", "transformers", "vllm"] = "auto"

    def limit_at(self, step: int) -> int:
        """The most tokens of an answer after so many steps."""
        return next(tokens for first, tokens in reversed(self.limits) if first <= step)

    def mean_limit(self, steps: int) -> float:
        """The limit of a step, on average over a run."""
        return sum(map(self.limit_at, range(steps))) / steps


class ObjectiveSection(Section):
    """One objective; none named is supervised fine-tuning on the mixture.

    Attributes:
        dpo: Preference training against the model before training.
        simpo: Preference training without.
        grpo: Reinforcement of right answers within a limit.
    """

    dpo: DpoSection | None = None
    simpo: SimpoSection | None = None
    grpo: GrpoSection | None = None

    @property
    def name(self) -> str:
        """The objective that is named."""
        return next((name for name in type(self).model_fields if getattr(self, name)), SFT)

    @property
    def kind(self) -> Kind:
        """The kind of pools it trains on, if it does not draw problems of its own."""
        return "pairs" if self.dpo or self.simpo else "rows"

    @model_serializer
    def _plain(self) -> str | dict[str, Any]:
        if self.name == SFT:
            return SFT
        return {self.name: getattr(self, self.name).model_dump(mode="json")}


def _spelled(value: object) -> object:
    """An objective by its name alone has no parameters of its own."""
    if isinstance(value, str):
        return {} if value == SFT else {value: {}}
    return value


Objective = Annotated[ObjectiveSection, BeforeValidator(_spelled)]


def settle(values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's plain values, with what its objective leaves no choice in.

    Raises:
        RecipeError: For an unknown objective, several, or keys that it has no use for.
    """
    settled = dict(values)
    told = _spelled(values.get("objective", SFT))
    if not isinstance(told, Mapping):
        return settled
    known = ObjectiveSection.model_fields
    for name in told:
        if name not in known:
            near = did_you_mean(str(name), [SFT, *known])
            raise RecipeError(f"There is no objective '{name}'. {near}")
    named = [name for name in told if told[name] is not None]
    if len(named) > 1:
        raise RecipeError(
            f"objective names {len(named)} objectives ({', '.join(named)}); a training has one: "
            "objective: {dpo: {beta: 0.1}}."
        )
    if named and settled.setdefault("controller", "static") not in ("static", {"static": {}}):
        raise RecipeError(
            f"controller {settled['controller']} moves the shares of pools, and objective "
            f"{named[0]} has one source of data. Leave controller out, or objective."
        )
    if named == ["grpo"]:
        if settled.get("pools") is not None:
            raise RecipeError(
                "objective grpo trains on the model's own answers to objective.grpo.task, and has "
                "no use for pools. Leave pools out."
            )
    elif settled.get("pools") is None:
        raise RecipeError("The training recipe lacks 'pools'. docs/training.md has a whole one.")
    return settled


def refuse_stages(section: GrpoSection, steps: int) -> None:
    """Refuse limits that do not begin at step 0, go back, widen, or come after the last step.

    Raises:
        RecipeError: With the stage.
    """
    told = "objective.grpo.limits"
    if section.limits[0][0] != 0:
        raise RecipeError(f"{told} begins at step {section.limits[0][0]}: the first is for step 0.")
    if (least := min(tokens for _, tokens in section.limits)) < 1:
        raise RecipeError(f"{told}: an answer of at most {least} tokens is none.")
    for (step, tokens), (later, fewer) in pairwise(section.limits):
        if later <= step or fewer > tokens:
            raise RecipeError(
                f"{told}: [{later}, {fewer}] cannot follow [{step}, {tokens}]: steps rise and "
                "limits tighten."
            )
    if section.limits[-1][0] >= steps:
        raise RecipeError(
            f"{told}: the last stage begins after step {section.limits[-1][0]}, but there are only "
            f"{steps} steps."
        )
