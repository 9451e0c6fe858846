"""linalgx: torch.linalg for JAX, batched, compiled, and differentiable in both modes."""

from linalgx.decompositions.cholesky import cholesky, cholesky_ex, cholesky_inverse, cholesky_solve
from linalgx.decompositions.eigh import eigh, eigvalsh
from linalgx.decompositions.svd import svd, svdvals
from linalgx.least_squares import lstsq, pinv
from linalgx.triangular_systems import solve_triangular

__all__ = [
    "cholesky",
    "cholesky_ex",
    "cholesky_inverse",
    "cholesky_solve",
    "eigh",
    "eigvalsh",
    "lstsq",
    "pinv",
    "solve_triangular",
    "svd",
    "svdvals",
]
