"""Mixture controllers: one idea, one file."""
