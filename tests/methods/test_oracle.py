"""Merges on disk against a naive float64 reading of the plug-ins' formulas.

The references are in `tests.methods.references`, one file a plug-in, found by its name: a new
plug-in needs a file there and no edit here. What DARE's random numbers are distributed like is
tested at the end.
"""

from __future__ import annotations

import fnmatch
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import save_file

from laconic.calibration.record import KINDS, Calibration
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.merging.engine.options import ExecutionOptions
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS, TensorGroup
from tests.conftest import CONFIG
from tests.methods.oracle import LAYERS, SLACK, Array, Params, Work, layer_of, value_at
from tests.methods.references import missing_reference, reference_of

if TYPE_CHECKING:
    from laconic.registry import Plugin

TYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
REGISTRIES: Final[tuple[Any, ...]] = (METHODS, TRANSFORMS, ADJUSTMENTS)
PLUGINS: Final[list[Plugin[Any]]] = [p for registry in REGISTRIES for p in registry.all()]


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda p: p.name)
def test_a_plug_in_has_a_reference_that_draws_all_its_parameters(plugin: Plugin[Any]) -> None:
    assert not missing_reference(plugin.name), missing_reference(plugin.name)
    assert set(plugin.bind({}, where="test")) == set(reference_of(plugin.name).PARAMETERS)


def params_for(plugin: Plugin[Any], written: Params, name: str) -> Params:
    """A step's parameters for one tensor, defaults included."""
    params = {**plugin.bind({}, where="test"), **written}
    return {k: v if plugin.takes_list(k) else value_at(v, name) for k, v in params.items()}


@dataclass
class Case:
    """Checkpoints and a recipe for them, the base first."""

    held: list[dict[str, torch.Tensor]]
    based: bool
    weights: list[Any]
    recipe: dict[str, Any]
    block: int
    draw: int = 0


def expected(case: Case) -> dict[str, Work]:
    """The merge as the formulas say it; each tensor's result is left in its `base`."""
    members = [{n: t.double().numpy() for n, t in held.items()} for held in case.held]
    based, names = case.based, sorted(case.held[0], key=natural)
    stats = case_stats(case)
    works = []
    for name in names:
        values = [member[name] for member in members]
        base = values[0] if based else np.zeros_like(values[0])
        # The task vector is the float32 difference: its rounding moves what lies at a threshold.
        vectors = [(v - base).astype(np.float32).astype(float) for v in values[based:]]
        weights = [value_at(w, name) for w in case.weights[based:]]
        large = np.max([np.abs(v) for v in values], axis=0)
        unsure = np.zeros(base.shape, bool)
        work = Work(name, base, vectors, weights, based, 3, unsure=unsure, large=large)
        works.append(replace(work, stats=stats))
    recipe = case.recipe
    for step in recipe["before"]:
        ((name, params),) = step.items()
        plugin = TRANSFORMS.get(name)
        reference_of(name).reference(works, [params_for(plugin, params, w.name) for w in works])
    method = METHODS.get(recipe["method"])
    wishes = [
        params_for(method, {**recipe["params"], **override(recipe, work.name)}, work.name)
        for work in works
    ]
    module = reference_of(method.name)
    if hasattr(module, "prepare"):
        module.prepare(works, wishes)
    merged = [w.meet(module.reference(w, wish)) for w, wish in zip(works, wishes, strict=True)]
    for step in recipe["after"]:
        ((name, params),) = step.items()
        norms = dict.fromkeys(range(LAYERS), 0.0)
        for work, result in zip(works, merged, strict=True):
            moved, layer = result - work.base, layer_of(work.name)
            if layer is not None:
                norms[layer] += float((moved * moved).sum())
        module = reference_of(name)
        if hasattr(module, "prepare"):
            module.prepare(works, merged)
        for i, work in enumerate(works):
            work.norms = norms
            wish = params_for(ADJUSTMENTS.get(name), params, work.name)
            merged[i] = work.meet(module.reference(work, merged[i], wish))
    return {work.name: replace(work, base=m) for work, m in zip(works, merged, strict=True)}


