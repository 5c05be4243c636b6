"""What two checkpoints have in common and how a merge of them would fare.

- `inspect`: the comparison. Start here.
- `sums`, `shared`, `config_diff`: weights, vocabularies and settings compared.
- `verdict`: what follows for a merge. `text`, `picture`, `record`, `files`: how it is shown.
"""
