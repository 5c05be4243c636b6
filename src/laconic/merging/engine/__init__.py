"""The merge engine: streams blocks of tensors through a plan's steps.

- `streaming`: which passes a plan needs, and the last one that writes. Start here.
- `formula`: a step as its plug-in's formula. `fused`: the few chains with a compiled kernel.
- `members`, `norms`, `thresholds`: what steps need of whole tensors, found in passes before.
- `options`, `cluster`: threads, devices, and merges split over Ray workers.
"""
