"""Measurements of linalgx beside its peers: ``python -m benchmarks costs``, ``python -m benchmarks overhead``."""
