"""Measurements of linalgx beside its peers: ``python -m benchmarks costs | overhead | small | crossovers``."""
