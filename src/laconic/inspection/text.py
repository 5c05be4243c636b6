"""An inspection as text for the terminal: the conclusions first, then the tables."""

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
    from laconic.inspection.sums import DistanceSums

#: More layers than this are shown in bands, unless all are asked for.
MOST_ROWS = 12
BANDS = 8
BAR = 12
#: More models than this are not shown side by side.
MOST_SIDE_BY_SIDE = 2


def to_text(inspection: Inspection, *, layers: bool = False, width: int | None = None) -> str:
    """An inspection as plain text.

    Args:
        inspection: The inspection.
        layers: Whether each layer has its own row.
        width: The width in columns; by default that of the terminal, or 80 if there is none.
    """
    return set_lines(_things(inspection, layers=layers), width=width) + "\n"


def headlines(inspection: Inspection) -> Iterator[str]:
    """The conclusions, a sentence or two each."""
    for model in inspection.compatibility:
        if model.reason:
            word = "yes, but" if model.fits else "no."
            yield f"Compatible: {word} {model.reason}"
    plainly = [model.name for model in inspection.compatibility if model.fits and not model.reason]
    if plainly:
        names = ", ".join(plainly[:-1]) + (" and " if plainly[1:] else "") + plainly[-1]
        yield f"Compatible: yes. {names} can be merged with {inspection.base}."
    yield from _base(inspection)
    whole = inspection.whole
    for (i, first), (j, second) in combinations(inspection.compared.items(), 2):
        cosine, conflicts = whole.cosine(i, j), whole.conflicts(i, j)
        if cosine is not None:
            yield (
                f"Agreement: the task vectors of {first} and {second} have the "
                f"cosine {cosine:.2f}. Of the values that both change, they change "
                f"{_percent(conflicts)} % in opposite directions (50 % is chance)."
            )


def _base(inspection: Inspection) -> Iterator[str]:
    verdict = inspection.base_verdict
    words = {
        "fits": f"{inspection.base} fits.",
        "another": f"not {inspection.base}; {verdict.best} fits better.",
        "unrelated": f"not {inspection.base}.",
        "far": f"{inspection.base} is doubtful.",
        "unknown": "cannot be told.",
    }
    yield f"Base: {words[verdict.fit]} {' '.join(verdict.sentences)}"
    if verdict.fit in ("fits", "far") and len(inspection.used) == 2:
        yield (
            "Distances do not show which of two checkpoints was made from the other, because they "
            "are the same in both directions. A third checkpoint (--candidate) shows it."
        )
    if verdict.fit != "unknown":
        yield RULE


def _things(inspection: Inspection, *, layers: bool) -> Iterator[str | Table]:
    yield from headlines(inspection)
    for what, lines in (("Warning", inspection.warnings), ("Note", inspection.notes)):
        for line in lines:
            yield ""
            yield f"{what}: {line}"
    if inspection.sums and inspection.compared:
        for i in inspection.compared:
            yield _part_table(inspection, i)
        if len(inspection.compared) > 1:
            yield _agreement_table(inspection)
        if inspection.layers:
            yield _layer_table(inspection, every=layers)
        if len(inspection.used) > 2:
            yield _distance_table(inspection)
    if inspection.differences:
        yield _difference_table(inspection)
    if inspection.common_tensors.left_out:
        yield ""
        names = [f"{name} ({why})" for name, why in inspection.common_tensors.left_out.items()]
        yield f"Not compared: {some(names, 4)}."


def _part_table(inspection: Inspection, i: int) -> Table:
    """The distance of a model from the base, part by part."""

    def row(title: str, sums: DistanceSums) -> tuple[Cell, ...]:
        return (
            Cell(title),
            Cell(number(sums.elements, 0)),
            Cell(_figure(sums.norm(0))),
            Cell(_figure(sums.distance(i))),
            Cell(_percent(sums.relative(i))),
            Cell(_percent(sums.unchanged(i))),
        )

    base, name = labels(inspection.names)[0], _label(inspection, i)
    columns = ("values", "|base|", "|change|", "change, %", "unchanged, %")
    return Table(
        f"{name}: its task vector (change = {name} {MINUS} {base}) by part",
        (Column("part", numeric=False), *map(Column, columns)),
        (
            row("whole model", inspection.whole),
            *(row(part, sums) for part, sums in inspection.parts.items()),
        ),
    )


