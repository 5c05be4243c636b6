"""Search: recipes with ranges, tried out and measured until the front of accuracy and length shows.

The data's way: `space` finds the ranges and checks their corners; `exam` deals the problems into
those searched on, in growing subsets, and those kept for the proof; both are part of what is
`asked`. `explore` leads: `measure` takes the references, workers try places, `measure` takes the
proof. Each worker (`trials`) asks the `sampler` for a place, gets the weights from `resident`, and
drops what `goal` finds hopeless; `study` is the folder that all of it is kept in, and `story` what
it comes to. `grid` is the simpler search over given candidates.
"""

from __future__ import annotations

from laconic.search.explore import search
from laconic.search.grid import Found, Job, measure, shortest
from laconic.search.study import Study, Trial, read_study

__all__ = ["Found", "Job", "Study", "Trial", "measure", "read_study", "search", "shortest"]
