"""From a completion to a verdict: answers are found, read and compared; programs are run.

- `score`: a completion, a sample, a result. Start here.
- `grader`: decides; `golds` reads reference answers.
- `answers`, `words`, `spelling`, `plain`, `algebra`: find and read answers.
- `programs`, `sandbox`: find and run programs.
- `worker`, `limits`, `grades`: bounds of time and size; verdicts kept.
- `reflection`: keywords counted. `check`, `unread`: disagreements worth reading.
"""
