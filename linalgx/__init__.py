"""linalgx: torch.linalg for JAX, batched, compiled, and differentiable in both modes."""

__version__ = "0.1.0"

from linalgx._core.errors import LinAlgError
from linalgx.decompositions.cholesky import cholesky, cholesky_ex, cholesky_inverse, cholesky_solve
from linalgx.triangular_systems import solve_triangular

__all__ = ["LinAlgError", "cholesky", "cholesky_ex", "cholesky_inverse", "cholesky_solve", "solve_triangular"]
