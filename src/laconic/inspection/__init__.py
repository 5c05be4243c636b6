"""Comparison of checkpoints before a merge: compatibility, base, distances, agreement.

- `inspect`: the comparison as a value. Start here.
- `sums`, `shared`, `config_diff`: weights, vocabularies and settings compared.
- `verdict`: what follows for a merge. `text`, `picture`, `record`: the result as text, picture and
  JSON. `files`: writing them.
"""
