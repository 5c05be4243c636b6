"""Plain values as lines of JSON: all that passes between a judged program and its judge.

Both ends run it, inside of the sandbox, so it imports nothing of this package. A value is rebuilt
from its data: of an instance of a subclass (a named tuple, a ``Counter``, a number of NumPy's) goes
what its plain base holds, and whatever its class redefines stays behind. Nothing that is read can
name code. Not kept: which parts of a value are one object, and the order of sets.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

#: Turns what is not plain into a number that the other end knows it by.
Keep = Callable[[object], int]
#: Turns such a number into what stands for the object at this end.
Find = Callable[[int], object]
SMALL = 1 << 62
_EMPTY: dict[object, object] = {}
_KEYS, _VALUES, _ITEMS = type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items())


def write(value: object, keep: Keep) -> str:
    """A value as JSON in one line.

    Raises:
        RecursionError: For a value that holds itself, or is nested too deeply.
        ValueError: Where it holds what has no number at the other end.
    """
    return json.dumps(_pack(value, keep), separators=(",", ":"))


def read(line: str, find: Find) -> Any:
    """The value of a line.

    Raises:
        ValueError, TypeError, RecursionError, ...: For a line that `write` does not make.
    """
    return _unpack(json.loads(line), find)


def _pack(value: object, keep: Keep) -> object:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        number = int.__index__(value)
        return number if -SMALL < number < SMALL else {"int": hex(number)}
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, list):
        return [_pack(part, keep) for part in list.__iter__(value)]
    for kind, parts in PARTS.items():
        if isinstance(value, kind):
            return {NAMES[kind]: [_pack(part, keep) for part in parts(value)]}
    if isinstance(value, dict):
        return {"dict": [[_pack(k, keep), _pack(v, keep)] for k, v in dict.items(value)]}
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and type(value.item()) in SCALARS:
        return _pack(value.item(), keep)
    return {"object": keep(value)}


def _unpack(packed: Any, find: Find) -> Any:
    if isinstance(packed, list):
        return [_unpack(part, find) for part in packed]
    if not isinstance(packed, dict):
        return packed
    ((name, content),) = packed.items()
    if name == "object":
        return find(int(content))
    if name == "int":
        return int(content, 16)
    if name == "dict":
        return {_unpack(key, find): _unpack(value, find) for key, value in content}
    return MAKERS[name](*(_unpack(part, find) for part in content))


def _moment(value: Any) -> Iterable[object]:
    return (value.isoformat(),)


SCALARS = (bool, int, float, complex, str, bytes)
#: Plain kinds by their parts; subclasses before the classes that they derive from.
PARTS: dict[type, Callable[[Any], Iterable[object]]] = {
    tuple: tuple.__iter__,
    set: set.__iter__,
    frozenset: frozenset.__iter__,
    bytes: lambda value: (bytes.hex(value),),
    bytearray: lambda value: (bytearray.hex(value),),
    complex: lambda value: (float(value.real), float(value.imag)),
    range: lambda value: (value.start, value.stop, value.step),
    deque: deque.__iter__,
    _KEYS: lambda value: value,
    _VALUES: lambda value: value,
    _ITEMS: lambda value: value,
    Decimal: lambda value: (Decimal.__str__(value),),
    Fraction: lambda value: (int(value.numerator), int(value.denominator)),
    datetime: _moment,
    date: _moment,
    time: _moment,
    timedelta: lambda value: (value.days, value.seconds, value.microseconds),
}
NAMES = {kind: kind.__name__ for kind in PARTS}
MAKERS: dict[str, Callable[..., object]] = {
    "tuple": lambda *parts: parts,
    "set": lambda *parts: set(parts),
    "frozenset": lambda *parts: frozenset(parts),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": complex,
    "range": range,
    "deque": lambda *parts: deque(parts),
    "dict_keys": lambda *parts: dict.fromkeys(parts).keys(),
    "dict_values": lambda *parts: dict(enumerate(parts)).values(),
    "dict_items": lambda *parts: dict(parts).items(),
    "Decimal": Decimal,
    "Fraction": Fraction,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": timedelta,
}
