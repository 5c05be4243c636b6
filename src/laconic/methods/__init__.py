"""The merging methods, one file each, and in `contract` what a method is given.

A method is one decorated function from a `TensorGroup` to a tensor. Transforms run on each model's
vector before it, adjustments on the result after it. To add one, copy the file nearest to it.
"""
