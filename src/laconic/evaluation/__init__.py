"""Tasks put to a model, answers scored and kept as they come.

- `evaluate`: open an engine, measure, resume. Start here.
- `protocols`: the papers' tasks, prompts and sampling.
- `regrade`: score stored texts again. `tally`: progress so far.
"""