def _agreement_table(inspection: Inspection) -> Table:
    """How far task vectors agree: by part for two of them, by pair for more."""
    pairs = list(combinations(inspection.compared, 2))

    def row(title: str, sums: DistanceSums, i: int, j: int) -> tuple[Cell, ...]:
        both = int(sums.changed[i - 1, j - 1]) / sums.elements if sums.elements else None
        cosine = sums.cosine(i, j)
        return (
            Cell(title),
            Cell(DASH if cosine is None else number(cosine, 3)),
            Cell(_percent(both)),
            Cell(_percent(sums.conflicts(i, j))),
        )

    names = {i: _label(inspection, i) for i in inspection.compared}
    if len(pairs) == 1:
        ((i, j),) = pairs
        head, caption = "part", f"{names[i]} and {names[j]}: do their task vectors agree?"
        rows = [row("whole model", inspection.whole, i, j)]
        rows += [row(part, sums, i, j) for part, sums in inspection.parts.items()]
    else:
        head, caption = "pair", "Do the task vectors agree? (whole model)"
        rows = [row(f"{names[i]} and {names[j]}", inspection.whole, i, j) for i, j in pairs]
    columns = ("cosine", "both change, %", "opposed, % of both")
    return Table(caption, (Column(head, numeric=False), *map(Column, columns)), tuple(rows))


def labels(names: Sequence[str]) -> list[str]:
    """Short names for tables: without folders, unless two names would become equal."""
    ends = ["+".join(Path(part).name for part in name.split("+")) for name in names]
    return [
        end if end and ends.count(end) == names.count(name) else name
        for name, end in zip(names, ends, strict=True)
    ]


def bands(layers: int, *, every: bool) -> list[tuple[int, int]]:
    """The first and last layer of each row: one layer each if there are few, or for `every`."""
    count = layers if every or layers <= MOST_ROWS else BANDS
    edges = [round(i * layers / count) for i in range(count + 1)]
    return [(first, after - 1) for first, after in pairwise(edges)]


def _layer_table(inspection: Inspection, *, every: bool) -> Table:
    """The changes layer by layer."""
    rows = bands(inspection.layers, every=every)
    parts = [
        part for part in inspection.parts if inspection.layer(0, inspection.layers, part).elements
    ]
    single = len(inspection.compared) == 1
    highest = max(
        inspection.layer(*band).relative(i) or 0.0 for band in rows for i in inspection.compared
    )
    columns = [Column("layers" if rows[0][1] > rows[0][0] else "layer", numeric=False)]
    for i in inspection.compared:
        columns.append(Column("all" if single else _label(inspection, i)))
        columns.append(Column("", numeric=False))
    if single:
        columns += [Column(part) for part in parts]
    pair = len(inspection.compared) == MOST_SIDE_BY_SIDE
    columns += [Column("cosine"), Column("opposed")] if pair else []

    def row(first: int, last: int) -> tuple[Cell, ...]:
        cells = [Cell(str(first) if first == last else f"{first}-{last}")]
        here = inspection.layer(first, last)
        for i in inspection.compared:
            share = here.relative(i) or 0.0
            cells.append(Cell(_percent(share)))
            cells.append(Cell("\N{FULL BLOCK}" * round(BAR * share / highest) if highest else ""))
        if single:
            (i,) = inspection.compared
            cells += [Cell(_percent(inspection.layer(first, last, p).relative(i))) for p in parts]
        if pair:
            cosine = here.cosine(*inspection.compared)
            cells.append(Cell(DASH if cosine is None else number(cosine, 3)))
            cells.append(Cell(_percent(here.conflicts(*inspection.compared))))
        return tuple(cells)

    return Table(
        "Depth: |change| / |base| in %",
        tuple(columns),
        tuple(row(first, last) for first, last in rows),
    )


def _distance_table(inspection: Inspection) -> Table:
    """How far each model is from every checkpoint that could be its base."""
    names = [_label(inspection, i) for i in range(len(inspection.used))]

    def cell(m: int, c: int) -> Cell:
        if m == c:
            return Cell(DASH)
        nearest = min(
            (x for x in range(len(names)) if x != m), key=lambda x: _far(inspection, m, x)
        )
        return Cell(
            ("nearest " if c == nearest else "") + _percent(inspection.matrices.relative(m, c))
        )

    return Table(
        "Which base? |model - base| / |base| in %, attention and MLP matrices",
        (Column("as base", numeric=False), *(Column(names[m]) for m in inspection.compared)),
        tuple(
            (Cell(name), *(cell(m, c) for m in inspection.compared)) for c, name in enumerate(names)
        ),
    )


def _label(inspection: Inspection, i: int) -> str:
    """The short name of a checkpoint by its place in `Inspection.used`."""
    return labels(inspection.names)[inspection.used[i]]


def _far(inspection: Inspection, m: int, c: int) -> float:
    return inspection.matrices.distance(m, c)


def _difference_table(inspection: Inspection) -> Table:
    """The differences of config, generation config, tokenizer, chat template and head."""
    return Table(
        "Differences in settings and tokenizer",
        (
            Column("where", numeric=False),
            Column("what", numeric=False),
            *(Column(name, numeric=False) for name in labels(inspection.names)),
        ),
        tuple(
            (Cell(d.where), Cell(d.key), *(Cell(value) for value in d.values))
            for d in inspection.differences
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
