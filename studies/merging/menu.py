"""What the study merges: every method, with the coefficients among which the dev split chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laconic.merging.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from studies.family import Family

#: Recipes by the coefficients that they differ in.
Grid = dict[str, Recipe]


@dataclass(frozen=True)
class Statistics:
    """The files of ``laconic calibrate`` that methods of the menu read, as paths.

    Attributes:
        activations: Of the base.
        sensitivity: Of the base and of System 2.
        fisher: Of System 1 and of System 2.
        gram: Of System 1 and of System 2.
        layers: Of the base, one number a tensor, from random tokens.
        shared: Mutual information of the base and a merge, by the merge's name.
    """

    activations: str
    sensitivity: tuple[str, str]
    fisher: tuple[str, str]
    gram: tuple[str, str]
    layers: str
    shared: Mapping[str, str]


def scales(f: Family, values: Iterable[float], **keys: Any) -> Grid:
    """Task arithmetic at several scales."""
    return {f"scale {v:g}": f.one(params={"scale": v}, **keys) for v in values}


def ties(f: Family, densities: Iterable[float], **keys: Any) -> Grid:
    """TIES at several densities."""
    return {f"density {v:g}": f.one("ties", params={"density": v}, **keys) for v in densities}


def menu(f: Family) -> dict[str, Grid]:
    """Every method that reads weights only."""
    dare = [{"dare": {"density": 0.7}}]
    half = {"scale": 0.5}
    return {
        "Average": {"": f.pair("average")},
        "Task Arithmetic": scales(f, (0.3, 0.4, 0.5, 0.6, 0.7)),
        "TIES": ties(f, (0.1, 0.2, 0.3, 0.4, 0.6)),
        "DARE": {"density 0.7": f.both("task_arithmetic", params=half, before=dare)},
        "DARE-TA": scales(f, (0.4, 0.5, 0.6), before=dare),
        "DARE-TIES": ties(f, (0.2, 0.3, 0.4), before=dare),
        "SLERP": {f"t {t:g}": f.one("slerp", params={"t": t}) for t in (0.4, 0.5, 0.6)},
        "LoRE": {
            f"mu {mu:g}": f.one("lore", params={"mu": mu, "relative": True, "scale": scale})
            for mu, scale in ((0.1, 0.7), (0.2, 0.7), (0.3, 1.0))
        },
        "Twin-SVD": {
            f"scale {scale:g}, density {density:g}": f.one(
                "twin_svd", params={"scale": scale, "density": density}
            )
            for scale, density in ((0.2, 0.02), (0.3, 0.02), (0.4, 0.02), (0.3, 0.05))
        },
        "DELLA": scales(f, (0.4, 0.5, 0.6), before=["della"]),
        "Breadcrumbs": {
            f"density {d:g}": f.one(params={"scale": 0.7}, before=[{"breadcrumbs": {"density": d}}])
            for d in (0.3, 0.5, 0.7)
        },
        "SCE": {
            f"scale {s:g}": f.both("sce", params={"density": 0.7, "scale": s})
            for s in (0.3, 0.5, 0.7)
        },
        "Model Stock": {"": f.both("model_stock")},
        "WUDI": {f"scale {s:g}": f.both("wudi", params={"scale": s}) for s in (0.4, 0.5, 0.6)},
        "NuSLERP": {"": f.pair("nuslerp")},
        "LiNeS": {
            f"{first:g} to {last:g}": f.one(
                params={"scale": 1.0}, after=[{"lines": {"first": first, "last": last}}]
            )
            for first, last in ((0.3, 0.7), (0.4, 0.6), (0.6, 0.4), (0.7, 0.3))
        },
        "FFN and attention": {
            f"FFN {ffn:g}, attention {attention:g}": _parts(f, ffn, attention)
            for ffn, attention in ((0.4, 0.6), (0.6, 0.4), (0.3, 0.7), (0.7, 0.3))
        },
    }


def informed_menu(f: Family, s: Statistics) -> dict[str, Grid]:
    """Every method that reads statistics of a calibration, too."""
    layers = {"stats": s.layers, "last": 1.0}
    return {
        "AIM-TIES": {
            f"density {d:g}, omega {w:g}": ties_aim(f, d, w, s.activations)
            for d, w in ((0.3, 0.4), (0.4, 0.4), (0.4, 0.2), (0.4, 0.6), (0.6, 0.4))
        },
        "Sens-Merging": {
            f"scale {scale:g}, T {t:g}": sensitive(f, scale, t, s.sensitivity)
            for scale, t in ((0.4, 2.0), (0.5, 2.0), (0.6, 2.0), (0.5, 6.0))
        },
        **{
            f"ACM-{name}": {
                f"sharpness {t:g}": _after(parent, "acm", sharpness=t, stats=s.shared[name])
                for t in (0.3, 0.7, 1.2)
            }
            for name, parent in acm_parents(f).items()
        },
        "Fisher": {"": f.pair("fisher", params={"stats": list(s.fisher)})},
        "RegMean": {
            f"off-diagonal {a:g}": f.pair(
                "regmean", params={"off_diagonal": a, "stats": list(s.gram)}
            )
            for a in (0.5, 0.9)
        },
        "Fisher-layer": {
            f"scale {v:g}, from {low:g}": _after(
                f.one(params={"scale": v}), "fisher_layer", first=low, **layers
            )
            for v, low in ((0.6, 0.4), (0.7, 0.4), (0.7, 0.6))
        },
    }


def ties_aim(f: Family, density: float, omega: float, stats: str) -> Recipe:
    """TIES, then AIM with the base's activations."""
    return _after(f.one("ties", params={"density": density}), "aim", omega=omega, stats=stats)


def sensitive(f: Family, scale: float, temperature: float, stats: tuple[str, str]) -> Recipe:
    """Sens-Merging of the base and System 2."""
    params = {"scale": scale, "temperature": temperature, "stats": list(stats)}
    return f.one("sens", params=params)


def acm_parents(f: Family) -> dict[str, Recipe]:
    """The merges whose calibration against the base steers ACM."""
    return {"TA": f.one(params={"scale": 0.7}), "TIES": f.one("ties", params={"density": 0.6})}


def _parts(f: Family, ffn: float, attention: float) -> Recipe:
    """Task arithmetic with scales of their own for feed-forward layers and attention."""
    overrides = [
        {"match": "ffn", "params": {"scale": ffn}},
        {"match": "attention", "params": {"scale": attention}},
    ]
    return f.one(params={"scale": 0.5}, overrides=overrides)


def _after(parent: Recipe, step: str, **params: Any) -> Recipe:
    return Recipe.from_dict({**parent.to_dict(), "after": [{step: params}]})
