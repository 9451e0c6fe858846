"""linalgx: torch.linalg for JAX, batched, compiled, and differentiable in both modes."""

from linalgx.decompositions.cholesky import cholesky, cholesky_ex, cholesky_inverse, cholesky_solve
from linalgx.decompositions.eig import eig, eigvals
from linalgx.decompositions.eigh import eigh, eigvalsh
from linalgx.triangular_systems import solve_triangular

__all__ = [
    "cholesky",
    "cholesky_ex",
    "cholesky_inverse",
    "cholesky_solve",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "solve_triangular",
]
