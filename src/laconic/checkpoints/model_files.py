"""The output's files except its weights: config, generation config, tokenizer, chat template.

They come from the System-2 model unless the recipe names other donors. If a donor's token ids
differ from those of the output's tokenizer, they are translated by token string, because a model
whose stop token has a wrong id never stops.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.carried_files import CarriedFile, choose_files, drop_code, without_code
from laconic.checkpoints.checkpoint import Checkpoint, copy_files
from laconic.checkpoints.layout import tie_flags, with_rows, with_tie
from laconic.checkpoints.packed_formats import without_quantisation
from laconic.errors import CheckpointError
from laconic.files.json import read_json, write_json
from laconic.files.text import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from laconic.checkpoints.vocabulary import Vocabulary

GENERATION: Final = "generation_config.json"
TEMPLATE: Final = "chat_template.jinja"
#: Keys whose values are token ids though their names do not end as those of single ids do.
ID_KEYS: Final = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "force_words_ids")


@dataclass(frozen=True)
class ModelFiles:
    """The files that a checkpoint needs besides its weights, decided before any is written.

    Attributes:
        config: The content of config.json, except for values that depend on the weights.
        generation: The content of generation_config.json, or the file to copy unchanged.
        files: The files to copy: the tokenizer's, the processors', further chat templates, code.
        tied: Whether the head of the config's donor is its embedding.
        added: Entries to append to the added tokens of its tokenizer.
        template: The chat template; None if the tokenizer's files contain it already.
        code: Whether the Python files that the config names are copied, too.
        notes: What the user should know.
    """

    config: Mapping[str, Any]
    generation: Mapping[str, Any] | Path | None
    files: tuple[CarriedFile, ...]
    tied: bool
    added: tuple[Mapping[str, Any], ...] = ()
    template: str | None = None
    code: bool = False
    notes: tuple[str, ...] = ()

    def with_config(self, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> ModelFiles:
        """The same files with another config."""
        return replace(self, config=change(self.config))

    def write(
        self, folder: Path, *, rows: int | None, tied: bool | None, dtype: str | None
    ) -> None:
        """Write the files.

        Args:
            folder: The folder to write to.
            rows: The number of rows of the embedding; None keeps the config's vocabulary size.
            tied: Whether the output head is the embedding matrix; None keeps the config's value.
            dtype: The type of the stored weights; None keeps the config's value.
        """
        config = {k: v for k, v in self.config.items() if k != "_name_or_path"}
        said = tie_flags(config)
        if tied is not None and (tied != self.tied or (said and tied not in said)):
            config = with_tie(config, tied=tied)
        if dtype is not None:
            config["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
        if rows is not None:
            config = with_rows(config, rows)
        write_json(folder / "config.json", config)
        if isinstance(self.generation, Path):
            copy_files(self.generation.parent, folder, (GENERATION,))
        elif self.generation is not None:
            write_json(folder / GENERATION, self.generation)
        for file in self.files:
            file.copy(folder)
        if not self.code:
            drop_code(folder, (file.name for file in self.files))
        if self.added:
            _append(folder, self.added)
        if self.template is not None:
            _set_template(folder, self.template)


def choose_model_files(
    vocabulary: Vocabulary | None,
    *,
    tokenizer: Checkpoint,
    config: Checkpoint,
    generation: Checkpoint,
    template: Checkpoint | Path,
    code: bool = False,
    changed: bool = False,
) -> ModelFiles:
    """Decide which files the output gets besides its weights.

    Args:
        vocabulary: The tokens of the output's rows; None if rows keep their ids.
        tokenizer: The donor of the tokenizer.
        config: The donor of config.json.
        generation: The donor of generation_config.json.
        template: The donor of the chat template, or a Jinja file.
        code: Whether Python files of the donors are copied, too.
        changed: Whether the output's config differs from the donor's.

    Raises:
        CheckpointError: If a named file cannot be read.
    """
    strings = vocabulary.strings if vocabulary else tokenizer.vocabulary()
    notes: list[str] = []
    file = generation.folder / GENERATION
    generated: Mapping[str, Any] | Path | None = file if file.exists() else None
    stops, plain = _read(tokenizer.folder / GENERATION), tokenizer.config
    if isinstance(generated, Path):
        held = read_json(generated, CheckpointError)
        said = f"{GENERATION} of {generation.name}"
        moved = _translated(held, generation.vocabulary(), strings, {**plain, **stops}, said, notes)
        generated = generated if moved == held else moved
    said = f"config.json of {config.name}"
    own = _translated(config.config, config.vocabulary(), strings, {**stops, **plain}, said, notes)
    own, dropped = without_quantisation(own)
    if dropped:
        notes.append(
            f"The quantization_config of {config.name} ({dropped}) is left out of the result: its "
            "weights are not packed."
        )
    text = _template(template, tokenizer)
    files, left = choose_files(
        tokenizer=tokenizer,
        config=config,
        template=None if isinstance(template, Path) else template,
        code=code,
        appended=bool(vocabulary and vocabulary.added),
        changed=changed or vocabulary is not None,
    )
    known = {token["content"] for token in vocabulary.added} if vocabulary else set()
    notes += _foreign(text, template, known | set(strings.values()))
    return ModelFiles(
        config=own if code else without_code(own),
        generation=generated,
        files=files,
        tied=config.tied,
        added=vocabulary.added if vocabulary else (),
        template=text,
        code=code,
        notes=(*notes, *left),
    )


def _translated(
    values: Mapping[str, Any],
    source: Mapping[int, str],
    target: Mapping[int, str],
    fallback: Mapping[str, Any],
    said: str,
    notes: list[str],
) -> dict[str, Any]:
    """A config with its token ids translated from one vocabulary to another.

    Args:
        values: The config.
        source: The token string of each of its ids.
        target: The token string of each id wanted.
        fallback: Fallback token ids, used when the target vocabulary lacks the config's token.
        said: The name of the config in notes.
        notes: The list to which notes are appended.
    """
    if not source or not target or source == target:
        return dict(values)
    place: dict[str, int] = {}
    for i in sorted(target):
        place.setdefault(target[i], i)

    def moved(value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            string = source.get(value)
            if target.get(value) == string:
                return value
            return place.get(string) if string is not None else None
        if isinstance(value, list):
            kept = [v for v in map(moved, value) if v is not None]
            return kept or None
        return value

    result = dict(values)
    for key, value in values.items():
        if isinstance(value, dict):
            result[key] = _translated(value, source, target, fallback, said, notes)
        elif key.endswith(("_token_id", "_token_ids", "_token_index")) or key in ID_KEYS:
            result[key] = moved(value)
            if result[key] is None and value is not None:
                result[key] = fallback.get(key)
                notes.append(
                    f"{key} of {said} is {value!r} ({_strings(value, source)}), which the chosen "
                    f"tokenizer does not have. The result takes {fallback.get(key)!r} from the "
                    "tokenizer's own model."
                )
            elif result[key] != value:
                notes.append(
                    f"{key} of {said} becomes {result[key]!r} instead of {value!r}: it is the same "
                    "token in the chosen tokenizer."
                )
    return result


def _strings(value: Any, source: Mapping[int, str]) -> str:
    ids = value if isinstance(value, list) else [value]
    return ", ".join(repr(source.get(i)) if isinstance(i, int) else repr(i) for i in ids)


def _template(donor: Checkpoint | Path, tokenizer: Checkpoint) -> str | None:
    """The chat template to write; None if the copied tokenizer files contain it."""
    if isinstance(donor, Path):
        return read_text(donor, CheckpointError)
    folders = dict.fromkeys((donor.tokenizer_folder, donor.folder))
    for folder in folders:
        text = template_of(folder)
        if text is not None:
            return None if folder == tokenizer.tokenizer_folder else text
    if donor is not tokenizer:
        raise CheckpointError(
            f"{donor.name} has no chat template to give: neither {TEMPLATE} nor one in "
            "tokenizer_config.json. Name another model, or a .jinja file."
        )
    return None


def template_of(folder: Path) -> str | None:
    """The chat template that a folder's tokenizer uses; None if it has none.

    Raises:
        CheckpointError: If a file is damaged.
    """
    if (folder / TEMPLATE).is_file():
        return read_text(folder / TEMPLATE, CheckpointError)
    for file in ("chat_template.json", "tokenizer_config.json"):
        held = _read(folder / file).get("chat_template")
        if isinstance(held, list):
            named = {t.get("name"): t.get("template") for t in held if isinstance(t, dict)}
            held = named.get("default")
        if isinstance(held, str):
            return held
    return None


def _foreign(text: str | None, donor: Checkpoint | Path, known: set[str]) -> list[str]:
    """A note if a template writes control tokens that the tokenizer splits into several."""
    if text is None or isinstance(donor, Path):
        return []
    path = donor.tokenizer_folder / "tokenizer.json"
    added = [t.get("content", "") for t in _read(path).get("added_tokens") or ()]
    lost = [token for token in added if token and token in text and token not in known]
    if not lost:
        return []
    return [
        f"The chat template of {donor.name} writes {', '.join(map(repr, lost[:3]))}, which the "
        "chosen tokenizer does not have as one token: the model will not recognise its turns."
    ]


def _set_template(folder: Path, text: str) -> None:
    """Write the chat template of a folder and remove any other."""
    (folder / TEMPLATE).write_text(text, encoding="utf-8")
    (folder / "chat_template.json").unlink(missing_ok=True)
    settings = _read(folder / "tokenizer_config.json")
    if settings.pop("chat_template", None) is not None:
        write_json(folder / "tokenizer_config.json", settings)


def _append(folder: Path, added: Sequence[Mapping[str, Any]]) -> None:
    """Append added tokens to the tokenizer's files, in the form that each of them has."""
    path = folder / "tokenizer.json"
    tokenizer = read_json(path, CheckpointError)
    tokenizer["added_tokens"] = [*(tokenizer.get("added_tokens") or ()), *added]
    write_json(path, tokenizer)
    settings = _read(folder / "tokenizer_config.json")
    if isinstance(settings.get("added_tokens_decoder"), dict):
        for token in added:
            entry = {k: v for k, v in token.items() if k != "id"}
            settings["added_tokens_decoder"][str(token["id"])] = entry
        write_json(folder / "tokenizer_config.json", settings)
    if (folder / "added_tokens.json").exists():
        names = {token["content"]: token["id"] for token in added}
        write_json(folder / "added_tokens.json", {**_read(folder / "added_tokens.json"), **names})


def _read(path: Path) -> dict[str, Any]:
    """A JSON file's content; empty where there is none."""
    return read_json(path, CheckpointError) if path.exists() else {}
