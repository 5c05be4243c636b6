"""The base class of a training recipe's sections, and the types of their numbers."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from pydantic import BaseModel, BeforeValidator, ConfigDict


def _number(value: object) -> object:
    """Read text as a number where possible: YAML reads ``1e-5``, without a point, as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(_number)]
Share = Annotated[Number, Ge(0), Le(1)]
Count = Annotated[int, Ge(1)]


class Section(BaseModel):
    """A mapping in the recipe: unknown keys and other types are errors; immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
