"""linalgx: torch.linalg for JAX, batched, compiled, and differentiable in both modes."""

from linalgx.decompositions.cholesky import cholesky, cholesky_ex, cholesky_inverse, cholesky_solve
from linalgx.decompositions.householder import householder_product, ormqr
from linalgx.decompositions.qr import geqrf, qr
from linalgx.triangular_systems import solve_triangular

__all__ = [
    "cholesky",
    "cholesky_ex",
    "cholesky_inverse",
    "cholesky_solve",
    "geqrf",
    "householder_product",
    "ormqr",
    "qr",
    "solve_triangular",
]
