"""mergekit's configurations, translated into laconic's recipes with the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from laconic.errors import RecipeError, did_you_mean
from laconic.merging.mergekit.language import (
    BY_MERGEKIT,
    MergekitConfig,
    ParameterValue,
    Source,
    all_numbers,
    as_mapping,
    check_keys,
    model_name,
    parse,
)

KEYS: Final = (
    "merge_method", "base_model", "models", "slices", "modules", "parameters", "dtype", "out_dtype",
    "tokenizer_source", "tokenizer", "chat_template",
)  # fmt: skip
#: Keys that mark a mapping as mergekit's where merge_method is missing or misspelt.
OWN_KEYS: Final = frozenset(KEYS) - {"models", "dtype", "tokenizer"}
#: mergekit's methods that have no translation, but that a recipe of laconic's own can have, by its
#: name for them.
OWN_METHODS: Final = {
    **{name: name for name in ("model_stock", "nuslerp", "sce")},
    **dict.fromkeys(("breadcrumbs", "breadcrumbs_ties"), "breadcrumbs"),
    **dict.fromkeys(("della", "della_linear"), "della"),
}
#: The others, and what there is instead.
OTHER_METHODS: Final = {
    "arcee_fusion": "The method ties comes nearest: it takes the largest changes.",
    "karcher": "The method average comes nearest, for two models slerp.",
    "multislerp": "The method average comes nearest, for two models nuslerp.",
    "nearswap": "The method task_arithmetic comes nearest: it moves every entry by the same share.",
    "passthrough": "Laconic puts no model together from the layers of others.",
    **dict.fromkeys(
        ("ram", "ramplus_tl"),
        "The method ties comes nearest: it averages what several models changed, and takes in full "
        "what only one did.",
    ),
}
#: The types that a result can be stored in.
DTYPES: Final = ("bfloat16", "float16", "float32")


def is_mergekit(values: Mapping[str, Any]) -> bool:
    """Whether a recipe's plain values are written in mergekit's language."""
    return "merge_method" in values or ("method" not in values and not OWN_KEYS.isdisjoint(values))


def translate(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain form of the recipe that does what a mergekit configuration says.

    Weights come out as mergekit's; config, tokenizer and chat template follow laconic's policy,
    and a note says so.

    Raises:
        RecipeError: For what is unknown, cannot be meant, or is not supported, by name.
    """
    check_keys(config, KEYS, "The configuration", ignored=("name",))
    method = str(config.get("merge_method"))
    if method not in METHODS:
        raise RecipeError(_no_method(method))
    if config.get("modules"):
        raise RecipeError(
            "modules: is not supported. Write models: for a merge of whole models, which treats "
            f"all their parts alike. {BY_MERGEKIT}"
        )
    parsed = parse(config, method, USED[method])
    plain = METHODS[method](parsed)
    recipe = {
        "base": parsed.base,
        **plain,
        "system2": "widest",
        "layers": parsed.layers,
        "tokenizer": _tokenizer(config, parsed),
        "dtype": _dtype(config, parsed),
    }
    if "name" in config:
        parsed.notes.append("name: has no effect; the folder is named on the command line.")
    _template(config, parsed)
    recipe["notes"] = parsed.notes
    return {key: value for key, value in recipe.items() if value is not None}


def _no_method(method: str) -> str:
    """What is said of a method that has no translation."""
    said = f"merge_method '{method}' of mergekit is not supported here."
    if own := OWN_METHODS.get(method):
        return f"{said} Write it as a recipe of laconic's own: laconic show {own}."
    if instead := OTHER_METHODS.get(method):
        return f"{said} {instead} {BY_MERGEKIT}"
    known = {*METHODS, *OWN_METHODS, *OTHER_METHODS}
    return f"merge_method: no '{method}'. {did_you_mean(method, known)}"


def _linear(parsed: MergekitConfig) -> dict[str, Any]:
    """``sum w x / sum w``; mergekit's base is one more model."""
    models, base = parsed.sources, parsed.base
    parsed.base = None
    for source in models:
        if source.model == base and not any("weight" in level for _, level in source.levels):
            raise RecipeError(
                f"linear: base_model {base} has no weight. List it under models with a weight to "
                "make it part of the mean, or remove base_model."
            )
    weights = parsed.of_each("weight", models, None)
    normalise = parsed.switch("normalize", default=True)
    plain = {"models": _weighted(models, weights)}
    if normalise is True:
        return plain | {"method": "average"}
    return plain | {"method": "weighted_sum", "params": {"normalise": normalise}}


