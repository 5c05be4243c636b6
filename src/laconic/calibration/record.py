"""Calibrations: the statistics of a model over some data, as a value and as one file."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from laconic.checkpoints.header import TensorSpec, encode_header
from laconic.checkpoints.layout import natural
from laconic.errors import CalibrationError
from laconic.files.atomic import make_folder, writing
from laconic.files.json import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

Kind = Literal["activations", "sensitivity", "gram", "fisher", "mutual_information"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
#: Of the file's form. A reader refuses any other.
VERSION: Final = 1
#: The one metadata entry of the file; several would be written in no fixed order.
ENTRY: Final = "laconic_calibration"
#: In the settings: the digest of the merge that the measured model is the result of.
MERGE: Final = "merge"
_TEXTS: Final = ("kind", "model", "model_name", "data", "data_name")
_MAYBE_TEXTS: Final = ("against", "against_name")
_COUNTS: Final = ("samples", "tokens")


@dataclass(frozen=True)
class Calibration:
    """Statistics of a model over some data, tensor by tensor, all in float32.

    What `tensors` holds depends on the kind:

    - ``activations``: by weight name, the mean |input| of each input channel over all tokens,
      ``[in]``; for a norm, of the channels it scales.
    - ``gram``: by name of a linear weight, ``X^T X / tokens`` of its inputs, ``[in, in]``.
    - ``sensitivity``: by name of each parameter of a decoder layer, the sum of
      ``|parameter * gradient|`` over its elements and all samples, ``[]``.
    - ``fisher``: by parameter name, the mean over samples of the squared gradient, of the
      parameter's shape; ``[]`` where the settings' ``reduce`` is ``tensor``: the mean of it.
    - ``mutual_information``: by group (``embed``, ``layer.0`` and so on, ``norm``, ``lm_head``),
      the mutual information of both models' outputs for each sample, in nats, ``[sample]``.

    Attributes:
        kind: Which statistics.
        model: The fingerprint of the checkpoint that was measured.
        model_name: How the user named it.
        data: A digest of the data.
        data_name: How the user named them.
        samples: How many samples were measured.
        tokens: How many tokens they have together.
        tensors: The statistics; those of a file are read when they are asked for.
        against: The fingerprint of the model it was compared with, for ``mutual_information``.
        against_name: How the user named that.
        settings: What else decides the figures: how samples were cut, the type computed in.
    """

    kind: Kind
    model: str
    model_name: str
    data: str
    data_name: str
    samples: int
    tokens: int
    tensors: Mapping[str, Tensor] = field(repr=False)
    against: str | None = None
    against_name: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """All but the tensors, as JSON holds it."""
        named = {key: getattr(self, key) for key in (*_TEXTS, *_MAYBE_TEXTS, *_COUNTS)}
        return {"version": VERSION, **named, "settings": dict(self.settings)}

    def write(self, path: Path) -> None:
        """Write the file beside its place, one tensor at a time, then move it there.

        Raises:
            CalibrationError: Where it cannot be written.
        """
        try:
            make_folder(path.parent)
            with writing(path) as beside, beside.open("wb") as stream:
                stream.write(_header(self))
                for tensor in self.tensors.values():
                    stream.write(tensor.detach().float().cpu().contiguous().numpy().data)
        except OSError as error:
            raise CalibrationError(f"{path} cannot be written: {error.strerror}.") from error


class _Stored(Mapping[str, "Tensor"]):
    """The tensors of a file, read when asked for; owns the open file."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._names = tuple(sorted(handle.keys(), key=natural))

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        tensor: Tensor = self._handle.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file; its tensors stay on the disk until they are asked for.

    Raises:
        CalibrationError: For a file that is missing, damaged, no calibration, or of a version
            that this one cannot read.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is missing"
        raise CalibrationError(
            f"The calibration {path} {what}. Give a file that 'laconic calibrate' wrote."
        )
    try:
        handle: Any = safe_open(path, framework="pt")
        entries = handle.metadata() or {}
        wide = [n for n in handle.keys() if handle.get_slice(n).get_dtype() != "F32"]  # noqa: SIM118
    except SafetensorError as error:
        raise CalibrationError(
            f"{path} is damaged, or no calibration: it cannot be read as safetensors ({error})."
        ) from error
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror}.") from error
    if ENTRY not in entries:
        raise CalibrationError(
            f"{path} is no calibration: it is a safetensors file without the entry '{ENTRY}'. "
            "Give a file that 'laconic calibrate' wrote."
        )
    facts = _checked(entries[ENTRY], path)
    if wide:
        raise CalibrationError(f"{path} is damaged: '{wide[0]}' is not float32.")
    return Calibration(**facts, tensors=_Stored(handle))


def merge_of(folder: Path) -> dict[str, str]:
    """Of a model that laconic merged, the setting that tells which merge; of others none."""
    try:
        record = read_json(folder / "run.json", CalibrationError)
    except CalibrationError:
        return {}
    if record.get("kind") == "merge":
        return {MERGE: str(record.get("digest"))}
    return {}


def calibrate_command(model_name: str, kind: Kind, against: str | None = None) -> str:
    """The command that makes a calibration, ready for a shell but for the data's place.

    Args:
        model_name: The model to be measured, as the user names it.
        kind: Which statistics.
        against: The model to compare it with, for ``mutual_information``.
    """
    stem = re.sub(r"[^\w.-]+", "-", model_name.rstrip("/").split("/")[-1]).strip("-") or "model"
    words = ["laconic", "calibrate", shlex.quote(model_name), "--data", "FILE", "--stats", kind]
    if against is not None:
        words += ["--against", shlex.quote(against)]
    return " ".join([*words, "-o", f"stats/{stem}-{kind}.safetensors"])


def _header(calibration: Calibration) -> bytes:
    """The header of the safetensors file."""
    specs = (TensorSpec(n, "F32", tuple(t.shape)) for n, t in calibration.tensors.items())
    return encode_header(specs, {ENTRY: json.dumps(calibration.facts())})


def _checked(text: str, path: Path) -> dict[str, Any]:
    """A file's facts, each of its type; the version is left out."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise CalibrationError(f"{path} is damaged: its entry '{ENTRY}' is not a JSON object.")
    version = facts.pop("version", None)
    if version != VERSION:
        raise CalibrationError(
            f"{path} is a calibration of version {version!r}, and this laconic reads version "
            f"{VERSION}. Make it again with 'laconic calibrate'."
        )
    fits = {
        **{key: isinstance(facts.get(key), str) for key in _TEXTS},
        **{key: isinstance(facts.get(key), str | None) for key in _MAYBE_TEXTS},
        **{key: type(facts.get(key)) is int and facts[key] > 0 for key in _COUNTS},
        "settings": isinstance(facts.get("settings"), dict),
    }
    wrong = next((key for key, fitting in fits.items() if not fitting), None)
    if wrong is None and facts["kind"] not in KINDS:
        wrong = "kind"
    if wrong is not None:
        raise CalibrationError(f"{path} is damaged: its '{wrong}' is {facts.get(wrong)!r}.")
    return {key: facts.get(key) for key in fits}
