"""linalgx: torch.linalg for JAX, batched, compiled, and differentiable in both modes."""

from linalgx._core.errors import LinAlgError, raise_errors
from linalgx.conditioning import cond, matrix_rank
from linalgx.configuration import show_config
from linalgx.decompositions.cholesky import cholesky, cholesky_ex, cholesky_inverse, cholesky_logdet, cholesky_solve
from linalgx.decompositions.eig import eig, eigvals
from linalgx.decompositions.eigh import eigh, eigvalsh
from linalgx.decompositions.householder import householder_product, ormqr
from linalgx.decompositions.ldl import ldl_factor, ldl_factor_ex, ldl_solve
from linalgx.decompositions.lu import lu, lu_factor, lu_factor_ex, lu_solve, lu_unpack
from linalgx.decompositions.qr import geqrf, qr
from linalgx.decompositions.svd import svd, svdvals
from linalgx.determinants import det, logdet, slogdet
from linalgx.least_squares import lstsq, pinv
from linalgx.linear_systems import inv, inv_ex, solve, solve_ex, tensorinv, tensorsolve
from linalgx.matrix_functions import matrix_exp, matrix_power
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

__version__ = "0.1.0"

__all__ = [
    "LinAlgError",
    "cholesky",
    "cholesky_ex",
    "cholesky_inverse",
    "cholesky_logdet",
    "cholesky_solve",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "geqrf",
    "householder_product",
    "inv",
    "inv_ex",
    "ldl_factor",
    "ldl_factor_ex",
    "ldl_solve",
    "logdet",
    "lstsq",
    "lu",
    "lu_factor",
    "lu_factor_ex",
    "lu_solve",
    "lu_unpack",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "ormqr",
    "outer",
    "pinv",
    "qr",
    "raise_errors",
    "show_config",
    "slogdet",
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
