"""Statistics of a model over some data, for the methods that need them.

- `calibrate`: what to measure, checked and measured. Start here.
- `record`: the result as a value and as one file.
- `samples`, `inputs`: the data; `model`, `forward`, `gradients`, `information`: the passes.
- `estimate`, `work`: cost beforehand; work that a kill does not lose.
"""
