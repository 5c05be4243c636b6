"""Write the records anew: ``python -m tests.recorded.record [PART ...]``.

The tests call the same `observe` of each part, so that there is one way to see what comes out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, Protocol

from tests.recorded import merges, mixture, options, reports

RECORDS: Final = Path(__file__).parent / "records"


class Part(Protocol):
    """A module whose pieces are recorded."""

    def names(self) -> list[str]:
        """Every piece."""

    def tolerance(self, name: str) -> float:
        """The relative difference of two floats that counts as none."""

    def prepare(self, folder: Path) -> None:
        """Write what all pieces need."""

    def observe(self, name: str, folder: Path) -> Any:
        """What a piece comes to, as JSON holds it."""


PARTS: Final[dict[str, Part]] = {
    "merges": merges,
    "reports": reports,
    "mixture": mixture,
    "options": options,
}


def place(part: str, name: str) -> Path:
    """The file of a piece's record."""
    return RECORDS / part / f"{name}.json"


def read(part: str, name: str) -> Any:
    """A piece's record."""
    return json.loads(place(part, name).read_text(encoding="utf-8"))


def write(part: str) -> None:
    """Write a part's records; those of pieces that are no more are removed."""
    names = PARTS[part].names()
    (RECORDS / part).mkdir(parents=True, exist_ok=True)
    for path in (RECORDS / part).glob("*.json"):
        if path.stem not in names:
            path.unlink()
    with tempfile.TemporaryDirectory() as folder:
        PARTS[part].prepare(Path(folder))
        for name in names:
            told = PARTS[part].observe(name, Path(folder))
            # A value a line: a change is a line in a diff.
            text = json.dumps(told, indent=0, ensure_ascii=False, sort_keys=False)
            place(part, name).write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Write the parts that are named, or all."""
    for part in sys.argv[1:] or PARTS:
        write(part)


if __name__ == "__main__":
    main()
