"""A checkpoint's tokenizer, loaded so that it encodes as its tokenizer.json says.

transformers 5 chooses a tokenizer class by the model's type and may build the tokenizer anew by
that class's rules (its own pre-tokenizer, normaliser, decoder), whatever the file declares: every
folder of model_type qwen2 becomes a Qwen2Tokenizer, and releases from 5.0 to at least 5.15 rebuilt
byte-level files that name LlamaTokenizerFast, as R1-Distill's do (transformers #45488, #45920,
#48206). A model that is given other tokens than it was trained on answers badly, and nothing says
why. So what was loaded is compared with the file, at every load.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.chat_template import explained, render_turn
from laconic.errors import BackendError, CheckpointError
from laconic.files.json import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokenizers import Tokenizer

    from laconic.checkpoints.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
#: Texts on which the rules of tokenizers differ: digits, spaces, newlines, code, scripts, marks.
PROBES: Final = (
    "1234567 + 89 = 1234656; 12,345.678; 3.14159e-10; 100%",
    " leading,  two   three    and trailing spaces  ",
    "one\ntwo\n\nthree\r\n\tfour\n \n",
    "def f(x, n=10):\n    return {'a': x**2, \"b\": [i for i in range(n)]}  # done",
    r"\boxed{\frac{1}{2}}, $x^{2} \le \sqrt{y_{1}}$ and \(a \ne b\)",
    "I'm sure they'LL say it's DON'T; camelCase snake_case HTTPServer",
    "\u00e9 e\u0301 \ufb01 \uff21 \u7b54\u684842\u3002 \u043e\u0442\u0432\u0435\u0442 \u00d7",
    "<think>\nWait, let me check.\n</think>\n\nThe answer is 42.",
)
#: How an added token is found in a text.
FLAGS: Final = ("single_word", "lstrip", "rstrip", "normalized", "special")
#: Added tokens that are written into one probe.
GROUP: Final = 64


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The transformers tokenizer of a checkpoint; no code of the checkpoint is run.

    Where the checkpoint has a tokenizer.json, what AutoTokenizer made is compared with it (see
    `find_difference`); if it differs, the file is loaded as it stands, and a warning says so.

    Raises:
        BackendError: Where there is none, it cannot be loaded, or no way of loading it with
            transformers encodes as its tokenizer.json does.
    """
    from transformers import AutoTokenizer

    folder = checkpoint.folder
    if not any((folder / name).exists() for name in TOKENIZERS):
        raise BackendError(  # transformers would make one without a vocabulary
            f"{checkpoint.name} has no tokenizer: {folder} holds none of "
            f"{', '.join(TOKENIZERS)}. Copy the files of the model it was made from."
        )

    def load(loader: Any) -> Any:
        with explained(checkpoint, "tokenizer"):
            return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    if not (folder / "tokenizer.json").exists():
        return load(AutoTokenizer)
    reference = _read_reference(checkpoint)
    try:
        automatic = load(AutoTokenizer)
    except BackendError as error:
        difference, kind = str(error), ""
    else:
        kind = type(automatic).__name__
        probe = find_difference(automatic, reference)
        if probe is None:
            return automatic
        difference = f"the text {_shorten(probe)} gets other tokens"
    return _load_as_file(checkpoint, load, reference, kind, difference)


def find_difference(tokenizer: Any, reference: Tokenizer) -> str | None:
    """The first probe text that a loaded tokenizer encodes or decodes otherwise than its file.

    The probes are `PROBES`, every added token of the file between letters and spaces, and a
    problem as the chat template renders it. Special tokens that a tokenizer would put around a text
    are not compared: tokenizer_config.json may rightly ask for others than tokenizer.json.

    Args:
        tokenizer: As transformers loaded it.
        reference: The file itself.
    """
    for probe in _probes(tokenizer, reference):
        try:
            ids = reference.encode(probe, add_special_tokens=False).ids
        except Exception:  # noqa: BLE001  # the library's own, for letters without a token
            continue
        if tokenizer.encode(probe, add_special_tokens=False) != ids:
            return probe
        text = reference.decode(ids, skip_special_tokens=False)
        plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        if tokenizer.decode(ids, **plain) != text:
            return probe
    return None


def _load_as_file(
    checkpoint: Checkpoint,
    load: Callable[[Any], Any],
    reference: Tokenizer,
    kind: str,
    difference: str,
) -> Any:
    """The tokenizer by the generic class, which takes tokenizer.json as it stands."""
    from transformers import PreTrainedTokenizerFast, __version__

    loaded = load(PreTrainedTokenizerFast)
    probe = find_difference(loaded, reference)
    if probe is not None:
        raise BackendError(
            f"{checkpoint.name}: transformers {__version__} cannot load its tokenizer as "
            f"tokenizer.json says: {_shorten(probe)} gets other tokens by every class. Compare "
            "tokenizer_config.json with the original model's, or install another version of "
            "transformers."
        )
    _warn(checkpoint.name, kind, difference, __version__)
    return loaded


@cache
def _warn(name: str, kind: str, difference: str, version: str) -> None:
    made = f"makes it a {kind}, which differs from the file" if kind else "fails"
    logger.warning(
        "%s: its tokenizer is taken from tokenizer.json as it stands, for AutoTokenizer of "
        "transformers %s %s (%s). Other programs that load this folder with transformers, vLLM "
        "among them, may give the model wrong tokens.",
        name,
        version,
        made,
        difference,
    )


def _read_reference(checkpoint: Checkpoint) -> Tokenizer:
    """tokenizer.json by the tokenizers library, with the added tokens of tokenizer_config.json.

    Raises:
        BackendError: For a damaged file.
    """
    from tokenizers import AddedToken, Tokenizer

    path = checkpoint.folder / "tokenizer.json"
    try:
        reference = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise BackendError(
            f"{checkpoint.name}: its tokenizer.json is damaged ({error}). Copy the file of the "
            "model it was made from."
        ) from error
    reference.no_truncation()
    reference.no_padding()
    declared = _declared(checkpoint.folder / "tokenizer_config.json")
    for index, entry in sorted(declared, key=itemgetter(0)):
        held = reference.id_to_token(index)
        if held in (None, entry["content"]):
            reference.add_tokens([AddedToken(**entry)])
    return reference


def _declared(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Added tokens that tokenizer_config.json declares, by id; their flags overrule the file's."""
    try:
        settings = read_json(path, CheckpointError) if path.exists() else {}
    except CheckpointError:
        return  # transformers says what is wrong with it
    entries = settings.get("added_tokens_decoder")
    for index, entry in entries.items() if isinstance(entries, dict) else ():
        content = entry.get("content") if isinstance(entry, dict) else None
        if index.isdecimal() and isinstance(content, str):
            flags = {name: entry[name] for name in FLAGS if isinstance(entry.get(name), bool)}
            yield int(index), {"content": content, **flags}


def _probes(tokenizer: Any, reference: Tokenizer) -> Iterator[str]:
    yield from PROBES
    added = [token.content for token in reference.get_added_tokens_decoder().values()]
    for start in range(0, len(added), GROUP):
        yield "".join(f"a {token} b{token}c\n" for token in added[start : start + GROUP])
    if tokenizer.chat_template:
        with suppress(BackendError):  # said when a problem is rendered
            yield render_turn(tokenizer, PROBES[0], "")


def _shorten(text: str) -> str:
    return json.dumps(text if len(text) <= 40 else f"{text[:40]}...", ensure_ascii=False)
