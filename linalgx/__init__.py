"""linalgx: torch.linalg for JAX, batched, compiled, and differentiable in both modes."""

from linalgx.conditioning import cond, matrix_rank
from linalgx.decompositions.cholesky import cholesky, cholesky_ex, cholesky_inverse, cholesky_solve
from linalgx.decompositions.eigh import eigh, eigvalsh
from linalgx.decompositions.svd import svd, svdvals
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
    "cholesky",
    "cholesky_ex",
    "cholesky_inverse",
    "cholesky_solve",
    "cond",
    "cross",
    "diagonal",
    "eigh",
    "eigvalsh",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "multi_dot",
    "norm",
    "outer",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vander",
    "vecdot",
    "vector_norm",
]
