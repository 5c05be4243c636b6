"""What was measured, as values and as a folder.

- `experiment`: sampling and identity of a run; equal experiments may share a folder.
- `run`: samples, generations, results, and reading a run folder.
- `writer`: appending results so that a kill loses nothing.
"""
