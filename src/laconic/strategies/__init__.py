"""The strategies, one file each, and in `contract` what a strategy is.

A strategy is how one question is put to a model: in one call, in several, or with a helper's aid.
"""
