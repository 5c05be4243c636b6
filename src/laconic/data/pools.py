"""Packed pools: training rows in Parquet with a manifest, verified before they are used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from laconic.errors import DataError, did_you_mean
from laconic.files.json import read_json
from laconic.files.text import regular

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION: Final = 1
MANIFEST: Final = "manifest.json"
#: The label of a token that is not trained on.
MASKED: Final = -100
Kind = Literal["rows", "pairs"]
#: The columns of a pool's file, in order, by the pool's kind.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "rows": ("id", "question", "gold", "response", "input_ids", "labels", "length"),
    "pairs": (
        *("id", "question", "gold", "prompt", "chosen", "rejected"),
        *("prompt_ids", "chosen_ids", "rejected_ids", "chosen_length", "rejected_length"),
    ),
}


def parquet_modules() -> tuple[Any, Any]:
    """The modules ``pyarrow`` and ``pyarrow.parquet``.

    Raises:
        DataError: If they are not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataError(
            "Packed pools are Parquet files and need pyarrow: pip install 'laconic[train]'."
        ) from None
    return pyarrow, parquet


@dataclass(frozen=True)
class Pool:
    """One pool of a packed folder.

    Attributes:
        name: The name by which mixtures refer to it.
        path: Its Parquet file.
        kind: ``rows`` for fine-tuning, ``pairs`` for preference training.
        role: ``short``, ``long`` or a word of the user's.
        rows: The number of rows.
        tokens: The number of tokens: prompts and answers; for pairs, both answers without prompts.
        label_tokens: The number of tokens that are trained on.
        digest: A digest of the file's bytes.
        sources: The runs with the answers, each with its folder and digest.
        dropped: The number of answers that were left out, by reason.
    """

    name: str
    path: Path
    kind: Kind
    role: str
    rows: int
    tokens: int
    label_tokens: int
    digest: str
    sources: tuple[Mapping[str, Any], ...] = ()
    dropped: Mapping[str, int] | None = None

    def table(self) -> Any:
        """Its rows as a pyarrow table with the columns of `COLUMNS`, checked against the manifest.

        Raises:
            DataError: If the file is missing, was changed since it was packed, or has other
                columns.
        """
        pyarrow, parquet = parquet_modules()
        self.verify()
        try:
            table = parquet.read_table(self.path)
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{self.path} cannot be read: {str(error).splitlines()[0]}.") from error
        wanted = list(COLUMNS[self.kind])
        if table.column_names != wanted:
            raise DataError(
                f"{self.path} has the columns {', '.join(table.column_names)}; a pool of "
                f"{self.kind} has {', '.join(wanted)}. Pack it again: laconic data pack."
            )
        if table.num_rows != self.rows:
            raise DataError(
                f"{self.path} has {table.num_rows} rows, but the manifest says {self.rows}. "
                "Pack it again: laconic data pack."
            )
        return table

    def verify(self) -> None:
        """Refuse a file that is not the one that was packed.

        Raises:
            DataError: Where its digest is not the manifest's.
        """
        found = file_digest(self.path)
        if found != self.digest:
            raise DataError(
                f"{self.path} is not the file that was packed: its digest is {found}, the "
                f"manifest says {self.digest}. Pack it again: laconic data pack."
            )


@dataclass(frozen=True)
class Pools:
    """A packed folder: pools for one tokenizer and one chat template.

    Attributes:
        folder: Where it is.
        model: The checkpoint whose tokenizer and template encoded it, as the user named it.
        tokenizer: Digest of which string each token id stands for.
        template: Digest of the chat template and the special tokens.
        think_policy: How answers without a thought were encoded.
        pools: By name, in the order they were packed.
    """

    folder: Path
    model: str
    tokenizer: str
    template: str
    think_policy: str
    pools: Mapping[str, Pool]

    def __getitem__(self, name: str) -> Pool:
        """The pool of a name.

        Raises:
            DataError: For a name that is not there, with the nearest.
        """
        if name not in self.pools:
            raise DataError(f"{self.folder} has no pool '{name}'. {did_you_mean(name, self.pools)}")
        return self.pools[name]

    def of_kind(self, kind: Kind) -> tuple[Pool, ...]:
        """The pools of one kind, in order."""
        return tuple(pool for pool in self.pools.values() if pool.kind == kind)

    def refuse_other(self, *, tokenizer: str, template: str, model: str) -> None:
        """Refuse a model whose token ids or chat template are not those of the rows.

        Args:
            tokenizer: The digest of the model's tokenizer.
            template: The digest of its chat template.
            model: Its name, for the error.

        Raises:
            DataError: Where either differs.
        """
        for what, packed, given in (
            ("tokenizer", self.tokenizer, tokenizer),
            ("chat template", self.template, template),
        ):
            if packed != given:
                raise DataError(
                    f"{self.folder} was packed with the {what} of {self.model}, and {model} has "
                    f"another (digests {packed} and {given}). Pack it again: "
                    f"laconic data pack --model {model}."
                )


def read_pools(folder: str | Path) -> Pools:
    """Read a packed folder's manifest; the files are verified when their tables are read.

    Args:
        folder: What ``laconic data pack`` wrote.

    Raises:
        DataError: Where there is no manifest, or it is damaged, of another version, or names a
            file that is not there.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise DataError(
            f"{folder} has no {MANIFEST}: it is no packed data. Make it: laconic data pack."
        )
    held = read_json(folder / MANIFEST, DataError)
    if held.get("version") != VERSION:
        raise DataError(
            f"{folder / MANIFEST} is of version {held.get('version')!r}; this laconic reads "
            f"version {VERSION}. Pack the data again: laconic data pack."
        )
    try:
        pools = {name: _pool(folder, name, one) for name, one in held["pools"].items()}
        found = Pools(
            folder=folder,
            model=str(held["model"]),
            tokenizer=str(held["tokenizer"]),
            template=str(held["template"]),
            think_policy=str(held["think_policy"]),
            pools=pools,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder / MANIFEST} is damaged ({error!r}). Pack the data again: laconic data pack."
        ) from None
    if not pools:
        raise DataError(f"{folder / MANIFEST} names no pools. Pack some: laconic data pack.")
    for pool in pools.values():
        if not pool.path.is_file():
            raise DataError(f"{pool.path} is missing. Pack the data again: laconic data pack.")
    return found


def _pool(folder: Path, name: str, held: Mapping[str, Any]) -> Pool:
    """A pool as the manifest says it: KeyError, TypeError or ValueError where that is damaged."""
    kind, file = held.get("kind", "rows"), str(held["file"])
    if kind not in COLUMNS:
        raise ValueError(f"the pool '{name}' is of kind {kind!r}")
    if Path(file).name != file:
        raise ValueError(f"the pool '{name}' is in {file!r}, outside the folder")
    sources: Sequence[Mapping[str, Any]] = held.get("sources", ())
    return Pool(
        name=name,
        path=folder / file,
        kind=kind,
        role=str(held["role"]),
        rows=int(held["rows"]),
        tokens=int(held["tokens"]),
        label_tokens=int(held["label_tokens"]),
        digest=str(held["digest"]),
        sources=tuple(dict(source) for source in sources),
        dropped={str(reason): int(n) for reason, n in held.get("dropped", {}).items()},
    )


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        DataError: Where it cannot be read.
    """
    try:
        with regular(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