def case_stats(case: Case) -> dict[str, list[dict[str, Array]]]:
    """Statistics of each checkpoint, the base's first; without a base there is a place for it."""
    draw = np.random.default_rng(case.draw)
    shapes = {name: tuple(t.shape) for name, t in sorted(case.held[0].items())}
    stats: dict[str, list[dict[str, Array]]] = {kind: [] for kind in KINDS}
    for _ in range(len(case.held) + (not case.based)):
        own: dict[str, dict[str, Array]] = {kind: {} for kind in KINDS}
        for name, shape in shapes.items():
            if shape and "embed" not in name:
                own["activations"][name] = draw.random(shape[-1:]) * (draw.random() > 0.1)
            if len(shape) == 2 and "embed" not in name and 0 not in shape:
                inputs = draw.normal(size=(12, shape[-1]))
                own["gram"][name] = inputs.T @ inputs / 12
            if layer_of(name) is not None:
                own["sensitivity"][name] = np.asarray(draw.random() * (draw.random() > 0.2))
            own["fisher"][name] = np.asarray(draw.random(shape) ** 4)
        parts = ["embed", "norm", "lm_head", *(f"layer.{i}" for i in range(LAYERS))]
        own["mutual_information"] = {part: 3 * draw.random(10) for part in parts}
        for kind, values in own.items():
            stats[kind].append({n: v.astype(np.float32).astype(float) for n, v in values.items()})
    return stats


def write_stats(case: Case, folders: list[str], recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe with its steps' statistics, in files beside the folders."""
    stats = case_stats(case)
    marks = [open_checkpoint(folder).fingerprint for folder in folders]

    def named(plugin: Any, first: Recipe | None = None) -> dict[str, Any]:
        paths: list[Path] = []
        if plugin.traits.stats:
            assume(len(set(marks)) == len(marks))
        for kind, whose in plugin.traits.stats.items():
            everyone = range(len(folders))
            wanted = {"models": everyone[case.based :], "members": everyone}.get(whose, (0,))
            for i in wanted:
                tensors = stats[kind][i + (not case.based)]
                paths.append(Path(folders[i]).with_name(f"{plugin.name}-{i}.safetensors"))
                Calibration(
                    kind=kind,
                    model=marks[i],
                    model_name=folders[i],
                    data="digest",
                    data_name="data",
                    samples=12,
                    tokens=99,
                    tensors={n: torch.tensor(v, dtype=torch.float32) for n, v in tensors.items()},
                    against=marks[0] if first else None,
                    against_name=folders[0] if first else None,
                    settings={"merge": plan(first).digest} if first else {},
                ).write(paths[-1])
        return {"stats": list(map(str, paths))} if paths else {}

    made = {**recipe, "after": []}
    made["params"] = {**recipe["params"], **named(METHODS.get(recipe["method"]))}
    for step in recipe["after"]:
        ((name, params),) = step.items()
        adjustment = ADJUSTMENTS.get(name)
        files = named(
            adjustment, Recipe(**made) if "merged" in adjustment.traits.stats.values() else None
        )
        made["after"] = [*made["after"], {name: {**params, **files}}]
    return made


def natural(name: str) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdigit() else part for part in name.split("."))


def override(recipe: Mapping[str, Any], name: str) -> dict[str, Any]:
    for entry in recipe["overrides"]:
        layer, (first, last) = layer_of(name), entry.get("layers", (0, LAYERS))
        inside = "layers" not in entry or (layer is not None and first <= layer <= last)
        if inside and fnmatch.fnmatchcase(name, entry["match"]):
            return dict(entry["params"])
    return {}


VALUES: Final = st.one_of(
    st.floats(-4, 4, width=32, allow_subnormal=False),
    st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1e-4]),
)


SHAPES: Final = st.sampled_from([(), (1,), (7,), (12,), (3, 4), (5, 2), (2, 1, 3), (0, 4)])


WEIGHTS: Final = st.sampled_from([1.0, 0.3, 2.0, 0.0, -0.5])


def some(draw: st.DrawFn, drawn: st.SearchStrategy[Any]) -> Any:
    """A value; where it is a number, sometimes one that varies by layer or by name."""
    value = draw(drawn)
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    kind = draw(st.sampled_from(["plain", "plain", "plain", "gradient", "globs"]))
    if kind == "gradient":
        return [value, *draw(st.lists(drawn, min_size=1, max_size=3))]
    if kind == "globs":
        return [{"match": "*.1.*", "value": draw(drawn)}, {"value": value}]
    return value


def some_of(draw: st.DrawFn, name: str, *, varying: bool = True) -> dict[str, Any]:
    """Some of a plug-in's parameters."""
    return {
        key: some(draw, drawn) if varying else draw(drawn)
        for key, drawn in reference_of(name).PARAMETERS.items()
        if draw(st.booleans())
    }


