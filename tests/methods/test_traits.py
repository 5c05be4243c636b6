"""What decorators take, and how compiled kernels are named on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS, adjustment, transform
from laconic.methods.contract.kernels import combining, counting, summing, vectors
from laconic.methods.contract.kernels.compiling import SOURCES, digest_of_sources
from laconic.methods.contract.traits import STATS, StepTraits

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("registry", [METHODS, TRANSFORMS, ADJUSTMENTS], ids=lambda r: r.family)
def test_a_step_that_reads_statistics_has_a_parameter_for_their_files(registry: Any) -> None:
    for plugin in registry.all():
        assert isinstance(plugin.traits, StepTraits)
        assert (STATS in plugin.parameters) == bool(plugin.traits.stats)


def test_a_decorator_refuses_the_traits_of_other_families() -> None:
    with pytest.raises(TypeError, match="@transform has no base"):
        transform(base="optional")
    with pytest.raises(TypeError, match="@adjustment has no trims"):
        adjustment(trims=True)


def test_a_change_of_any_kernel_file_gives_the_cached_code_another_name(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("a = 1\n")
    (tmp_path / "two.py").write_text("b = 1\n")
    before = digest_of_sources(tmp_path)
    (tmp_path / "two.py").write_text("b = 2\n")
    assert digest_of_sources(tmp_path) != before
    kernels: list[Any] = [combining.merge, counting.count, vectors.vectors, summing.products]
    kernels += [summing.inner, summing.magnitude, summing.pair_products]
    kernels += [summing.vector_magnitudes, summing.vector_products]
    assert {kernel.py_func.__qualname__.rpartition("-")[2] for kernel in kernels} == {SOURCES}
