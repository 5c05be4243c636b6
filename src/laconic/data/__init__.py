"""Training data from runs: answers are selected, checked, and packed into pools, all proven.

The way of the data: runs (`laconic.evaluate` with repeats) -> `select` -> `decontaminate` ->
`pack` -> `laconic.pools`. Between the steps stand files of answers that any tool can read.
"""
