"""How kernels are compiled and cached, and the types and sizes that they share."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")
Array = Any

u16, u32, u64, f32, f64 = np.uint16, np.uint32, np.uint64, np.float32, np.float64
#: How many elements are worked on at a time.
TILE = 2048
#: Sums are taken in this many lanes over a chunk: a fixed order.
LANES = 512
#: Room between the lanes of two sums: stores a page apart would hinder each other's loads.
PAD = 8
#: How many values the upper 15 bits of a magnitude have.
BINS = 1 << 15
#: Places beside the bins for the magnitudes that are below or above them: so many that counting one
#: after the other seldom waits for the same place.
SIDE = 32

OPTIONS: Final[Any] = {"nogil": True, "error_model": "numpy"}


def digest_of_sources(folder: Path) -> str:
    """A digest of every Python file of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


#: Numba's cache on disk notices a change of the file that holds the cached function, but not of the
#: files whose functions it calls. The digest of all of them is part of the cache files' names.
SOURCES: Final = digest_of_sources(Path(__file__).parent)


def part(function: F) -> F:
    """Compile as a part of the functions that call it."""
    dispatcher: F = njit(**OPTIONS)(function)
    return dispatcher


def compiled(function: F) -> F:
    """Compile at first use and keep the machine code on disk, where a place for it can be written.

    Numba looks beside the function's file, then in the user's cache folder.
    """
    function.__qualname__ = f"{function.__qualname__}-{SOURCES}"
    try:
        dispatcher: F = njit(cache=True, **OPTIONS)(function)
    except RuntimeError:
        dispatcher = njit(**OPTIONS)(function)
    return dispatcher
