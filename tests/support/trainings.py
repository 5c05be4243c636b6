"""Packed pools from the lab's own corpus, and recipes that train on them in a second."""

from __future__ import annotations

import hashlib
import json
import random
from typing import TYPE_CHECKING, Any

from laconic.checkpoints.chat_template import template_digest, tokenizer_digest
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.tokenizer import load_tokenizer
from laconic.lab.corpus import assemble
from laconic.lab.styles import STYLES, Piece, respond
from laconic.lab.tokenizer import END, prompt
from laconic.tasks.contract.arithmetic import chains

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "lab:system2"
#: The mixture before and after.
SHARES = {"short": 0.5, "long": 0.5}, {"short": 0.9, "long": 0.1}
#: Of each pool: the style it is written in, its rows, its role.
POOLS = {"short": ("base", 40, "short"), "long": ("thinking", 30, "long")}


def rows(style: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Rows as ``laconic data pack`` writes them."""
    rng = random.Random(seed)
    found = []
    for chain in chains(count, split="train", rng=rng):
        pieces = respond(chain, STYLES[style], mute=0.0, rng=rng)
        text = assemble([Piece(prompt(chain.question), False), *pieces, Piece(END, True)])
        ids = list(text.ids)
        labels = [i if on else -100 for i, on in zip(ids, text.learned, strict=True)]
        found.append(
            {
                "id": chain.name,
                "question": chain.question,
                "gold": chain.answer,
                "response": "".join(piece.text for piece in pieces),
                "input_ids": ids,
                "labels": labels,
                "length": sum(label >= 0 for label in labels),
            }
        )
    return found


def write_pools(
    folder: Path, pools: dict[str, list[dict[str, Any]]] | None = None, **manifest: Any
) -> Path:
    """Write a packed folder.

    Args:
        folder: The folder to create.
        pools: Rows by name; by default those of `POOLS`.
        manifest: Other entries of the manifest.
    """
    import pyarrow
    from pyarrow import parquet

    folder.mkdir(parents=True)
    if pools is None:
        pools = {
            name: rows(style, n, seed) for seed, (name, (style, n, _)) in enumerate(POOLS.items())
        }
    ints = pyarrow.list_(pyarrow.int32())
    words = [(name, pyarrow.string()) for name in ("id", "question", "gold", "response")]
    schema = pyarrow.schema(
        [*words, ("input_ids", ints), ("labels", ints), ("length", pyarrow.int32())]
    )
    tokenizer = load_tokenizer(open_checkpoint(MODEL))
    held: dict[str, Any] = {
        "version": 1,
        "tokenizer": tokenizer_digest(tokenizer),
        "template": template_digest(tokenizer),
        "model": MODEL,
        "think_policy": "keep",
        "pools": {},
    }
    for name, found in pools.items():
        file = folder / f"{name}.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(found, schema), file)
        held["pools"][name] = {
            "file": file.name,
            "kind": "rows",
            "rows": len(found),
            "tokens": sum(len(row["input_ids"]) for row in found),
            "label_tokens": sum(row["length"] for row in found),
            "digest": hashlib.sha256(file.read_bytes()).hexdigest(),
            "role": POOLS[name][2] if name in POOLS else "other",
        }
    (folder / "manifest.json").write_text(json.dumps({**held, **manifest}))
    return folder


def recipe_values(pools: Path, **changes: Any) -> dict[str, Any]:
    """A recipe that generates next to nothing: answers of 6 tokens, a mixture by the clock."""
    return {
        "model": MODEL,
        "pools": {"folder": str(pools)},
        "dev": {"task": "lab:split=dev", "limit": 8},
        "sampling": {"max_tokens": 6},
        "controller": {"schedule": {"points": [[0, SHARES[0]], [8, SHARES[1]]]}},
        "steps": 8,
        "every": 2,
        "batch": {"per_device": 4},
        "rate": 5e-5,
        "max_length": 1024,
        "select": {"thinking": None},
        **changes,
    }