@st.composite
def cases(draw: st.DrawFn, method: str) -> Case:
    module, traits = reference_of(method), METHODS.get(method).traits
    based = traits.base == "needed" or draw(st.booleans())
    least, most = traits.models
    count = traits.members or draw(st.integers(least, most or 3)) + based
    shapes = {f"model.layers.{i}.w": draw(SHAPES) for i in range(LAYERS)}
    shapes |= {"model.embed_tokens.weight": (5, 2), "model.norm.weight": draw(SHAPES)}
    held: list[dict[str, torch.Tensor]] = []
    for _ in range(count):
        types = draw(st.sampled_from([*TYPES, "mixed"]))
        held.append({})
        for name, shape in shapes.items():
            dtype = draw(st.sampled_from(sorted(TYPES))) if types == "mixed" else types
            values = draw(arrays.arrays(np.float32, shape, elements=VALUES))
            held[-1][name] = torch.from_numpy(np.asarray(values)).to(TYPES[dtype])
    if hasattr(module, "WEIGHTS"):
        weights: list[Any] = [draw(module.WEIGHTS) for _ in range(count)]
    else:
        weights = [some(draw, WEIGHTS) if traits.weighted else 1.0 for _ in range(count)]
    if hasattr(module, "weights_fit"):
        assume(all(module.weights_fit([value_at(w, n) for w in weights[based:]]) for n in shapes))
    transforms = st.lists(st.sampled_from([p.name for p in TRANSFORMS.all()]), max_size=2)
    steps = draw(transforms) if based else []
    params = {**getattr(module, "ALWAYS", {}), **some_of(draw, method)}
    if hasattr(module, "more_params"):
        params |= module.more_params(draw, count - based)
    overrides: list[dict[str, Any]] = []
    if draw(st.booleans()) and module.PARAMETERS:
        overrides.append({"match": "*.w", "params": some_of(draw, method, varying=False)})
        if draw(st.booleans()):
            overrides[0]["layers"] = [1, 2]
    adjust = st.sampled_from([p.name for p in ADJUSTMENTS.all()])
    after = draw(st.lists(adjust, max_size=2, unique=True)) if based and draw(st.booleans()) else []
    recipe = {
        "method": method,
        "params": params,
        "before": [{name: some_of(draw, name)} for name in steps],
        "after": [{name: some_of(draw, name)} for name in after],
        "overrides": overrides,
        "dtype": draw(st.sampled_from([None, *sorted(TYPES)])),
    }
    return Case(held, based, weights, recipe, draw(st.integers(1, 20)), draw(st.integers(0, 9)))


def save(folder: Path, held: Mapping[str, torch.Tensor]) -> str:
    folder.mkdir()
    save_file(dict(held), folder / "model.safetensors")
    config = {k: v for k, v in CONFIG.items() if k != "vocab_size"}
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": LAYERS}))
    return str(folder)


def run(case: Case) -> dict[str, torch.Tensor]:
    """The same merge by the package, on real folders."""
    with tempfile.TemporaryDirectory() as parent:
        folders = [save(Path(parent) / f"m{i}", held) for i, held in enumerate(case.held)]
        named = [{"model": f, "weight": w} for f, w in zip(folders, case.weights, strict=True)][
            case.based :
        ]
        donors = {"models": named, "base": folders[0] if case.based else None}
        said = {**case.recipe, **donors, "system2": folders[-1], "seed": 3}
        recipe = Recipe(**write_stats(case, folders, said))
        options = ExecutionOptions(threads=2, block=case.block)
        merged = merge(recipe, Path(parent) / "out", options=options, shard_bytes=200)
        return {name: merged.read(name).clone() for name in merged.specs}


def rounded(values: Array, dtype: torch.dtype) -> Array:
    made: Array = torch.from_numpy(np.asarray(values)).float().to(dtype).double().numpy()
    return made


#: An example with a larger share of doubtful elements is drawn anew: equal entries beside one
#: threshold are all in doubt at once, and a few such examples would be the whole count.
DOUBTFUL: Final = 0.1


@pytest.mark.parametrize("method", [p.name for p in METHODS.all()])
def test_a_few_merges_are_what_their_formulas_say(method: str) -> None:
    check_merges(method, examples=6)


@pytest.mark.slow
@pytest.mark.parametrize("method", [p.name for p in METHODS.all()])
def test_a_merge_is_what_its_formulas_say(method: str) -> None:
    check_merges(method, examples=60)


