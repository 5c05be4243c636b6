"""Studies on the lab: claims of the papers, tested on a family of models that anyone can train.

- `merging`: every merge method. `tldr`: training, every arm on several seeds.
- `bench`: merges and measures models, each once. `family`: the models. `drawing`: panels.

Run ``python -m studies merging DIR`` or ``python -m studies tldr DIR``.
"""
