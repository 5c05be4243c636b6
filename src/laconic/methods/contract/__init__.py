"""What a method is given and what it may use.

- `group`: `TensorGroup`, and the decorators `method`, `transform` and `adjustment`. Start here.
- `traits`: what a decorator declares, and what a plug-in's check is given.
- `step_statistics`: calibration statistics as a method reads them.
- `ranking`: the largest entries of a tensor, exactly.
- `sums`: sums of a tensor that do not depend on blocks or threads.
- `low_rank`: truncated and soft-thresholded singular values.
- `kernel_steps`: how a plug-in says what the compiled kernels do in its place.
- `kernels`: the compiled arithmetic itself.
"""