def check_merges(method: str, *, examples: int) -> None:
    """Every stored number lies where one rounding can put it.

    A chain is at most a few dozen float32 operations, each wrong by at most 2**-24 of the largest
    number that the element's arithmetic meets (`Work.large`); 2**-19 of that is allowed. Rounding
    to the stored type never turns two numbers round, so the stored one must lie between the
    roundings of the two ends of that interval, whatever the type. Where a step is no continuous
    function (a vote that nearly ties, an entry beside a threshold that an earlier step has rounded,
    SLERP's switch to the straight line), the element is left out; few may be, and few examples may
    be in doubt as a whole.
    """
    seen = {"all": 0, "unsure": 0, "examples": 0, "doubtful": 0}

    @settings(max_examples=examples)
    @given(cases(method))
    def check(case: Case) -> None:
        with np.errstate(over="ignore"):
            wanted = expected(case)
        assume(all(np.all(work.large < 6e4) for work in wanted.values()))
        unsure = np.concatenate([work.unsure.ravel() for work in wanted.values()])
        seen["examples"] += 1
        seen["doubtful"] += unsure.mean() > DOUBTFUL
        assume(unsure.mean() <= DOUBTFUL)
        found = run(case)
        assert set(found) == set(wanted)
        for name, work in wanted.items():
            assert tuple(found[name].shape) == work.base.shape
            dtype = (
                TYPES[case.recipe["dtype"]] if case.recipe["dtype"] else case.held[-1][name].dtype
            )
            assert found[name].dtype == dtype
            slack = SLACK * work.large + 1e-37
            lowest, highest = (rounded(work.base + s, dtype) for s in (-slack, slack))
            values = found[name].double().numpy()
            right = (lowest <= values) & (values <= highest) | work.unsure
            assert right.all(), (name, values[~right], work.base[~right], slack[~right])
        seen["all"] += unsure.size
        seen["unsure"] += int(unsure.sum())

    check()
    assert seen["all"] > 8 * examples
    share = getattr(reference_of(method), "LEFT_OUT", 0.01) if examples > 10 else DOUBTFUL
    assert seen["unsure"] <= share * seen["all"], seen
    assert seen["doubtful"] <= max(seen["examples"] / 5, 2), seen


def test_random_numbers_of_tensors_models_and_seeds_are_uniform_and_unrelated() -> None:
    """DARE's masks: 2**18 numbers a draw, each statistic within five of its standard errors."""
    n = 1 << 18
    draws = []
    for seed, name in ((0, "a"), (1, "a"), (0, "b")):
        group = TensorGroup(name, torch.zeros(n), torch.zeros(2, n), (1.0, 1.0), seed=seed)
        draws += [group.uniform(i).double().numpy() for i in range(2)]
    for u in draws:
        assert 0 <= u.min() < u.max() < 1
        counts = np.histogram(u, bins=256, range=(0, 1))[0]
        chi2 = ((counts - n / 256) ** 2 / (n / 256)).sum()
        assert abs(chi2 - 255) < 5 * math.sqrt(2 * 255)
        for lag in (1, 2, 64):
            assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 5 / math.sqrt(n)
        for density in (0.1, 0.5, 0.9):
            error = math.sqrt(density * (1 - density) / n)
            assert abs((u < density).mean() - density) < 5 * error
    for i, u in enumerate(draws):
        for v in draws[:i]:
            assert abs(np.corrcoef(u, v)[0, 1]) < 5 / math.sqrt(n)


@pytest.mark.parametrize("rescale", [True, False])
def test_dare_keeps_its_share_of_entries_and_their_sum(rescale: bool) -> None:
    """The kept share, and the mean of what is kept, within five standard errors."""
    n, density = 300_000, 0.7
    base = {"model.layers.0.w": torch.zeros(n)}
    model = {"model.layers.0.w": torch.linspace(0.5, 1.5, n)}
    step = {"dare": {"density": density, "rescale": rescale}}
    recipe: dict[str, Any] = {"method": "task_arithmetic", "params": {"scale": 1.0}}
    recipe |= {"before": [step], "after": [], "overrides": [], "dtype": None}
    case = Case([base, model], based=True, weights=[1.0, 1.0], recipe=recipe, block=1 << 16)
    for held in case.held:
        held |= {f"model.layers.{i}.w": torch.zeros(1) for i in (1, 2)}
    merged = run(case)["model.layers.0.w"].double().numpy()
    kept, error = merged != 0, math.sqrt(density * (1 - density) / n)
    assert abs(kept.mean() - density) < 5 * error
    factor = 1 / density if rescale else 1.0
    values = model["model.layers.0.w"].double().numpy()
    assert np.allclose(merged[kept], factor * values[kept], rtol=1e-6)
    spread = float(np.sqrt((values**2).mean()))
    assert abs(merged.mean() - factor * density * values.mean()) < 5 * factor * error * spread
