"""Merge presets: the recipes of the papers, without checkpoints; `load` reads them."""
