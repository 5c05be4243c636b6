"""From a recipe to a merged checkpoint.

In the order in which a recipe is used:

- `recipe`, `varying`, `mergekit`, `presets`: what to merge and how, as a value.
- `sources`: the checkpoints that a recipe names, opened, with one vocabulary for all.
- `step`, `step_statistics`: a plug-in with its checked parameters and its calibration files.
- `lint`, `describe`, `command`: what has no effect, what a step takes, the command to repeat it.
- `plan`, `output`: the recipe checked against headers, before a byte is written.
- `engine`: the arithmetic, streamed block by block.
- `merge`, `card`: a plan becomes a folder. Start here.
"""
