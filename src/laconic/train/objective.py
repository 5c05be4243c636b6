"""What a training makes likelier: the mixture's rows, or what the baselines of the papers do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

from annotated_types import Ge, Gt
from pydantic import BeforeValidator, model_serializer

from laconic.errors import RecipeError, did_you_mean
from laconic.train.section import Number, Section

if TYPE_CHECKING:
    from laconic.pools import Kind

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


class ObjectiveSection(Section):
    """One objective; none named is supervised fine-tuning on the mixture.

    Attributes:
        dpo: Preference training against the model before training.
        simpo: Preference training without.
    """

    dpo: DpoSection | None = None
    simpo: SimpoSection | None = None

    @property
    def name(self) -> str:
        """The objective that is named."""
        return next((name for name in type(self).model_fields if getattr(self, name)), SFT)

    @property
    def kind(self) -> Kind:
        """The kind of pools it trains on."""
        return "rows" if self.name == SFT else "pairs"

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
            f"{named[0]} trains on one pool of pairs. Leave controller out, or objective."
        )
    if settled.get("pools") is None:
        raise RecipeError("The training recipe lacks 'pools'. docs/training.md has a whole one.")
    return settled
