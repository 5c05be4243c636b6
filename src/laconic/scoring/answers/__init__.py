"""Answers and reference answers as mathematics: found in a text, read, and compared.

- `extract`: where a completion says its final answer. `references`: what a reference answer means.
- `plain`: equality as far as the spelling shows it. `algebra`: equality by Math-Verify.
- `spelling`: one LaTeX for many ways to write. `choices`: letters and words as answers.
- `limits`: texts too large to be parsed.
"""
