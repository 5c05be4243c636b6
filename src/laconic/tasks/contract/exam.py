"""Exams: what a program must pass, kept as the text of a gold."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from dataclasses import asdict, dataclass
from typing import Final

from laconic.errors import TaskError

#: Longer golds are kept compressed.
PLAIN: Final = 20_000


@dataclass(frozen=True)
class Exam:
    """What a program must pass.

    Attributes:
        check: Python that runs after the program and raises where it is wrong; empty where `cases`
            say it all.
        cases: What the program reads from standard input, and what it must write, pair by pair.
        head: Python that stands before the program: imports, helpers that the problem gives.
        prompt: What a program goes on from that does not define `entry`; empty where none may.
        entry: The function that it must define; empty where that is not known.
        solution: A program that passes, as the set has it; empty where it has none.
    """

    check: str = ""
    cases: tuple[tuple[str, str], ...] = ()
    head: str = ""
    prompt: str = ""
    entry: str = ""
    solution: str = ""

    def to_gold(self) -> str:
        """The exam as text: JSON, compressed where it is long."""
        text = json.dumps({key: value for key, value in asdict(self).items() if value})
        if len(text) <= PLAIN:
            return text
        return json.dumps({"zlib": base64.b64encode(zlib.compress(text.encode())).decode()})

    @classmethod
    def of_gold(cls, gold: str) -> Exam:
        """The exam in a gold.

        Raises:
            TaskError: For a text that is none.
        """
        try:
            values = json.loads(gold)
            if packed := values.pop("zlib", ""):
                values = json.loads(zlib.decompress(base64.b64decode(packed)))
            cases = tuple((str(given), str(wanted)) for given, wanted in values.pop("cases", ()))
            return cls(**values, cases=cases)
        except (ValueError, TypeError, AttributeError, zlib.error, binascii.Error) as error:
            raise TaskError(f"A program's gold is no exam: {gold[:60]!r}.") from error
