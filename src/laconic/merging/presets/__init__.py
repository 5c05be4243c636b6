"""Merge presets: the papers' recipes without checkpoints, one YAML file each; `load` reads them.

The folder ``pairs`` has the checkpoints that they merge, with their figures.
"""
