"""The smallest batch for which a batch-minor kernel is used. Written by ``python -m benchmarks crossovers``.

``SMALLEST_BATCH[platform][operation][dtype][n - 1]``, where n is the longest axis of a matrix; None: never.
A platform that is not listed was not measured, and uses LAPACK's or cuSOLVER's kernel.
"""

from __future__ import annotations

SMALLEST_BATCH: dict[str, dict[str, dict[str, tuple[int | None, ...]]]] = {
    "cpu": {
        "cholesky": {
            dtype: (64, 64, 256, 256, 1024, 1024, 1024, 1024)
            for dtype in ("float32", "float64", "complex64", "complex128")
        },
    },
}
