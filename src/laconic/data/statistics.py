"""The statistics page of packed pools: tokens, thoughts, levels, and why answers were left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from laconic.data.answers import Row
    from laconic.data.encode import Encoded


def pool_statistics(
    rows: Sequence[tuple[Row, tuple[Encoded, ...]]],
    dropped: Mapping[str, int],
    examples: Mapping[str, str],
    failed: Sequence[str],
) -> dict[str, Any]:
    """What is to be known of a pool.

    Args:
        rows: Its rows with their answers as they were encoded, of pairs the preferred one first.
        dropped: How many answers were left out on the whole way, by reason.
        examples: A row of each reason that packing found.
        failed: The problems that no answer got right.
    """
    levels: dict[str, list[int]] = defaultdict(list)
    for row, pieces in rows:
        levels["none" if row.level is None else str(row.level)].append(pieces[0].length)
    first = [pieces[0] for _, pieces in rows]
    found = {
        "rows": len(rows),
        "problems": len({row.question for row, _ in rows}),
        "label_tokens": _spread(piece.length for piece in first),
        "prompt_tokens": _spread(len(piece.input_ids) - piece.length for piece in first),
        "thought_share": sum("</think>" in piece.response for piece in first) / len(first),
        "by_level": {name: _spread(held) for name, held in sorted(levels.items())},
        "dropped": dict(Counter(dropped).most_common()),
        "examples": dict(examples),
        "failed_problems": len(failed),
    }
    if len(rows[0][1]) > 1:
        found["rejected_tokens"] = _spread(pieces[1].length for _, pieces in rows)
        found["ratio"] = sum(p[1].length for _, p in rows) / sum(p[0].length for _, p in rows)
    return found


def statistics_page(statistics: Mapping[str, Mapping[str, Any]]) -> str:
    """The page as Markdown: a table of pools, one of their levels, and what was left out."""
    lines = ["# Pools", "", "Tokens are those trained on, the one that ends the turn included.", ""]
    lines += _table(
        ("pool", "rows", "problems", "tokens", "mean", "p50", "p90", "p99", "max", "with thought"),
        (
            (name, pool["rows"], pool["problems"], *_cells(tokens), f"{pool['thought_share']:.0%}")
            for name, pool in statistics.items()
            for name, tokens in _answers(name, pool)
        ),
    )
    leveled = {name: pool["by_level"] for name, pool in statistics.items()}
    if any(set(levels) != {"none"} for levels in leveled.values()):
        lines += ["", "## By level", ""]
        lines += _table(
            ("pool", "level", "rows", "tokens", "mean", "p50", "p90", "p99", "max"),
            (
                (name, level, tokens["n"], *_cells(tokens))
                for name, levels in leveled.items()
                for level, tokens in levels.items()
            ),
        )
    lines += ["", "## Left out", ""]
    lines += _table(
        ("pool", "reason", "answers", "such as"),
        (
            (name, reason.replace("_", " "), count, pool["examples"].get(reason, ""))
            for name, pool in statistics.items()
            for reason, count in pool["dropped"].items()
        ),
    )
    for name, pool in statistics.items():
        if pool["failed_problems"]:
            lines += ["", f"{name}: no answer to {pool['failed_problems']:,} problems was right."]
    return "\n".join(lines) + "\n"


def _answers(name: str, pool: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The rows of the first table: one of a pool of answers, two of a pool of pairs."""
    if "rejected_tokens" not in pool:
        return [(name, pool["label_tokens"])]
    return [
        (f"{name}, chosen", pool["label_tokens"]),
        (f"{name}, rejected", pool["rejected_tokens"]),
    ]


def _spread(values: Iterable[int]) -> dict[str, Any]:
    held = np.fromiter(values, np.int64)
    p50, p90, p99 = np.percentile(held, (50, 90, 99), method="inverted_cdf").tolist()
    return {
        "n": len(held),
        "sum": int(held.sum()),
        "mean": round(float(held.mean()), 1),
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "max": int(held.max()),
    }


def _cells(tokens: Mapping[str, Any]) -> tuple[Any, ...]:
    return (tokens["sum"], tokens["mean"], *(tokens[key] for key in ("p50", "p90", "p99", "max")))


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    def line(cells: Sequence[Any]) -> str:
        shown = (f"{cell:,}" if isinstance(cell, int | float) else str(cell) for cell in cells)
        return "| " + " | ".join(shown) + " |"

    return [line(head), line(["---"] * len(head)), *map(line, rows)]
