"""Search for the accuracy-length front over the ranges of a recipe.

- `explore`: a whole search, which can be resumed. Start here. `grid`: a search over given recipes.
- `spec`, `space`, `goal`: what is searched: the ranges, the problems, the constraint.
- `problems`: the problems in growing subsets, and those kept for the proof.
- `sampler`, `interval_search`: which values are tried next.
- `trials`: one candidate after another: merge, measure, stop early. `resident`: the engine that is
  given the weights of each. `measure`: the reference models and the proof.
- `crew`, `workers`: processes that share a search. `study`, `summary`: what is kept and shown.
"""
