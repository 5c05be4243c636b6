"""The tasks, one file each, and in `contract` what a task is.

A task is one decorated function that yields problems with their reference answers.
"""
