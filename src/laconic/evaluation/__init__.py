"""Tasks put to a model, answers scored and kept as they come.

- `evaluate`: what ``laconic eval`` does. Start here.
- `problem_set`: what is asked. `session`: asks it, scores and keeps the answers, resumes.
- `protocols`: the papers' tasks, prompts and sampling.
- `regrade`: score stored texts again. `tally`: progress so far.
"""
