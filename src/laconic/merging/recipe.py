"""Recipes: what to merge and how, as a value that is read from and written to strict YAML."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from laconic.errors import RecipeError, did_you_mean
from laconic.files.yaml import read_yaml_documents
from laconic.merging.mergekit.translate import DTYPES, is_mergekit, translate
from laconic.merging.varying import Varying, is_number, plain_value, value_at, varying

if TYPE_CHECKING:
    from laconic.checkpoints.layout import Depth

#: What becomes of parts that some checkpoints lack.
PARTS = ("merge", "system2", "base", "drop")
#: What may have a donor of its own.
DONORS = ("tokenizer", "config", "generation_config", "chat_template")


@dataclass(frozen=True)
class Model:
    """A checkpoint to merge and its weight.

    Attributes:
        model: A folder, a Hub id or a ``lab:`` name.
        weight: Its merge coefficient; task methods sum weighted vectors, linear ones normalise. It
            may vary by tensor: a list of numbers along the layers, or of ``{match, value}``.
    """

    model: str
    weight: float | Varying = 1.0


@dataclass(frozen=True)
class StepSpec:
    """A transform before the method, or an adjustment after it, as the recipe writes it."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Override:
    """Other method parameters for some tensors; the first override that matches wins.

    Attributes:
        params: The method's parameters that differ there.
        match: A glob over tensor names, such as ``*.mlp.*``, or a part: attention, ffn,
            norm, embedding, head or bias.
        layers: The first and the last layer meant, both included; None for all.
    """

    params: Mapping[str, Any]
    match: str = "*"
    layers: tuple[int, int] | None = None


