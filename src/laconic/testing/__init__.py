"""What every plug-in must keep, as tests: ``pytest --pyargs laconic.testing``.

They run over all registered plug-ins, those of other packages included, with default parameters.
"""
