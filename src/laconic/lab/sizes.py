"""How large the lab's networks are, and what follows from it for their training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from laconic.errors import LaconicError, did_you_mean
from laconic.tasks.contract.arithmetic import LEVELS, LONG_LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.tasks.contract.arithmetic import Levels


@dataclass(frozen=True)
class Size:
    """A network's dimensions and its share of the recipe.

    Attributes:
        hidden: Width of the residual stream.
        inner: Width of the feed-forward layers.
        layers: Number of layers.
        heads: Attention heads, all with keys and values of their own.
        window: Tokens of prompt and response together.
        long: Whether it is trained on the long chains.
        rate: Multiple of the recipe's learning rates.
        texts: Multiple of the recipe's number of texts.
        batch: Multiple of the recipe's tokens per step.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    window: int = 1024
    long: bool = False
    rate: float = 1.0
    texts: int = 1
    batch: int = 1

    @property
    def levels(self) -> Levels:
        """The chains it is trained on."""
        return LONG_LEVELS if self.long else LEVELS


#: The size that ships.
MINI: Final = "mini"
#: 0.3, 0.8 and 3 million parameters for one CPU core, 50 million with long thoughts for a GPU.
SIZES: Final[Mapping[str, Size]] = {
    "tiny": Size(80, 208, 4, 4, rate=1.2),
    MINI: Size(128, 336, 4, 4),
    "small": Size(256, 672, 4, 8, rate=0.6),
    "medium": Size(640, 1728, 10, 10, window=4096, long=True, rate=0.5, texts=12, batch=16),
}


def size_of(name: str) -> Size:
    """A size by its name.

    Raises:
        LaconicError: For an unknown name.
    """
    if name not in SIZES:
        raise LaconicError(f"The lab has no size '{name}'. {did_you_mean(name, SIZES)}")
    return SIZES[name]
