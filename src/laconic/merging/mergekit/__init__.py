"""mergekit's YAML as a recipe.

- `translate`: a mergekit file to a recipe with the same numbers. Start here.
- `language`: mergekit's notation: sources, settings, filters, gradients.
"""
