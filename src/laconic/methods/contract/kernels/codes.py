"""What a kernel is asked to do, as the integers that compiled code compares; no imports."""

from __future__ import annotations

from typing import Final

#: What is done to a task vector.
DARE: Final = 0
TRIM: Final = 1
TRIM_EXACTLY: Final = 2
OUTLIERS: Final = 3
SCALE: Final = 4
#: How the vectors are combined.
SUM: Final = 0
MEAN: Final = 1
VOTE: Final = 2
PAIR: Final = 3
ELECT: Final = 4

#: Sums over a tensor are taken over this many elements at a time, and then added without error.
CHUNK: Final = 1 << 16
