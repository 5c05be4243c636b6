"""Quantised checkpoints: whether weights are packed, in which format, and the way to bfloat16."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from laconic.checkpoints.configs import TEXT, text_config

if TYPE_CHECKING:
    from laconic.checkpoints.header import TensorSpec

#: How a config says that it is quantised; a vision-language model may say it for its text model.
KEYS: Final = ("quantization_config", "compression_config")
#: Names that only packed weights have, each with its format. Where several fit a checkpoint, the
#: first one counts.
NAMES: Final = (
    (r".*_blocks", "MXFP4"),
    (r".*\.weight\.absmax|.*\.quant_state\.bitsandbytes__\w+", "bitsandbytes 4-bit"),
    (r".*\.SCB", "bitsandbytes 8-bit"),
    (r".*\.weight_scale_2", "NVFP4"),
    (r".*\.weight_packed", "compressed-tensors"),
    (r".*\.qweight", "GPTQ"),
)
#: What a config calls these formats where the names of the tensors do not tell them apart.
METHODS: Final = {
    "awq": "AWQ", "gptq": "GPTQ", "fp8": "FP8", "mxfp8": "MXFP8", "mxfp4": "MXFP4",
    "fbgemm_fp8": "FBGEMM FP8", "compressed-tensors": "compressed-tensors",
}  # fmt: skip
#: The config classes of transformers that can undo a format while a model is loaded.
UNDOING: Final = {
    "MXFP4": "Mxfp4Config", "FP8": "FineGrainedFP8Config", "MXFP8": "FineGrainedFP8Config",
    "compressed-tensors": "CompressedTensorsConfig",
}  # fmt: skip
#: What weights are called that the config says nothing of; 8-bit floats without scales are only
#: rounded, and every reader of them gives their values.
UNSAID: Final = "a format that the config does not name"
UNSCALED: Final = "FP8 without scales"
#: Types that may hold masks, positions and counts as well as packed weights.
PACKING: Final = ("U8", "I8", "U16", "I16", "U32", "I32")
INTEGERS: Final = ("BOOL", *PACKING, "U64", "I64")


@dataclass(frozen=True)
class PackedWeights:
    """The packed weights of a checkpoint.

    Attributes:
        format: What the field calls them, such as ``MXFP4``.
        spec: One of the packed tensors.
    """

    format: str
    spec: TensorSpec

    def refusal(self, name: str, config: Mapping[str, Any]) -> str:
        """Why a checkpoint cannot be read as numbers, and what to do, in a sentence."""
        return (
            f"{name} is quantised: '{self.spec.name}' ({self.spec.dtype}) and others are packed "
            f"weights ({self.format}), which can be neither merged nor measured as they are; "
            f"{self._remedy(name, config)}."
        )

    def _remedy(self, name: str, config: Mapping[str, Any]) -> str:
        """How to get the same model in bfloat16."""
        made = str(config.get("architectures") or "")
        auto = "ImageTextToText" if "ForConditionalGeneration" in made else "CausalLM"
        undo, chosen, after = UNDOING.get(self.format.partition(" (")[0]), "", ""
        if self.format.startswith("bitsandbytes"):
            after = ".dequantize()"
        elif undo is None and self.format != UNSCALED:
            return (
                "transformers cannot unpack this format, so name the bfloat16 checkpoint that it "
                "was made from (base_model on its model card)"
            )
        elif undo is not None:
            chosen = ", quantization_config=Q(dequantize=True)"
        classes = f"AutoModelFor{auto} as M" + (f", {undo} as Q" if undo else "")
        return (
            f'write it once in bfloat16 and name that folder: python -c "from transformers import '
            f"{classes}; M.from_pretrained('{name}', dtype='bfloat16'{chosen}){after}"
            ".save_pretrained('unpacked')\""
        )


def find_packed(specs: Mapping[str, TensorSpec], config: Mapping[str, Any]) -> PackedWeights | None:
    """The packed weights among tensors; None where all weights are plain numbers.

    The tensors decide, not the config: one that says ``quantization_config`` over plain weights is
    no quantised checkpoint. Integers beside the weights, such as positions and masks, are none.
    """
    said = _said(config)
    method = str(said.get("quant_method") or "")
    known = METHODS.get(method, method)
    if method == "compressed-tensors" and said.get("format"):
        known = f"{known} ({said['format']})"
    for pattern, scheme in NAMES:
        for name, spec in specs.items():
            if re.fullmatch(pattern, name) and (scheme != "MXFP4" or _is_blocks(specs, spec)):
                own = known if known.startswith((scheme, "compressed", "AWQ")) else scheme
                return PackedWeights(own, spec)
    for spec in sorted(specs.values(), key=lambda spec: "scale" in spec.name):
        if spec.dtype.startswith("F8"):
            scaled = any("scale" in name for name in specs)
            return PackedWeights(known or (UNSAID if scaled else UNSCALED), spec)
        if spec.dtype in INTEGERS and spec.name.endswith(".weight"):
            return PackedWeights(known or UNSAID, spec)
        if known and spec.dtype in PACKING and not spec.name.endswith((".bias", "mask")):
            return PackedWeights(known, spec)
    return None


def without_quantisation(config: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A config for plain weights, and which quantisation it spoke of; empty where of none."""
    plain = {key: value for key, value in config.items() if key not in KEYS}
    for part in TEXT:
        if isinstance(inner := plain.get(part), dict):
            plain[part] = {key: value for key, value in inner.items() if key not in KEYS}
    if plain == config:
        return plain, ""
    return plain, str(_said(config).get("quant_method") or "some quantisation")


def _said(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config says of its quantisation; empty where nothing."""
    for part in (config, text_config(config)):
        for key in KEYS:
            if isinstance(part.get(key), dict):
                said: Mapping[str, Any] = part[key]
                return said
    return {}


def _is_blocks(specs: Mapping[str, TensorSpec], spec: TensorSpec) -> bool:
    """Whether a tensor holds MXFP4's blocks: bytes, with their scales beside it."""
    return spec.dtype == "U8" and f"{spec.name.removesuffix('_blocks')}_scales" in specs
