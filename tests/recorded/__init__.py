"""Behaviour recorded once, and held: merges, reports, trainings, searches and options.

Only the command line, the public names of ``laconic`` and files are used, so that the insides may
be rewritten. ``python -m tests.recorded.record`` writes the records anew; a change of them is one
that a user may notice, and is told in CHANGELOG.md.
"""
