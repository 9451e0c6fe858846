"""linalgx: torch.linalg for JAX, batched, compiled, and differentiable in both modes."""

__version__ = "0.1.0"

from linalgx._core.errors import LinAlgError
from linalgx.conditioning import cond, matrix_rank
from linalgx.decompositions.cholesky import cholesky, cholesky_ex, cholesky_inverse, cholesky_solve
from linalgx.decompositions.eigh import eigh, eigvalsh
from linalgx.decompositions.lu import lu, lu_factor, lu_factor_ex, lu_solve, lu_unpack
from linalgx.decompositions.svd import svd, svdvals
from linalgx.linear_systems import inv, inv_ex, solve, solve_ex, tensorinv, tensorsolve
from linalgx.matrix_powers import matrix_power
from linalgx.norms import matrix_norm, norm, vector_norm
from linalgx.products import (
    cross,
    diagonal,
    matmul,
    matrix_transpose,
    multi_dot,
    outer,
    tensordot,
    trace,
    vander,
    vecdot,
)
from linalgx.triangular_systems import solve_triangular

__all__ = [
    "LinAlgError",
    "cholesky",
    "cholesky_ex",
    "cholesky_inverse",
    "cholesky_solve",
    "cond",
    "cross",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "inv_ex",
    "lu",
    "lu_factor",
    "lu_factor_ex",
    "lu_solve",
    "lu_unpack",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "solve",
    "solve_ex",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
    "trace",
    "vander",
    "vecdot",
    "vector_norm",
]
