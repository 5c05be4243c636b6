"""What the sections of a training recipe are made of: strict mappings, and numbers in ranges."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Le
from pydantic import BaseModel, BeforeValidator, ConfigDict


def _number(value: object) -> object:
    """YAML reads ``1e-5``, without a point, as text: it is meant as a number."""
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
    """A mapping of the recipe: only its own keys, no guessed types, unchanging."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
