"""From a completion to a verdict: answers are found, read and compared; programs are run.

- `score`: a completion, a sample, a result. Start here.
- `grader`: decides whether an answer is right. `answers`: finds, reads and compares answers.
- `worker`: a process that compares within limits of time and memory. `verdict_cache`: its verdicts
  on disk.
- `programs`, `sandbox`: find and run programs.
- `reflection`: keywords counted. `check_references`, `unreadable`: reference answers and answers
  that the grader cannot read.
"""
