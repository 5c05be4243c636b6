"""Statistics of a model over some data, for the methods that need them.

- `calibrate`: check a calibration, then run it. Start here.
- `record`: the result, as a value and as one file.
- `samples`: the data as token ids. `model`: the model, loaded part by part.
- `forward`: passes layer by layer, for `inputs` and `information`. `gradients`: backward passes.
- `estimate`: the cost, before it starts. `work`: finished steps on disk, for a later restart.
"""
