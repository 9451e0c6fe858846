"""linalgx: torch.linalg for JAX, batched, compiled, and differentiable in both modes."""

__version__ = "0.1.0"

from linalgx._core.errors import LinAlgError
from linalgx.decompositions.cholesky import cholesky, cholesky_ex, cholesky_inverse, cholesky_solve
from linalgx.decompositions.lu import lu, lu_factor, lu_factor_ex, lu_solve, lu_unpack
from linalgx.determinants import det, logdet, slogdet
from linalgx.linear_systems import inv, inv_ex, solve, solve_ex, tensorinv, tensorsolve
from linalgx.triangular_systems import solve_triangular

__all__ = [
    "LinAlgError",
    "cholesky",
    "cholesky_ex",
    "cholesky_inverse",
    "cholesky_solve",
    "det",
    "inv",
    "inv_ex",
    "logdet",
    "lu",
    "lu_factor",
    "lu_factor_ex",
    "lu_solve",
    "lu_unpack",
    "slogdet",
    "solve",
    "solve_ex",
    "solve_triangular",
    "tensorinv",
    "tensorsolve",
]
