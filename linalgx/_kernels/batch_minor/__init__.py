"""Many small matrices at once: every array has the batch on its last axis, every entry of a matrix is one vector.

The loops over rows and columns are Python's: they unroll into elementwise code, which XLA fuses.
"""