def _slerp(parsed: MergekitConfig) -> dict[str, Any]:
    """From the base to the other model, tensor by tensor."""
    if parsed.base is None:
        raise RecipeError("slerp needs base_model: the model that t = 0 stands for.")
    if len(parsed.sources) != 2:
        raise RecipeError(
            f"slerp takes exactly 2 models, the base included; got {len(parsed.sources)}."
        )
    models = [source.model for source in parsed.others]
    params = {"t": parsed.number("t"), "zeros": "circle"}
    return {"models": models, "method": "slerp", "params": params}


def _task_vectors(
    parsed: MergekitConfig, *, by: str | None = None, elect: bool = False, normalize: bool = False,
    rescale: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Task arithmetic, TIES and DARE: sparsify each vector, elect signs or not, sum.

    Args:
        parsed: The configuration.
        by: How vectors are sparsified: ``magnitude``, ``chance``, or None for not at all.
        elect: Whether signs are elected.
        normalize: mergekit's default.
        rescale: mergekit's default.
    """
    if parsed.base is None:
        raise RecipeError(f"{parsed.method} needs base_model: where task vectors start from.")
    models = parsed.others
    if not models:
        raise RecipeError(f"{parsed.method} needs a model beside base_model {parsed.base}.")
    weights = parsed.of_each("weight", models, None)
    densities = parsed.of_each("density", models, 1.0) if by else []
    normalise = parsed.switch("normalize", default=normalize)
    restored = parsed.switch("rescale", default=rescale) if by else False
    scale = parsed.number("lambda", 1.0)
    _check_densities(models, densities, by)
    if (
        normalise is True
        and len(_different(weights)) == 1
        and not {*all_numbers(weights[0])} <= {0, 1}
    ):
        parsed.notes.append(
            f"The weight {weights[0]} cancels where it is not 0: {parsed.method} with normalize: "
            "true divides by it again. Use lambda, or normalize: false."
        )
    if len(models) == 1 and normalise is False and by != "magnitude":
        elect = False
    plain: dict[str, Any] = {"models": _weighted(models, weights), "params": {"scale": scale}}
    if by == "magnitude" and restored is False and len(_different(densities)) == 1:
        plain["params"]["density"] = densities[0]
        if len(models) == 1 and normalise is False:
            return plain | {"method": "ties"}
        if normalise is True and _cancel(weights):
            return plain | {"method": "ties", "models": [m.model for m in models]}
        del plain["params"]["density"]
    plain["before"] = _sparsified(densities, by, restored)
    if not elect and normalise is False:
        return plain | {"method": "task_arithmetic"}
    plain["params"]["normalise"] = normalise
    return plain | {"method": "elect" if elect else "weighted_sum"}


METHODS: Final[Mapping[str, Callable[[MergekitConfig], dict[str, Any]]]] = {
    "linear": _linear,
    "slerp": _slerp,
    "task_arithmetic": _task_vectors,
    "ties": partial(_task_vectors, by="magnitude", elect=True, normalize=True),
    "dare_linear": partial(_task_vectors, by="chance", rescale=True),
    "dare_ties": partial(_task_vectors, by="chance", elect=True, rescale=True),
}
USED: Final = {
    "linear": ("weight", "normalize"),
    "slerp": ("t",),
    "task_arithmetic": ("weight", "normalize", "lambda"),
    **dict.fromkeys(
        ("ties", "dare_linear", "dare_ties"),
        ("weight", "density", "normalize", "rescale", "lambda"),
    ),
}


def _sparsified(
    densities: Sequence[ParameterValue], by: str | None, rescale: ParameterValue
) -> list[dict[str, Any]]:
    """The steps that sparsify: one for all models where they agree, else one for each."""
    values = _different(densities)
    name = {"magnitude": "trim", "chance": "dare"}.get(by or "")
    if len(values) == 1 and rescale is False:
        extra = {"rescale": False} if by == "chance" else {}
        return [] if values[0] == 1 else [{str(name): {"density": values[0], **extra}}]
    alike = len(values) == 1
    return [
        {
            "sparsify": {"density": density, "by": by, "rescale": rescale}
            | ({} if alike else {"model": i})
        }
        for i, density in enumerate(values if alike else densities)
        if density != 1
    ]


def _cancel(weights: Sequence[ParameterValue]) -> bool:
    """Whether TIES that divides by the agreeing weights is TIES that divides by their number."""
    first = weights[0]
    if isinstance(first, list) or any(weight != first for weight in weights):
        return False
    return bool(first > 0 or (len(weights) == 1 and first != 0))


def _check_densities(
    models: Sequence[Source], densities: Sequence[ParameterValue], by: str | None
) -> None:
    for source, density in zip(models, densities, strict=bool(by)):
        for number in all_numbers(density):
            if not 0 <= number <= 1 or (number == 0 and by == "magnitude"):
                raise RecipeError(
                    f"The density of {source.model} must be in (0, 1], got {number:g}: it is the "
                    "fraction kept. To leave a model out, give it weight 0."
                )


def _tokenizer(config: Mapping[str, Any], parsed: MergekitConfig) -> str | None:
    """The donor of the tokenizer where the configuration names one."""
    block = config.get("tokenizer")
    source = config.get("tokenizer_source")
    if block is not None:
        if source is not None:
            raise RecipeError("Write either tokenizer_source: or tokenizer:, not both.")
        block = as_mapping(block, "tokenizer")
        check_keys(block, ("source", "tokens", "pad_to_multiple_of"), "tokenizer")
        for key in ("tokens", "pad_to_multiple_of"):
            if block.get(key):
                raise RecipeError(
                    f"tokenizer.{key} is not supported: rows are matched by token, and those past "
                    "the tokenizer's end are kept. Remove it."
                )
        source = block.get("source", "union")
    if source is None:
        return None
    source = model_name(source, "tokenizer_source")
    if source == "base":
        if config.get("base_model") is None:
            raise RecipeError("tokenizer_source: base needs base_model.")
        source = str(config["base_model"])
    if source != "union":
        parsed.notes.append(
            f"The tokenizer is that of {source}, rows matched by token. mergekit would also cut "
            "the embeddings to its length; here rows past it are kept."
        )
    return source


def _dtype(config: Mapping[str, Any], parsed: MergekitConfig) -> str | None:
    """The type stored; the arithmetic is float32 whatever the configuration says."""
    names = {}
    for key in ("dtype", "out_dtype"):
        value = config.get(key)
        if value is None:
            continue
        names[key] = str(value).removeprefix("torch.")
        if names[key] not in DTYPES:
            raise RecipeError(f"{key} '{value}': {did_you_mean(str(value), DTYPES)}")
    if names.get("dtype") != "float32":
        parsed.notes.append(
            f"mergekit would calculate in {names.get('dtype', 'the type of the checkpoints')}; "
            "here it is float32, rounded once."
        )
    return names.get("out_dtype", names.get("dtype"))


def _template(config: Mapping[str, Any], parsed: MergekitConfig) -> None:
    """What is said of the donor of config and template; a template of one's own is refused."""
    template = config.get("chat_template")
    if template not in (None, "auto"):
        raise RecipeError(
            f"chat_template {str(template)[:40]!r} is not supported: remove it, and give "
            "the template as a file, --set chat_template=FILE.jinja."
        )
    own = config.get("tokenizer") is None and config.get("tokenizer_source") is None
    parsed.notes.append(
        ("Config, tokenizer and chat template come" if own else "The config comes")
        + " from the checkpoint with the largest context window; mergekit takes "
        + ("base_model's" if config.get("base_model") else "any one's")
        + ". Set system2 (--system2) to choose."
    )


def _weighted(models: Sequence[Source], weights: Sequence[ParameterValue]) -> list[dict[str, Any]]:
    return [{"model": m.model, "weight": w} for m, w in zip(models, weights, strict=True)]


def _different(settings: Sequence[ParameterValue]) -> list[ParameterValue]:
    """The settings without repetitions, in order."""
    different: list[ParameterValue] = []
    for setting in settings:
        if setting not in different:
            different.append(setting)
    return different
