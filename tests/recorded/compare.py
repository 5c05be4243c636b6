"""How a record is compared with what comes out today: texts exactly, numbers within a tolerance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The relative difference of two floats that counts as none, unless a piece says otherwise.
TOLERANCE: Final = 1e-6
#: Sums in float32 over a training's tokens, and what may differ of them on another processor.
LOOSE: Final = {
    **dict.fromkeys(("loss", "entropy", "grad_norm", "excess", "excess_se"), 1e-3),
    "mean_token_accuracy": 1e-2,
}
#: What an absolute difference may be beside a value near 0, as a multiple of the tolerance.
FLOOR: Final = 1e-3


def differences(
    recorded: Any, now: Any, tolerance: float = TOLERANCE, where: str = ""
) -> Iterator[str]:
    """Where two JSON values differ, one line each.

    Keys that exist now and were not recorded differ, too: what is written is recorded in full.
    """
    if isinstance(recorded, dict) and isinstance(now, dict):
        for key in sorted(recorded.keys() | now.keys()):
            place = f"{where}/{key}"
            if key not in now:
                yield f"{place}: was {_short(recorded[key])}, is gone"
            elif key not in recorded:
                yield f"{place}: is new, {_short(now[key])}"
            else:
                yield from differences(recorded[key], now[key], LOOSE.get(key, tolerance), place)
    elif isinstance(recorded, list) and isinstance(now, list):
        if len(recorded) != len(now):
            yield f"{where}: had {len(recorded)} entries, has {len(now)}"
        for i, (old, new) in enumerate(zip(recorded, now, strict=False)):
            yield from differences(old, new, tolerance, f"{where}/{i}")
    elif _is_float(recorded) and _is_float(now):
        if not math.isclose(recorded, now, rel_tol=tolerance, abs_tol=FLOOR * tolerance):
            yield f"{where}: was {recorded!r}, is {now!r}"
    elif type(recorded) is not type(now) or recorded != now:
        yield f"{where}: was {_short(recorded)}, is {_short(now)}"


def _is_float(value: Any) -> bool:
    """Whether it is a number; a float that happens to be whole is compared with floats."""
    return isinstance(value, float)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
