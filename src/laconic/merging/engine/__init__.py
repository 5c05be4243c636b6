"""The merge engine: streams blocks of tensors through a plan's steps.

- `streaming`: which passes a plan needs, and the last one that writes. Start here.
- `formula`: a chain as its plug-ins' formulas. `fused`: a chain whose steps all declare kernels.
- `members`: one tensor of every checkpoint.
- `limits`, `thresholds`, `norms`: what steps need of whole tensors, found in passes before.
- `options`, `cluster`: threads, devices, and merges split over Ray workers.
"""
