"""Merging methods, transforms and adjustments: one idea, one file."""
