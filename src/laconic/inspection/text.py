"""An inspection in the terminal: the verdicts first, then the tables that they come from."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from laconic.inspection.verdict import RULE
from laconic.reporting.tables.table import Cell, Column, Table
from laconic.reporting.wording import DASH, MINUS, number, some
from laconic.reporting.writers.terminal import set_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from laconic.inspection.inspect import Inspection
    from laconic.inspection.sums import Sums

#: More layers than this are shown in bands, unless all are asked for.
MOST_ROWS = 12
BANDS = 8
BAR = 12
#: More models than this are not shown side by side.
MOST_SIDE_BY_SIDE = 2


def to_text(found: Inspection, *, layers: bool = False, width: int | None = None) -> str:
    """An inspection as plain text.

    Args:
        found: What to show.
        layers: Whether every layer has a row of its own.
        width: Columns; by default the terminal's, 80 where there is none.
    """
    return set_lines(_things(found, layers=layers), width=width) + "\n"


def headlines(found: Inspection) -> Iterator[str]:
    """The verdicts, a sentence or two each."""
    for sibling in found.siblings:
        if sibling.reason:
            word = "yes, but" if sibling.fits else "no."
            yield f"Siblings: {word} {sibling.reason}"
    plainly = [sibling.name for sibling in found.siblings if sibling.fits and not sibling.reason]
    if plainly:
        names = ", ".join(plainly[:-1]) + (" and " if plainly[1:] else "") + plainly[-1]
        yield f"Siblings: yes. {names} can be merged with {found.base}."
    yield from _base(found)
    whole = found.whole
    for i, j in combinations(found.compared, 2):
        cosine, conflicts = whole.cosine(i, j), whole.conflicts(i, j)
        if cosine is not None:
            yield (
                f"Agreement: the task vectors of {found.compared[i]} and {found.compared[j]} have "
                f"the cosine {cosine:.2f}; {_percent(conflicts)} % of what both change, they pull "
                "apart (50 % is chance)."
            )


def _base(found: Inspection) -> Iterator[str]:
    choice = found.choice
    words = {
        "fits": f"{found.base} fits.",
        "another": f"not {found.base}; {choice.best} fits better.",
        "unrelated": f"not {found.base}.",
        "far": f"{found.base} is doubtful.",
        "unknown": "cannot be told.",
    }
    yield f"Base: {words[choice.fit]} {' '.join(choice.sentences)}"
    if choice.fit in ("fits", "far") and len(found.used) == 2:
        yield (
            "Which of two was made from the other, no distance says: it is the same both ways. "
            "A third checkpoint (--candidate) does."
        )
    if choice.fit != "unknown":
        yield RULE


def _things(found: Inspection, *, layers: bool) -> Iterator[str | Table]:
    yield from headlines(found)
    for what, lines in (("Warning", found.warnings), ("Note", found.notes)):
        for line in lines:
            yield ""
            yield f"{what}: {line}"
    if found.sums and found.compared:
        for i in found.compared:
            yield _part_table(found, i)
        if len(found.compared) > 1:
            yield _agreement_table(found)
        if found.layers:
            yield _layer_table(found, every=layers)
        if len(found.used) > 2:
            yield _distance_table(found)
    if found.differences:
        yield _difference_table(found)
    if found.overlap.left_out:
        yield ""
        names = [f"{name} ({why})" for name, why in found.overlap.left_out.items()]
        yield f"Not compared: {some(names, 4)}."


def _part_table(found: Inspection, i: int) -> Table:
    """How far a model is from the base, part by part."""

    def row(title: str, sums: Sums) -> tuple[Cell, ...]:
        return (
            Cell(title),
            Cell(number(sums.elements, 0)),
            Cell(_figure(sums.norm(0))),
            Cell(_figure(sums.distance(i))),
            Cell(_percent(sums.relative(i))),
            Cell(_percent(sums.unchanged(i))),
        )

    base, name = labels(found.names)[0], _label(found, i)
    columns = ("values", "|base|", "|change|", "change, %", "unchanged, %")
    return Table(
        f"{name}: its task vector (change = {name} {MINUS} {base}) by part",
        (Column("part", numeric=False), *map(Column, columns)),
        (
            row("whole model", found.whole),
            *(row(part, sums) for part, sums in found.parts.items()),
        ),
    )


def _agreement_table(found: Inspection) -> Table:
    """Whether task vectors agree: by part for two of them, pair by pair for more."""
    pairs = list(combinations(found.compared, 2))

    def row(title: str, sums: Sums, i: int, j: int) -> tuple[Cell, ...]:
        both = int(sums.changed[i - 1, j - 1]) / sums.elements if sums.elements else None
        cosine = sums.cosine(i, j)
        return (
            Cell(title),
            Cell(DASH if cosine is None else number(cosine, 3)),
            Cell(_percent(both)),
            Cell(_percent(sums.conflicts(i, j))),
        )

    names = {i: _label(found, i) for i in found.compared}
    if len(pairs) == 1:
        ((i, j),) = pairs
        head, caption = "part", f"{names[i]} and {names[j]}: do their task vectors agree?"
        rows = [row("whole model", found.whole, i, j)]
        rows += [row(part, sums, i, j) for part, sums in found.parts.items()]
    else:
        head, caption = "pair", "Do the task vectors agree? (whole model)"
        rows = [row(f"{names[i]} and {names[j]}", found.whole, i, j) for i, j in pairs]
    columns = ("cosine", "both change, %", "pulled apart, % of both")
    return Table(caption, (Column(head, numeric=False), *map(Column, columns)), tuple(rows))


def labels(names: Sequence[str]) -> list[str]:
    """Names as short as tables want them: without folders, where they stay different."""
    ends = ["+".join(Path(part).name for part in name.split("+")) for name in names]
    return [
        end if end and ends.count(end) == names.count(name) else name
        for name, end in zip(names, ends, strict=True)
    ]


def bands(layers: int, *, every: bool) -> list[tuple[int, int]]:
    """The first and last layer of each row: single layers if they are few or all asked for."""
    count = layers if every or layers <= MOST_ROWS else BANDS
    edges = [round(i * layers / count) for i in range(count + 1)]
    return [(first, after - 1) for first, after in pairwise(edges)]


def _layer_table(found: Inspection, *, every: bool) -> Table:
    """Where in depth the changes are."""
    rows = bands(found.layers, every=every)
    parts = [part for part in found.parts if found.layer(0, found.layers, part).elements]
    single = len(found.compared) == 1
    highest = max(found.layer(*band).relative(i) or 0.0 for band in rows for i in found.compared)
    columns = [Column("layers" if rows[0][1] > rows[0][0] else "layer", numeric=False)]
    for i in found.compared:
        columns.append(Column("all" if single else _label(found, i)))
        columns.append(Column("", numeric=False))
    if single:
        columns += [Column(part) for part in parts]
    pair = len(found.compared) == MOST_SIDE_BY_SIDE
    columns += [Column("cosine"), Column("pulled apart")] if pair else []

    def row(first: int, last: int) -> tuple[Cell, ...]:
        cells = [Cell(str(first) if first == last else f"{first}-{last}")]
        here = found.layer(first, last)
        for i in found.compared:
            share = here.relative(i) or 0.0
            cells.append(Cell(_percent(share)))
            cells.append(Cell("\N{FULL BLOCK}" * round(BAR * share / highest) if highest else ""))
        if single:
            (i,) = found.compared
            cells += [Cell(_percent(found.layer(first, last, p).relative(i))) for p in parts]
        if pair:
            cosine = here.cosine(*found.compared)
            cells.append(Cell(DASH if cosine is None else number(cosine, 3)))
            cells.append(Cell(_percent(here.conflicts(*found.compared))))
        return tuple(cells)

    return Table(
        "Depth: |change| / |base| in %",
        tuple(columns),
        tuple(row(first, last) for first, last in rows),
    )


def _distance_table(found: Inspection) -> Table:
    """How far each model is from every checkpoint that could be its base."""
    names = [_label(found, i) for i in range(len(found.used))]

    def cell(m: int, c: int) -> Cell:
        if m == c:
            return Cell(DASH)
        nearest = min((x for x in range(len(names)) if x != m), key=lambda x: _far(found, m, x))
        return Cell(("nearest " if c == nearest else "") + _percent(found.matrices.relative(m, c)))

    return Table(
        "Which base? |model - base| / |base| in %, attention and MLP matrices",
        (Column("as base", numeric=False), *(Column(names[m]) for m in found.compared)),
        tuple((Cell(name), *(cell(m, c) for m in found.compared)) for c, name in enumerate(names)),
    )


def _label(found: Inspection, i: int) -> str:
    """The short name of one of those that the sums are over."""
    return labels(found.names)[found.used[i]]


def _far(found: Inspection, m: int, c: int) -> float:
    return found.matrices.distance(m, c)


def _difference_table(found: Inspection) -> Table:
    """What is not the same beside the weights."""
    return Table(
        "Differences beside the weights",
        (
            Column("where", numeric=False),
            Column("what", numeric=False),
            *(Column(name, numeric=False) for name in labels(found.names)),
        ),
        tuple(
            (Cell(d.where), Cell(d.key), *(Cell(value) for value in d.values))
            for d in found.differences
        ),
    )


def _percent(share: float | None) -> str:
    """A share in percent, three digits: ``7.78``."""
    return DASH if share is None else _figure(100 * share)


def _figure(value: float) -> str:
    """A number with three significant digits, grouped where it is large."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return number(value, 0)
    return f"{value:#.3g}".rstrip(".") if abs(value) >= 0.001 else f"{value:.1e}"
