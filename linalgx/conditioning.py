"""How near a matrix is to a singular one: its condition number and its rank.

Source: Golub & Van Loan, "Matrix Computations", 4th edition, sections 2.6.2 and 5.4.1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import inexact_array, matrix, public, real_array, require_square
from linalgx._core.composite import composite
from linalgx._core.errors import NOT_FINITE, info_of_spectrum, report
from linalgx._core.matrix import kept_singular_values, largest_entry
from linalgx._kernels.exponents import power_of_two, times_real
from linalgx.decompositions.eigh import eigvalsh_p
from linalgx.decompositions.svd import svdvals_p
from linalgx.linear_systems import inverse
from linalgx.norms import extreme_singular_value, matrix_order, norm_of_matrices, quotient_p


@public("p")
def cond(x: ArrayLike, p: str | float | None = None) -> jax.Array:
    """Condition number of a matrix: the norm of the matrix times the norm of its inverse.

    Args:
        x: shape (..., m, n), real or complex; square if p is neither None nor 2 nor -2.
        p: the order of the norm, as in :func:`matrix_norm`. None and 2 give the ratio of the largest to the smallest
            singular value, -2 that of the smallest to the largest.

    Returns:
        The condition numbers, real, shape (...), in the promoted dtype of x; 0 for a matrix without elements. inf
        (for ``p=-2``: 0) where a pivot of elimination, or for "nuc", 2 and -2 a singular value, is exactly 0, as for
        the zero matrix; rounding may leave another singular matrix with about 1 / eps (eps).

    Raises:
        ValueError: if x has fewer than two axes, or must be square and is not, or p is none of these orders.
        TypeError: if x is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, for "nuc", 2 and -2, if a matrix holds NaN or infinity, or LAPACK did
            not converge.

    On failure:
        NaN in x gives NaN in that member of the batch alone.

    Derivatives:
        both modes, every order, for every p; where the norm is not smooth, with the subgradient of
        :func:`matrix_norm`. NaN or infinite at a matrix that is exactly singular (``p=-2``: at the zero matrix).

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.cond(jnp.array([[2.0, 0.0], [0.0, 4.0]]), "fro")
        Array(2.5, dtype=float32)

    Source:
        Golub & Van Loan, Matrix Computations, section 2.6.2.
    """
    X = matrix("cond", x=x)
    p = matrix_order("cond", "p", 2 if p is None else p)
    if p not in (2, -2):
        require_square("cond", x=X)
    if 0 in X.shape[-2:]:
        return jnp.zeros(X.shape[:-2], jnp.finfo(X.dtype).dtype)
    X = times_real(X, _reciprocal_of_largest(jax.lax.stop_gradient(X)))
    number = _of_singular_values(X, p) if p in (2, -2, "nuc") else _product_of_norms(X, p)
    # 0 / 0 and the inverse that does not exist
    singular = jnp.isnan(number) & ~jnp.any(jnp.isnan(X), axis=(-2, -1))
    # a constant would have the derivative 0, this has NaN
    corner = jnp.real(X[..., 0, 0])
    infinite = jnp.where(singular, jnp.inf, 1) * (1 + 0 * jnp.where(jnp.isfinite(corner), corner, 0))
    return jnp.where(singular, 1 / infinite if p == -2 else infinite, number)


@composite(rank=2)
def _reciprocal_of_largest(X: jax.Array) -> jax.Array:
    """A power of two near 1 over the largest entry: X times it has the same condition number, and all is in range."""
    return 1 / power_of_two(largest_entry(X))


def _product_of_norms(X: jax.Array, p: str | float) -> jax.Array:
    axes = (X.ndim - 2, X.ndim - 1)
    norms = [norm_of_matrices("cond", Y, p, axes) for Y in (X, inverse(X)[0])]
    return jnp.squeeze(norms[0] * norms[1], axes)


def _of_singular_values(X: jax.Array, p: str | float) -> jax.Array:
    S = svdvals_p(X)
    report("cond", "", info_of_spectrum, X, S)
    if p == "nuc":
        return jnp.sum(S, axis=-1) * jnp.sum(quotient_p(jnp.ones_like(S), S, axis=()), axis=-1)
    numerator, denominator = (extreme_singular_value("cond", S, largest=largest) for largest in (p == 2, p != 2))
    return quotient_p(numerator, denominator, axis=())


@public("hermitian")
def matrix_rank(
    M: ArrayLike,
    rtol: ArrayLike | None = None,
    *,
    hermitian: bool = False,
    tol: ArrayLike | None = None,
    atol: ArrayLike | None = None,
) -> jax.Array:
    """Rank of a matrix: how many of its singular values are greater than a tolerance.

    Args:
        M: shape (..., m, n), real or complex. A vector or a scalar has rank 1, or 0 if all of it is zero.
        rtol: tolerance relative to the largest singular value, a scalar or an array that broadcasts with the batch;
            None is eps max(m, n), or 0 where a positive ``atol`` is given. As in jax.numpy it comes second, where
            NumPy has ``tol``.
        hermitian: take the Hermitian part of M, and its eigenvalues, which is faster.
        tol: NumPy's absolute tolerance, of the same kind, which comes alone: no other counts beside it, even if it is
            0.
        atol: absolute tolerance, of the same kind. The greater of ``atol`` and ``rtol`` counts.

    Returns:
        The ranks, integers of shape (...).

    Raises:
        ValueError: if ``tol`` comes with ``atol`` or ``rtol``, if M must be square and is not, or if a tolerance does
            not broadcast with the batch axes of M.
        TypeError: if M is not an array of numbers or a tolerance is not real.
        LinAlgError: inside :func:`raise_errors`, if a matrix holds NaN or infinity, or LAPACK did not converge.

    On failure:
        -1 for a matrix that contains NaN or infinities, which is no rank; the other members are not affected.

    Derivatives:
        none: the rank is an integer.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.matrix_rank(jnp.array([[1.0, 2.0], [2.0, 4.0]]))
        Array(1, dtype=int32)

    Source:
        Golub & Van Loan, Matrix Computations, section 5.4.1.
    """
    X = jax.lax.stop_gradient(inexact_array("matrix_rank", M=M))
    if tol is not None and not (atol is None and rtol is None):
        raise ValueError(
            f"linalgx.matrix_rank: tol must come alone, but {'rtol' if atol is None else 'atol'} came, too"
        )
    relative = _tolerance("rtol", rtol if tol is None else 0, X, X.shape[:-2])
    batch = X.shape[:-2] if relative is None else jax.lax.broadcast_shapes(X.shape[:-2], relative.shape)
    absolute = _tolerance("atol", atol, X, batch) if tol is None else _tolerance("tol", tol, X, batch)
    finite = jnp.isfinite(X)
    if X.ndim < 2:
        report("matrix_rank", "", lambda: jnp.where(jnp.all(finite), 0, NOT_FINITE))
        return jnp.where(jnp.all(finite), jnp.any(X != 0).astype(int), -1)
    if hermitian:
        require_square("matrix_rank", M=X)
    S = jnp.abs(eigvalsh_p(X)) if hermitian else svdvals_p(X)
    report("matrix_rank", "", info_of_spectrum, X, S)
    kept = kept_singular_values(S, X.shape, absolute, relative)
    return jnp.where(jnp.all(finite, axis=(-2, -1)), jnp.sum(kept, axis=-1), -1)


def _tolerance(name: str, value: ArrayLike | None, X: jax.Array, batch: tuple[int, ...]) -> jax.Array | None:
    if value is None:
        return None
    tolerance = jax.lax.stop_gradient(real_array("matrix_rank", X, **{name: value}))
    shape = tolerance.shape
    try:
        jax.lax.broadcast_shapes(shape, batch)
    except ValueError:
        raise ValueError(
            f"linalgx.matrix_rank: {name} must broadcast with the batch axes {batch}, but its shape is {shape}"
        ) from None
    return tolerance
