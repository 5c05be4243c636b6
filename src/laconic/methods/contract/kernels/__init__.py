"""The arithmetic of common merges, compiled to machine code by Numba.

A kernel works on one block of the tensors as they are stored, in float32, tile by tile: it reads
its inputs once and keeps intermediate values in the first-level cache. The operations and their
order are those of the plug-ins' formulas, and tests compare the bytes. Integers are narrowed after
each operation because Numba widens them, and loops run over slices because those need no check for
negative positions; both keep the loops vectorised.

- `codes`: the integers by which callers name an operation or a way of combining.
- `compiling`: how functions are compiled and cached. Start here to change a kernel.
- `vectors`: task vectors of a block, after dropping, trimming and scaling.
- `combining`: the merged block, from stored values to stored values.
- `counting`: how many entries have which magnitude.
- `summing`: sums of magnitudes and of products, in a fixed order.
"""
