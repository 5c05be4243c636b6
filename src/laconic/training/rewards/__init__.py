"""Rewards of answers, one decorated function a file; `contract` says what each may read."""
