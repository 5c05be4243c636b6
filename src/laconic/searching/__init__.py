"""The accuracy-length front over a recipe's open numbers.

- `explore`: a whole search, resumable. Start here. `grid`: every combination.
- `spec`, `space`, `goal`: what is asked: ranges, goal, constraints.
- `sampler`, `interval_search`: which values come next.
- `trials`, `measure`, `resident`, `problem_set`: one trial: merge in memory, measure, compare.
- `crew`, `workers`: helper processes. `study`, `summary`: what is kept and shown.
"""
