"""linalgx: torch.linalg for JAX, batched, compiled, and differentiable in both modes."""

__version__ = "0.1.0"

from linalgx._core.errors import LinAlgError
from linalgx.decompositions.cholesky import cholesky, cholesky_ex, cholesky_inverse, cholesky_solve
from linalgx.decompositions.ldl import ldl_factor, ldl_factor_ex, ldl_solve
from linalgx.matrix_functions import matrix_exp
from linalgx.triangular_systems import solve_triangular

__all__ = [
    "LinAlgError",
    "cholesky",
    "cholesky_ex",
    "cholesky_inverse",
    "cholesky_solve",
    "ldl_factor",
    "ldl_factor_ex",
    "ldl_solve",
    "matrix_exp",
    "solve_triangular",
]
