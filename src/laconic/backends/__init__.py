"""Backends: one engine, one file."""