@dataclass(frozen=True)
class Recipe:
    """A merge in full: equal recipes over equal checkpoints give equal bytes.

    Attributes:
        models: The checkpoints to merge: names, or mappings with ``model`` and ``weight``.
        method: The method's name.
        base: The checkpoint that task vectors start from; None for methods without one.
        system2: The donor of config, generation config, tokenizer and chat template; None takes
            the only model, else the one with the largest window; ``widest`` is the first of those
            with the largest window, the base included. Each of the four may have another donor: a
            checkpoint's name, ``base`` or ``system2``.
        params: The method's parameters.
        before: Transforms of the task vectors, in order: names, or ``{name: {parameter: value}}``.
        after: Adjustments of the merged tensor, in order, written like `before`.
        overrides: Other parameters for some tensors.
        head: The output head's tensor, where neither the usual names nor transformers tell.
        layers: How many layers the checkpoints must have; None for any number.
        tokenizer: The donor of the tokenizer, or ``union``; rows of embedding and head are then
            matched by token string. None takes `system2` and leaves every row at its id.
        config: The donor of config.json; None takes `system2`. Or a mapping of ``from``, the same,
            and ``rope``, the donor of rotary settings and context window where they differ.
        generation_config: The donor of generation_config.json; None takes `system2`.
        chat_template: The donor of the chat template, or a ``.jinja`` file; None takes that of the
            tokenizer's donor.
        towers: What becomes of towers for images and sound: ``merge``, ``drop``, or a copy of those
            of ``system2`` or ``base``; None merges what all have, else copies what System 2 has.
        mtp: The same of multi-token prediction layers.
        carry_code: Whether Python files beside the weights are carried along, for models that run
            with ``trust_remote_code``.
        dtype: The type stored; None keeps that of each tensor of the System-2 model.
        seed: The only source of randomness.
        notes: Remarks that go into the plan, the card and run.json; they change no value.

    Raises:
        RecipeError: For a key, type or value that cannot be meant.
    """

    models: Sequence[Any]
    method: str
    base: str | None = None
    system2: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    before: Sequence[Any] = ()
    after: Sequence[Any] = ()
    overrides: Sequence[Any] = ()
    head: str | None = None
    layers: int | None = None
    tokenizer: str | None = None
    config: str | Mapping[str, str] | None = None
    generation_config: str | None = None
    chat_template: str | None = None
    towers: str | None = None
    mtp: str | None = None
    carry_code: bool = False
    dtype: str | None = None
    seed: int = 0
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        for key in ("method", "base", "system2", "head", *DONORS, "towers", "mtp", "dtype"):
            value = getattr(self, key)
            if key == "config" and isinstance(value, Mapping):
                _check_config_donors(value)
            elif not isinstance(value, str) and (value is not None or key == "method"):
                raise RecipeError(f"{key} must be text, got {value!r}.")
        if self.dtype is not None and self.dtype not in DTYPES:
            raise RecipeError(f"dtype '{self.dtype}': {did_you_mean(self.dtype, DTYPES)}")
        for key in ("towers", "mtp"):
            value = getattr(self, key)
            if value is not None and value not in PARTS:
                raise RecipeError(f"{key}: '{value}'. {did_you_mean(value, PARTS)}")
        if not isinstance(self.carry_code, bool):
            raise RecipeError(f"carry_code must be true or false, got {self.carry_code!r}.")
        for key in ("seed", "layers"):
            value = getattr(self, key)
            if type(value) is not int and (value is not None or key == "seed"):
                raise RecipeError(f"{key} must be a whole number, got {value!r}.")
        set_field = object.__setattr__
        set_field(self, "params", _mapping("params", self.params))
        set_field(self, "models", tuple(map(_model, _items("models", self.models))))
        set_field(
            self, "before", tuple(_step_spec("before", s) for s in _items("before", self.before))
        )
        set_field(self, "after", tuple(_step_spec("after", s) for s in _items("after", self.after)))
        set_field(self, "overrides", tuple(map(_override, _items("overrides", self.overrides))))
        set_field(self, "notes", tuple(str(note) for note in _items("notes", self.notes)))
        if not self.models:
            raise RecipeError("models is empty: name at least one checkpoint to merge.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a recipe from plain values, laconic's own or mergekit's (``merge_method``).

        Raises:
            RecipeError: For an unknown or a missing key, or a value that cannot be meant.
        """
        if is_mergekit(values):
            values = translate(values)
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise RecipeError(f"A recipe has no key '{key}'. {did_you_mean(str(key), known)}")
        for key in ("models", "method"):
            if key not in values:
                raise RecipeError(f"The recipe has no '{key}'.")
        return cls(**values)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a recipe file.

        Raises:
            RecipeError: For a file that is missing, is no YAML, or says what cannot be meant.
        """
        return cls.from_dict(read_recipe(path))

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values that `from_dict` reads, without keys left at their default."""
        values: dict[str, Any] = {"base": self.base}
        values["models"] = [
            m.model if m.weight == 1.0 else {"model": m.model, "weight": plain_value(m.weight)}
            for m in self.models
        ]
        values |= {"system2": self.system2, "method": self.method, "params": dict(self.params)}
        for key in ("before", "after"):
            steps = getattr(self, key)
            values[key] = [{s.name: dict(s.params)} if s.params else s.name for s in steps]
        values["overrides"] = [_plain_override(o) for o in self.overrides]
        values |= {"head": self.head, "layers": self.layers}
        values |= {key: getattr(self, key) for key in DONORS}
        if isinstance(self.config, Mapping):
            values["config"] = dict(self.config)
        values |= {"towers": self.towers, "mtp": self.mtp, "carry_code": self.carry_code or None}
        values |= {"dtype": self.dtype, "seed": self.seed, "notes": list(self.notes)}
        return {k: v for k, v in values.items() if v not in (None, [], {})}

    def to_yaml(self) -> str:
        """The recipe as YAML that `from_yaml` reads."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def weights_for(self, name: str, depth: Depth) -> tuple[float, ...]:
        """The models' weights for one tensor of checkpoints of that depth."""
        return tuple(value_at(m.weight, name, depth.of(name), depth.count) for m in self.models)

    @property
    def config_donor(self) -> str | None:
        """The donor of config.json, if the recipe names one."""
        return self.config.get("from") if isinstance(self.config, Mapping) else self.config

    @property
    def rope_donor(self) -> str | None:
        """The donor of rotary settings and context window, if the recipe names one."""
        return self.config.get("rope") if isinstance(self.config, Mapping) else None

    @property
    def digest(self) -> str:
        """A short name for the recipe's content."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The plain values of a recipe file; mergekit's are translated into laconic's.

    Raises:
        RecipeError: As for `read_yaml`, and for a mergekit file that cannot be carried out.
    """
    values = read_yaml(path)
    return translate(values) if is_mergekit(values) else values


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        RecipeError: For a file that is missing, holds something else, or is beyond the limits of
            `laconic.files.yaml`.
    """
    documents = read_yaml_documents(Path(path), f"The recipe {path}", RecipeError)
    if len(documents) > 1:
        raise RecipeError(f"The recipe {path} {_several(documents)}")
    if not documents or not isinstance(documents[0], dict):
        raise RecipeError(f"The recipe {path} holds no keys; it needs at least models and method.")
    return documents[0]


def _several(documents: Sequence[Any]) -> str:
    """What a file of several YAML documents is, and what to do with it."""
    problem = f"holds {len(documents)} YAML documents, and a recipe is one."
    if not any(isinstance(d, dict) and "merge_method" in d for d in documents):
        return f"{problem} Write each to a file of its own."
    names = [str(d["name"]) for d in documents if isinstance(d, dict) and "name" in d]
    return (
        f"{problem} mergekit-multi runs such a file merge by merge. Here, write each document to a "
        "file of its own and merge them in the order in which they need each other, "
        + (f"{', '.join(names)} " if names else "each ")
        + "with -o NAME, NAME being what the later ones call it."
    )


def set_value(values: dict[str, Any], key: str, value: object) -> None:
    """Set one value of a recipe's plain form in place.

    Args:
        values: What `Recipe.from_dict` reads.
        key: A parameter of the method (``density``), or a path such as ``before.0.density``,
            ``models.1.weight`` or ``dtype``.
        value: The new value.

    Raises:
        RecipeError: For a path that leads nowhere.
    """
    head, *rest = key.split(".")
    top = [f.name for f in fields(Recipe)]
    if not rest and head not in top:
        values.setdefault("params", {})[head] = value
        return
    if head not in top:
        raise RecipeError(f"--set {key}: a recipe has no '{head}'. {did_you_mean(head, top)}")
    if not rest:
        values[head] = value
        return
    if head == "params":
        values.setdefault("params", {})[".".join(rest)] = value
        return
    if head == "config" and len(rest) == 1:
        donors = values.get(head)
        donors = {"from": donors} if isinstance(donors, str) else donors or {}
        values[head] = {**donors, rest[0]: value}
        return
    items = values.get(head)
    if len(rest) != 2 or not isinstance(items, list) or not rest[0].isdigit():
        raise RecipeError(f"--set {key}: write {head}.NUMBER.KEY, counted from 0.")
    position, name = int(rest[0]), rest[1]
    if position >= len(items):
        raise RecipeError(f"--set {key}: the recipe's {head} has only {len(items)} entries.")
    items[position] = _with_value(head, items[position], name, value)


def _with_value(head: str, item: Any, name: str, value: object) -> Any:
    """A model, step or override in its plain form, with one value set."""
    if head == "models":
        return {**({"model": item} if isinstance(item, str) else item), name: value}
    if head == "overrides":
        return {**item, "params": {**item.get("params", {}), name: value}}
    step = _step_spec(head, item)
    return {step.name: {**step.params, name: value}}


def _check_config_donors(value: Mapping[str, object]) -> None:
    known = ("from", "rope")
    for key, donor in value.items():
        if key not in known:
            raise RecipeError(f"config has no '{key}'. {did_you_mean(str(key), known)}")
        if not isinstance(donor, str):
            raise RecipeError(f"config: {key} must be a name, got {donor!r}.")


def _items(key: str, value: object) -> Sequence[Any]:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise RecipeError(f"{key} must be a list, got {value!r}.")
    return value


def _mapping(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise RecipeError(f"{key} must be names with values, got {value!r}.")
    return dict(value)


def _model(value: object) -> Model:
    match value:
        case Model():
            return value
        case str():
            return Model(value)
        case {"model": str(name), **rest} if rest.keys() <= {"weight"}:
            weight = rest.get("weight", 1.0)
            if isinstance(weight, list | tuple):
                weight = varying(weight, f"The weight of {name}")
            if isinstance(weight, Varying) and all(map(is_number, weight.all_values)):
                return Model(name, weight)
            weight = plain_value(weight)
            if (
                isinstance(weight, bool)
                or not isinstance(weight, int | float)
                or not math.isfinite(weight)
            ):
                raise RecipeError(f"The weight of {name} must be a number, got {weight!r}.")
            return Model(name, float(weight))
    raise RecipeError(f"models: write a name or {{model: NAME, weight: NUMBER}}, got {value!r}.")


def _step_spec(key: str, value: object) -> StepSpec:
    match value:
        case StepSpec():
            return value
        case str():
            return StepSpec(value)
        case Mapping() if len(value) == 1:
            ((name, params),) = value.items()
            if isinstance(name, str):
                return StepSpec(
                    name, _mapping(f"{key}: {name}", params if params is not None else {})
                )
    raise RecipeError(f"{key}: write a name or {{name: {{parameter: value}}}}, got {value!r}.")


def _override(value: object) -> Override:
    if isinstance(value, Override):
        return value
    if not isinstance(value, Mapping) or not value.keys() <= {"match", "layers", "params"}:
        raise RecipeError(
            "overrides: write {match: GLOB, layers: [FIRST, LAST], params: {...}}, "
            f"got {value!r}."
        )
    match, layers = value.get("match", "*"), value.get("layers")
    if not isinstance(match, str):
        raise RecipeError(f"overrides: match must be a glob such as '*.mlp.*', got {match!r}.")
    if layers is not None and not (
        isinstance(layers, Sequence) and len(layers) == 2 and all(type(i) is int for i in layers)
    ):
        raise RecipeError(f"overrides: layers must be [FIRST, LAST], got {layers!r}.")
    params = _mapping("overrides: params", value.get("params", {}))
    return Override(params, match, (layers[0], layers[1]) if layers is not None else None)


def _plain_override(override: Override) -> dict[str, Any]:
    plain: dict[str, Any] = {"match": override.match, "params": dict(override.params)}
    if override.layers is not None:
        plain["layers"] = list(override.layers)
    return plain
