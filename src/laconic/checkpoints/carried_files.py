"""Which files of the merged checkpoints are copied to the output, and which are left out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.checkpoint import TOKENIZER_FILES
from laconic.checkpoints.links import check_link
from laconic.errors import CheckpointError
from laconic.files.json import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.checkpoints.hub import Snapshot

#: What belongs to a tokenizer: its files, those of sentencepiece, tiktoken and mistral-common.
TOKENIZER: Final = (
    *TOKENIZER_FILES, "tekken.json", "*.model", "*.model.v[0-9]*", "*.spm", "*.tiktoken",
    "vocab.txt", "vocab.bpe", "encoder.json", "bpe.codes", "normalizer.json",
)  # fmt: skip
TEMPLATES: Final = ("additional_chat_templates/*.jinja",)
#: How pictures, videos and sound are prepared for the towers that the config describes.
PROCESSORS: Final = (
    "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
    "image_preprocessor_config.json", "audio_preprocessor_config.json",
)  # fmt: skip
#: Mistral's own form of config.json.
PARAMS: Final = "params.json"
CODE: Final = ("*.py",)
#: What a merge makes itself, weights in any form, documents, and traces of a training.
OTHERS: Final = (
    "config.json", "generation_config.json", "*.index.json", "*.safetensors", "*.bin", "*.pt",
    "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.ot", "run.json", ".*",
    "README*", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "*.md", "*.pdf", "*.png", "*.jpg",
    "*.jpeg", "*.gif", "*.webp", "*.svg", "trainer_state.json", "*_results.json", "*.log",
    "adapter_config.json",
)  # fmt: skip
AUTO: Final = "auto_map"


@dataclass(frozen=True)
class CarriedFile:
    """A file that is copied to the output.

    Attributes:
        name: Its path in both folders.
        folder: The folder that it is copied from.
        snapshot: The Hub snapshot that it can be fetched from, if it is not in the folder yet.
    """

    name: str
    folder: Path
    snapshot: Snapshot | None = None

    def copy(self, target: Path) -> None:
        """Copy it into a folder.

        Raises:
            CheckpointError: Where it cannot be fetched, or is a link to outside its folder.
        """
        source = self.folder / self.name
        if self.snapshot is not None and not source.exists():
            self.snapshot.fetch([self.name])
        check_link(source, self.folder)
        (target / self.name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target / self.name)


def choose_files(
    *,
    tokenizer: Checkpoint,
    config: Checkpoint,
    template: Checkpoint | None,
    code: bool,
    appended: bool,
    changed: bool,
) -> tuple[tuple[CarriedFile, ...], tuple[str, ...]]:
    """Choose the files that are copied to the output.

    Args:
        tokenizer: The donor of the tokenizer.
        config: The donor of config.json and of the files of the processors.
        template: The donor of the chat template; None if it is a separate file.
        code: Whether Python files are copied.
        appended: Whether tokens are appended to the tokenizer.
        changed: Whether the output's config differs from the donor's.

    Returns:
        The files, and notes on files that are left out.
    """
    chosen: dict[str, CarriedFile] = {}
    config_files = _names(config, config.folder)
    apart = tokenizer is not config or tokenizer.tokenizer_folder != config.folder
    there = _names(tokenizer, tokenizer.tokenizer_folder) if apart else config_files
    left = [PARAMS] if changed and PARAMS in config_files else []
    left += ["tekken.json"] if appended and "tekken.json" in there else []
    wanted = PROCESSORS if left[:1] == [PARAMS] else (*PROCESSORS, PARAMS)
    _take(chosen, config, config.folder, _like(config_files, wanted))
    words = [name for name in _like(there, TOKENIZER) if name not in left]
    _take(chosen, tokenizer, tokenizer.tokenizer_folder, words)
    if template is not None:
        folder = template.tokenizer_folder
        _take(chosen, template, folder, _like(_names(template, folder), TEMPLATES))
    scripts = _like(config_files, CODE)
    if code:
        _take(chosen, config, config.folder, scripts)
        _take(chosen, tokenizer, tokenizer.tokenizer_folder, _like(there, CODE))
    known = (*TOKENIZER, *TEMPLATES, *PROCESSORS, PARAMS, *CODE, *OTHERS)
    left += [name for name in config_files if not _like([name], known)]
    if template is None or template.tokenizer_folder != tokenizer.tokenizer_folder:
        left += [name for name in _like(there, TEMPLATES) if name not in chosen]
    notes = []
    if left:
        notes.append(f"These files of {config.name} are not copied to the result: {_listed(left)}.")
    if scripts and not code:
        notes.append(
            f"The code of {config.name} is left out ({_listed(scripts)}), and so is the '{AUTO}' "
            "that leads to it. If the result needs it: carry_code: true (--carry-code)."
        )
    return tuple(chosen.values()), tuple(notes)


def without_code(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without references to code in its own folder; other repositories stay named."""
    table = config.get(AUTO)
    if not isinstance(table, dict):
        return dict(config)
    kept = {key: value for key, value in table.items() if not _is_local(value)}
    plain = {key: value for key, value in config.items() if key != AUTO}
    return {**plain, AUTO: kept} if kept else plain


def drop_code(folder: Path, names: Iterable[str]) -> None:
    """Remove from the settings in a folder the references to code that is not there."""
    for name in names:
        path = folder / name
        if name.endswith("_config.json") and path.is_file():
            held = read_json(path, CheckpointError)
            if (plain := without_code(held)) != held:
                write_json(path, plain)


def _is_local(value: object) -> bool:
    names = value if isinstance(value, list) else [value]
    return any(isinstance(name, str) and "--" not in name for name in names)


def _names(checkpoint: Checkpoint, folder: Path) -> list[str]:
    """The files of a folder, those included that can be fetched into it."""
    held = {path.name for path in folder.iterdir() if path.is_file()}
    templates = folder / "additional_chat_templates"
    if templates.is_dir():
        held |= {f"{templates.name}/{path.name}" for path in templates.iterdir()}
    if checkpoint.snapshot is not None and folder == checkpoint.folder:
        held |= set(checkpoint.snapshot.files)
    return sorted(held)


def _like(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    patterns = tuple(patterns)
    return [name for name in names if any(fnmatch(name, pattern) for pattern in patterns)]


def _take(
    chosen: dict[str, CarriedFile], donor: Checkpoint, folder: Path, names: Iterable[str]
) -> None:
    """Choose files of a folder; a name that is chosen already stays as it is."""
    snapshot = donor.snapshot if folder == donor.folder else None
    for name in names:
        chosen.setdefault(name, CarriedFile(name, folder, snapshot))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more
