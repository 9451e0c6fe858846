"""The factorisation P A P^T = L D L^* of symmetric and Hermitian indefinite matrices, its solves, their derivatives.

L is unit lower triangular, D has 1 x 1 and 2 x 2 blocks on its diagonal, X^* is X^H for Hermitian A and X^T for
symmetric A, real or complex. Both are packed as LAPACK packs them.

Sources: Bunch & Kaufman (1977), Mathematics of Computation 31, 163; the derivatives are those of Cholesky's factor
(Murray 2016, arXiv:1602.07527) with blocks in the place of the diagonal; Giles (2008), "Collected matrix derivative
results for forward and reverse mode algorithmic differentiation", section 2.3.1, for the solution.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from linalgx._core.arguments import (
    inexact_arrays,
    integer_array,
    linear_system,
    public,
    require_matrix,
    require_square,
    square_matrix,
)
from linalgx._core.errors import NO_PIVOTS, blame_input, first_true, nan_where, not_finite, report
from linalgx._core.matrix import H, T, diagonal, from_diagonal, hermitian_from_triangle, identity, strictly_lower
from linalgx._core.operation import Operation
from linalgx._core.results import LDLFactorExResult, LDLFactorResult
from linalgx._kernels import bunch_kaufman, lapack
from linalgx.triangular_systems import solve_triangular_p

ZERO_IN_D = "D[{index}, {index}] is exactly zero"


@public("hermitian")
def ldl_factor(a: ArrayLike, *, hermitian: bool = False) -> LDLFactorResult:
    """LDL factorisation of a symmetric or Hermitian matrix, in the packed form that :func:`ldl_solve` takes.

    Args:
        a: shape (..., n, n), real or complex; only its lower triangle is read.
        hermitian: a complex a is Hermitian; if False, it is symmetric. (A real a is both.)

    Returns:
        ``LD``, shape (..., n, n), in the promoted dtype of a: the blocks of D on the diagonal and the subdiagonal,
        the columns of L below; and ``pivots``, int32 of shape (..., n), LAPACK's, which count from 1: p > 0 in
        place k for a 1 x 1 block, rows k and p exchanged; -p < 0 in the places k and k + 1 for a 2 x 2 block, rows
        k + 1 and p exchanged.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers.
        LinAlgError: inside :func:`raise_errors`, if D is singular or a holds NaN.

    On failure:
        NaN in the LD of a matrix that holds NaN. A singular matrix has a factorisation; :func:`ldl_factor_ex` tells
        where D is singular.

    Derivatives:
        both modes, every order, with the pivots held fixed: right wherever a small change of a does not change
        them. The gradient lies in the triangle that is read. NaN where D is singular, for then L is not determined.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.ldl_factor(jnp.array([[4.0, 2.0], [2.0, 3.0]]))
        LDLFactorResult(
            LD=Array([[4. , 0. ],
                      [0.5, 2. ]], dtype=float32),
            pivots=Array([1, 2], dtype=int32)
        )

    Source:
        Bunch & Kaufman (1977), Mathematics of Computation 31, 163.
    """
    A = square_matrix("ldl_factor", a=a)
    LD, pivots, info = ldl_factor_p(A, hermitian=hermitian)
    report("ldl_factor", ZERO_IN_D, _blame_lower, info, A)
    return LDLFactorResult(LD, pivots)


@public("hermitian", "check_errors")
def ldl_factor_ex(a: ArrayLike, *, hermitian: bool = False, check_errors: bool = False) -> LDLFactorExResult:
    """LDL factorisation of a symmetric or Hermitian matrix, and whether D is singular.

    Args:
        a: shape (..., n, n), real or complex; only its lower triangle is read.
        hermitian: a complex a is Hermitian; if False, it is symmetric. (A real a is both.)
        check_errors: raise if D is singular or a holds NaN, as all functions do inside :func:`raise_errors`.

    Returns:
        ``LD`` and ``pivots`` as :func:`ldl_factor` gives them, and ``info``, int32 of shape (...): 0, or the number
        (from 1) of the first column in which D is exactly zero, or LD holds NaN.

    Raises:
        ValueError: if the last two axes of a differ.
        TypeError: if a is not an array of numbers.
        LinAlgError: with ``check_errors``, if D is singular or a holds NaN.

    On failure:
        NaN in the LD of a matrix that holds NaN; ``info`` is positive where D is singular.

    Derivatives:
        of LD as :func:`ldl_factor`; pivots and info have none.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> linalgx.ldl_factor_ex(jnp.array([[4.0, 2.0], [2.0, 1.0]])).info
        Array(2, dtype=int32)

    Source:
        Bunch & Kaufman (1977), Mathematics of Computation 31, 163.
    """
    A = square_matrix("ldl_factor_ex", a=a)
    LD, pivots, info = ldl_factor_p(A, hermitian=hermitian)
    if check_errors:
        report("ldl_factor_ex", ZERO_IN_D, _blame_lower, info, A, always=True)
    return LDLFactorExResult(LD, pivots, info)


def _blame_lower(info: jax.Array, A: jax.Array) -> jax.Array:
    return blame_input(info, jnp.tril(A))


@public("hermitian")
def ldl_solve(LD: ArrayLike, pivots: ArrayLike, b: ArrayLike, *, hermitian: bool = False) -> jax.Array:
    """Solve A x = b with the LDL factorisation of A.

    Args:
        LD: shape (..., n, n), as :func:`ldl_factor` gives it; only its lower triangle is read.
        pivots: shape (..., n), integers, as :func:`ldl_factor` gives them.
        b: shape (..., n, k), or (n,) for one right-hand side. The leading axes of b and LD broadcast.
        hermitian: as it was for :func:`ldl_factor`.

    Returns:
        x, of the shape of b (with the leading axes broadcast), in the promoted dtype of LD and b.

    Raises:
        ValueError: if LD is not square, or pivots or b do not fit it.
        TypeError: if an argument is not an array of numbers, or pivots are not integers.
        LinAlgError: inside :func:`raise_errors`, if D is singular or the pivots are not those of a factorisation.

    On failure:
        a singular D gives infinities and NaN in that member of the batch, and pivots that are not those of a
        factorisation (numbers from 1 to n, the negative ones in pairs) NaN.

    Derivatives:
        both modes, every order, with respect to LD (zero above its diagonal) and b.

    Example:
        >>> import jax.numpy as jnp, linalgx
        >>> LD, pivots = linalgx.ldl_factor(jnp.array([[0.0, 2.0], [2.0, 0.0]]))
        >>> linalgx.ldl_solve(LD, pivots, jnp.array([2.0, 4.0]))
        Array([2., 1.], dtype=float32)

    Source:
        Golub & Van Loan (2013), "Matrix Computations", section 4.4.
    """
    factor, B = inexact_arrays("ldl_solve", LD=LD, b=b)
    require_matrix("ldl_solve", LD=factor)
    require_square("ldl_solve", LD=factor)
    steps = integer_array("ldl_solve", pivots=pivots)
    if steps.shape != factor.shape[:-1]:
        raise ValueError(
            f"linalgx.ldl_solve: pivots must have the shape {factor.shape[:-1]} of the rows of LD, "
            f"but their shape is {steps.shape}"
        )
    report(
        "ldl_solve",
        "D is singular at [{index}, {index}]",
        functools.partial(_info_of_factors, hermitian=hermitian),
        factor,
        steps,
    )
    factor, B, restore = linear_system("ldl_solve", LD=factor, b=B)
    steps = jnp.broadcast_to(steps, factor.shape[:-1])
    X = ldl_solve_p(factor, steps, B, hermitian=hermitian)
    return restore(nan_where(_no_pivots(steps), X))


def _no_pivots(pivots: jax.Array) -> jax.Array:
    """The flag of the matrices whose pivots are not rows from 1 to n, the negative ones in pairs."""
    n, first = pivots.shape[-1], bunch_kaufman.starts_pair(pivots)
    second = jnp.pad(first, [(0, 0)] * (pivots.ndim - 1) + [(1, 0)])
    unpaired = jnp.any((pivots < 0) != (first | second[..., :n]), axis=-1) | jnp.any(second[..., n:], axis=-1)
    return unpaired | jnp.any((jnp.abs(pivots) < 1) | (jnp.abs(pivots) > n), axis=-1)


def _info_of_factors(LD: jax.Array, pivots: jax.Array, *, hermitian: bool) -> jax.Array:
    inverse = _unpack(LD, pivots, hermitian).inverse_D.diagonal
    info = jnp.where(not_finite(LD), 0, first_true(~jnp.isfinite(inverse)))
    return jnp.where(_no_pivots(pivots), NO_PIVOTS, info)


# --- Factorisation: P A P^T = L D L^*


def _ldl_factor(A: jax.Array, *, hermitian: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    return bunch_kaufman.factor(_from_lower(A, hermitian), hermitian=hermitian)


ldl_factor_p = Operation("ldl_factor", _ldl_factor)


# Rules. Let S = P A P^T and differentiate S = L D L^* with fixed P. Since L is the identity on the blocks of D, dL is
# zero there, and L^-1 dL is strictly lower in the sense of blocks. So in
#   M = L^-1 dS L^-* = (L^-1 dL) D + dD + D (L^-1 dL)^*
# the three terms are the part below the blocks, the blocks and the part above:
#   forward   dL = L low(M) D^-1,   dD = blocks(M)
#   reverse   M_bar = low(L^H L_bar D^-H) + blocks(D_bar),   S_bar = L^-H M_bar (L^-*)^H,   A_bar = P^T S_bar P
# where (L^-*)^H is L^-1 for Hermitian and conj(L)^-1 for symmetric A: in both cases Z (L^-*)^H = (L^-H Z^*)^*. Of D
# only the lower triangle is stored, so D_bar lies there. dA and A_bar are moved to the lower triangle that is read.


def _ldl_factor_fwd(A, *, hermitian):
    LD, pivots, info = ldl_factor_p(A, hermitian=hermitian)
    return (LD, pivots, info), (LD, pivots)


def _ldl_factor_bwd(residuals, cotangents, *, hermitian):
    LD, pivots = residuals
    f = _unpack(LD, pivots, hermitian)
    LD_bar = cotangents[0]
    L_bar = jnp.where(f.below, f.explicit(LD_bar), 0)
    low = H(f.inverse_D.times(H(H(f.L) @ L_bar)))
    M_bar = jnp.where(f.below, low, jnp.where(f.blocks, LD_bar, 0))
    Z = _solve_unit(f.L, M_bar, adjoint=True)
    S_bar = _star(_solve_unit(f.L, _star(Z, hermitian), adjoint=True), hermitian)
    return (_to_lower(_permuted(S_bar, f.inverse), hermitian),)


def _ldl_factor_jvp(residuals, dA, *, hermitian):
    LD, pivots = residuals
    f = _unpack(LD, pivots, hermitian)
    dS = _permuted(_from_lower(dA, hermitian), f.permutation)
    M = _star(_solve_unit(f.L, _star(_solve_unit(f.L, dS), hermitian)), hermitian)
    low = jnp.where(f.below, M, 0)
    dL = f.L @ _star(f.inverse_D.times(_star(low, hermitian)), hermitian)
    return jnp.where(f.below, f.packed(dL), jnp.where(f.blocks, M, 0)), None, None


ldl_factor_p.defvjp(_ldl_factor_fwd, _ldl_factor_bwd)
ldl_factor_p.defjvp(
    _ldl_factor_jvp, source="Murray (2016), arXiv:1602.07527, equations 8 and 9, with blocks in place of the diagonal"
)


# --- Solution from the factors: X = (P^T L D L^* P)^-1 B


def _ldl_solve(LD: jax.Array, pivots: jax.Array, B: jax.Array, *, hermitian: bool) -> jax.Array:
    f = _unpack(LD, pivots, hermitian)
    Y = lapack.solve_triangular(f.L, _take_rows(B, f.permutation), lower=True, unit_diagonal=True)
    Z = f.inverse_D.times(Y)
    star = "H" if hermitian else "T"
    X = lapack.solve_triangular(f.L, Z, lower=True, transpose=star, unit_diagonal=True)
    return _take_rows(X, f.inverse)


ldl_solve_p = Operation("ldl_solve", _ldl_solve, linear_in=({2},))


# Rules. With A = P^T L D L^* P, x = P X, z = L^* x, y = P B_bar:
#   forward   dX = A^-1 (dB - dA X),   P dA X = dL D z + L dD z + L D dL^* x
#   reverse   B_bar = A^-H X_bar, which is A^-1 X_bar for Hermitian and conj(A^-1 conj(X_bar)) for symmetric A,
#             L_bar = (S_bar + S_bar^*) (D L^*)^H,   D_bar = L^H S_bar (L^*)^H,   where S_bar = -y x^H
# or, without an n x n product, L_bar = -y (D z)^H - (x^H)^* (D^H L^H y)^*,   D_bar = -(L^H y) z^H. What falls above
# the diagonal of D is moved to the entry below it that is stored.


def _ldl_solve_fwd(LD, pivots, B, *, hermitian):
    X = ldl_solve_p(LD, pivots, B, hermitian=hermitian)
    return X, (LD, pivots, X)


def _ldl_solve_bwd(residuals, X_bar, *, hermitian):
    LD, pivots, X = residuals
    if hermitian:
        B_bar = ldl_solve_p(LD, pivots, X_bar, hermitian=True)
    else:
        B_bar = jnp.conj(ldl_solve_p(LD, pivots, jnp.conj(X_bar), hermitian=False))
    f = _unpack(LD, pivots, hermitian)
    x, y = _take_rows(X, f.permutation), _take_rows(B_bar, f.permutation)
    z, w = _star(f.L, hermitian) @ x, H(f.L) @ y
    L_bar = -(y @ H(f.D.times(z)) + _star(H(x), hermitian) @ _star(f.D.adjoint().times(w), hermitian))
    D_bar = _to_lower(jnp.where(f.blocks | T(f.blocks), -(w @ H(z)), 0), hermitian)
    return jnp.where(f.below, f.packed(L_bar), D_bar), None, B_bar


def _ldl_solve_jvp(residuals, dLD, _, dB, *, hermitian):
    LD, pivots, X = residuals
    moved = dB
    if dLD is not None:
        f = _unpack(LD, pivots, hermitian)
        x = _take_rows(X, f.permutation)
        dL, dD = jnp.where(f.below, f.explicit(dLD), 0), _from_lower(jnp.where(f.blocks, dLD, 0), hermitian)
        z = _star(f.L, hermitian) @ x
        through_LD = dL @ f.D.times(z) + f.L @ (dD @ z + f.D.times(_star(dL, hermitian) @ x))
        through_LD = _take_rows(through_LD, f.inverse)
        moved = -through_LD if dB is None else dB - through_LD
    return ldl_solve_p(LD, pivots, moved, hermitian=hermitian)


ldl_solve_p.defvjp(_ldl_solve_fwd, _ldl_solve_bwd)
ldl_solve_p.defjvp(_ldl_solve_jvp, source="Giles (2008), Collected matrix derivative results, section 2.3.1")


# --- The packed form and the explicit one


class _Blocks(NamedTuple):
    """A block diagonal matrix: its diagonal, and at i the entries (i + 1, i) and (i, i + 1)."""

    diagonal: jax.Array
    lower: jax.Array
    upper: jax.Array

    def times(self, X: jax.Array) -> jax.Array:
        """The product with X; the last of ``lower`` and ``upper`` is zero, so that nothing goes around the end."""
        d, u, v = (x[..., None] for x in self)
        return d * X + jnp.roll(u * X, 1, axis=-2) + v * jnp.roll(X, -1, axis=-2)

    def adjoint(self) -> _Blocks:
        return _Blocks(jnp.conj(self.diagonal), jnp.conj(self.upper), jnp.conj(self.lower))


class _Factors(NamedTuple):
    """P A P^T = L D L^*, taken out of the packed form."""

    L: jax.Array
    D: _Blocks
    inverse_D: _Blocks
    below: jax.Array
    """Mask of the entries below the blocks of D: those of L."""
    blocks: jax.Array
    """Mask of the entries in the lower triangles of the blocks of D."""
    rows: jax.Array
    places: jax.Array
    permutation: jax.Array
    inverse: jax.Array

    def explicit(self, X: jax.Array) -> jax.Array:
        """Columns with their rows in the order of L, from those in the order of the packed form."""
        return jnp.take_along_axis(X, self.rows, axis=-2)

    def packed(self, X: jax.Array) -> jax.Array:
        """Columns with their rows in the order of the packed form: the inverse, and the adjoint, of ``explicit``."""
        return jnp.take_along_axis(X, self.places, axis=-2)


def _unpack(LD: jax.Array, pivots: jax.Array, hermitian: bool) -> _Factors:
    rows, places, permutation, inverse, paired = bunch_kaufman.structure(pivots)
    n = LD.shape[-1]
    i, j = jnp.arange(n)[:, None], jnp.arange(n)[None, :]
    below = (i > j) & ~(paired[..., None, :] & (i == j + 1))
    blocks = (i >= j) & ~below
    L = jnp.where(below, jnp.take_along_axis(LD, rows, axis=-2), 0) + identity(LD)
    d = diagonal(LD)
    d = jnp.real(d).astype(LD.dtype) if hermitian else d
    u = jnp.where(paired, jnp.sum(jnp.where(i == j + 1, LD, 0), axis=-2), 0)
    D = _Blocks(d, u, jnp.conj(u) if hermitian else u)
    return _Factors(L, D, _inverse(D, paired), below, blocks, rows, places, permutation, inverse)


# For a block D = (p v; u q), D^-1 = (q -v; -u p) / (p q - u v). In a pivot of Bunch and Kaufman |u| is the largest
# entry; divided by u and v the numbers stay in range: with t = 1 / ((p / u) (q / v) - 1),
#   D^-1 = t ((q / v) / u   -1 / u;   -1 / v   (p / u) / v)


def _inverse(D: _Blocks, paired: jax.Array) -> _Blocks:
    second = jnp.roll(paired, 1, axis=-1)
    u, v = (jnp.where(paired, x, 1) for x in (D.lower, D.upper))
    p, q = D.diagonal, jnp.roll(D.diagonal, -1, axis=-1)
    t = jnp.where(paired, 1 / jnp.where(paired, (p / u) * (q / v) - 1, 1), 0)
    at_first, at_second = t * (q / v) / u, jnp.roll(t * (p / u) / v, 1, axis=-1)
    single = 1 / jnp.where(paired | second, 1, D.diagonal)
    diagonal = jnp.where(paired, at_first, jnp.where(second, at_second, single))
    return _Blocks(diagonal, -t / v, -t / u)


def _star(X: jax.Array, hermitian: bool) -> jax.Array:
    return H(X) if hermitian else T(X)


def _from_lower(X: jax.Array, hermitian: bool) -> jax.Array:
    """The Hermitian or symmetric matrix of which X holds the lower triangle."""
    if hermitian:
        return hermitian_from_triangle(X, lower=True)
    return jnp.tril(X) + T(strictly_lower(X))


def _to_lower(X: jax.Array, hermitian: bool) -> jax.Array:
    """The adjoint of :func:`_from_lower`."""
    d = diagonal(X)
    d = jnp.real(d).astype(X.dtype) if hermitian else d
    return strictly_lower(X + _star(X, hermitian)) + from_diagonal(d)


def _take_rows(X: jax.Array, order: jax.Array) -> jax.Array:
    return jnp.take_along_axis(X, order[..., :, None], axis=-2)


def _permuted(X: jax.Array, order: jax.Array) -> jax.Array:
    """Rows and columns of X in the given order."""
    return jnp.take_along_axis(_take_rows(X, order), order[..., None, :], axis=-1)


def _solve_unit(L: jax.Array, X: jax.Array, adjoint: bool = False) -> jax.Array:
    """L^-1 X, or L^-H X."""
    return solve_triangular_p(L, X, lower=True, left=True, unit_diagonal=True, adjoint=adjoint)
